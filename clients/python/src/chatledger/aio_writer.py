"""The pipelined writer for asyncio."""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import TYPE_CHECKING, Any

import grpc

from . import errors
from ._answers import EOF
from ._ids import Id
from ._rpc import AsyncStreamOpener, by_name
from ._window import METHOD, BoundFields, Bounds, Outcome, Window, encode, parse, unanswered_error, stream_error
from .types import MessageFields, NewMessage, Receipt, Role

if TYPE_CHECKING:
    from typing_extensions import Unpack

_log = logging.getLogger("chatledger")


class AsyncWriter:
    """Appends messages over one stream, many under way at a time.

    ``await writer.append(…)`` returns a future at once, and waits while too much is unanswered; ``await`` that
    future for the receipt. All that :class:`~chatledger.Writer` promises holds: order within a session, each message
    once, also after reconnects, and failures that harm no other message.

    Any number of tasks of one event loop may use one writer. Close it at the end, or use it in an ``async with``:
    that waits until all is answered.

    :param max_pending: the most messages that are not answered; then ``append`` waits.
    :param max_pending_bytes: the same in bytes; one message may be larger.
    :param timeout: seconds that a message may stay unanswered, through outages; then its future fails with the last
        error. It may have been stored all the same. None: no limit.
    """

    @by_name(Bounds, BoundFields)
    def __init__(self, client: AsyncStreamOpener, **bounds: Unpack[BoundFields]) -> None:
        self._client = client
        self._bearer = client.settings.bearer()
        self._window: Window[asyncio.Future[Receipt]] = Window(Bounds(**bounds))
        # The event of the sender and of the task that opens streams: set when there is something to do.
        self._work = asyncio.Event()
        # The event of the appends that wait for room: set when something was answered, and then replaced.
        self._room = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    @by_name(NewMessage, MessageFields)
    async def append(
        self, session_id: Id, role: Role, content: str = "", **fields: Unpack[MessageFields]
    ) -> asyncio.Future[Receipt]:
        """Appends one message, as ``messages.append`` does, and returns the future of its receipt.

        Cancelling that future doesn't take the message back.
        """
        self._client.check_usable()
        chunk, _ = encode(session_id, NewMessage(role, content, **fields))
        while not self._closing and not self._window.has_room(len(chunk)):
            await self._room.wait()
        if self._closing:
            raise errors.closed_error("writer")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Receipt] = loop.create_future()
        self._window.add(chunk, future)
        self._work.set()
        if self._task is None:
            self._task = loop.create_task(self._run(), name="chatledger-writer")
        return future

    def pending(self) -> int:
        """How many messages are not answered."""
        return len(self._window)

    async def flush(self, timeout: float | None = None) -> None:
        """Waits until all that was appended before is answered; failures are in the futures.

        Raises :class:`~chatledger.DeadlineExceededError` after ``timeout`` seconds; the writer goes on.
        """
        self._client.check_usable()
        left = await self._wait(timeout)
        if left:
            raise unanswered_error(left, timeout)

    async def close(self, timeout: float | None = None) -> None:
        """Waits until all is answered, and ends the stream; failures are in the futures.

        After ``timeout`` seconds what isn't answered fails, and :class:`~chatledger.DeadlineExceededError` is raised.
        It fails at once where ``close`` is cancelled, and where the ``async with`` is left by a cancellation; the
        messages may be stored all the same. Leaving by another exception waits as leaving without one does.
        """
        self._client.settings.check_process()
        self._closing = True
        self._work.set()
        self._wake()
        try:
            left = await self._wait(timeout)
        except asyncio.CancelledError:
            await self._give_up(_cancellation_error())
            raise
        if left:
            await self._give_up(unanswered_error(left, timeout))
            raise unanswered_error(left, timeout)
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _give_up(self, error: errors.ChatledgerError) -> None:
        """Fails what isn't answered, and ends the stream without waiting for the server."""
        self._closing = True
        _resolve(self._window.fail(error))
        self._wake()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _wait(self, timeout: float | None) -> int:
        """The number of messages pending now that are not answered in time, when they were waited for."""
        pending = self._window.futures()
        if not pending:
            return 0
        return len((await asyncio.wait(pending, timeout=timeout))[1])

    async def __aenter__(self) -> AsyncWriter:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, asyncio.CancelledError):
            await self._give_up(_cancellation_error())
        else:
            await self.close()

    def _wake(self) -> None:
        """Wakes the appends that wait for room."""
        if self._closing or self._window.has_much_room():
            self._room.set()
            self._room = asyncio.Event()

    async def _run(self) -> None:
        """Opens stream after stream, and reads their answers, until the writer is closed and all is answered."""
        while True:
            while not len(self._window) and not self._closing:
                # No stream without need: a server that went away is asked for again when there is something.
                self._work.clear()
                await self._work.wait()
            if not len(self._window):
                return
            error = await self._stream()
            _resolve(self._window.ended(None if self._bearer.renews(error) else error))
            self._wake()
            if len(self._window):
                pause = self._window.pause_after(error)
                await asyncio.sleep(pause)

    async def _stream(self) -> errors.ChatledgerError | None:
        """The error by which a stream ended, when it was opened and read until then."""
        call: Any = None
        sender: asyncio.Task[None] | None = None
        try:
            call = self._client.open_stream(METHOD, metadata=await self._bearer.ametadata())
            sender = asyncio.create_task(self._send(call))
            while True:
                frame = await self._read(call)
                if frame is EOF:
                    return None
                self._bearer.moved()
                done, again = self._window.answer(parse(frame))
                _resolve(done)
                self._wake()
                if self._window.is_careful or self._closing:
                    self._work.set()
                if again is not None:
                    return again
        except Exception as error:
            return stream_error(error)
        finally:
            if sender is not None:
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)
            if call is not None:
                call.cancel()

    async def _read(self, call: Any) -> Any:
        """The next answer; an error when the oldest entry has waited too long for it."""
        read = asyncio.ensure_future(call.read())
        try:
            while True:
                # Without entries there is no limit, but one may come meanwhile.
                patience = self._window.patience()
                done, _ = await asyncio.wait([read], timeout=_LOOK_AGAIN if patience is None else max(patience, 0))
                if done:
                    return read.result()
                patience = self._window.patience()
                if patience is not None and patience <= 0:
                    raise errors.DeadlineExceededError("the server did not answer", code="DEADLINE_EXCEEDED")
        except asyncio.CancelledError:
            if not call.cancelled():
                raise
            # The call was cancelled, by closing the client, and not our task.
            raise errors.closed_error("client") from None
        finally:
            read.cancel()

    async def _send(self, call: Any) -> None:
        """Sends the frames of one stream, as they are ready."""
        try:
            while True:
                frame = self._window.take()
                if frame is not None:
                    await call.write(frame)
                elif self._closing and not len(self._window):
                    await call.done_writing()
                    return
                else:
                    self._work.clear()
                    await self._work.wait()
        except (grpc.RpcError, asyncio.InvalidStateError):
            # The reader is told why the stream ended.
            return


_LOOK_AGAIN = 1.0
"""Seconds between looks at whether there is an entry that may have waited too long."""


def _cancellation_error() -> errors.ChatledgerError:
    return errors.ChatledgerError("the writer was cancelled before the server answered", code="CANCELLED")


def _resolve(done: list[tuple[asyncio.Future[Receipt], Outcome]]) -> None:
    for future, outcome in done:
        if future.done():
            # The future was cancelled by the task that waited for it; the message is stored or not all the same.
            continue
        if isinstance(outcome, Receipt):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)
