"""Watches of a session: iterators that go on where they were when the connection breaks."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Iterator
from types import TracebackType
from typing import Any

import grpc

from . import _convert as convert
from . import errors
from ._answers import EOF, answer_of
from ._credentials import Bearer
from ._ids import Id
from ._rpc import AsyncStreamOpener, StreamOpener
from ._settings import Backoff
from .types import Message
from .v1 import message_pb2 as pb

_METHOD = "/chatledger.v1.MessageService/WatchMessages"
_log = logging.getLogger("chatledger")


class _Position:
    """The place where a watch is, and the meaning of its events and failures."""

    def __init__(self, session_id: Id, after_seq: int, bearer: Bearer) -> None:
        self._session_id = str(session_id)
        self._bearer = bearer
        self._backoff = Backoff()
        self.last_seq = after_seq
        """The seq of the last message that was given, or that the server has passed."""
        self.caught_up = False
        """Whether all that was stored when the watch began has been given."""
        # A request that can't be sent is refused here, not when the first message is waited for.
        self._request()
        if after_seq < 0:
            raise ValueError(f"after_seq must not be negative: {after_seq}")

    def _request(self) -> bytes:
        return convert.make(
            pb.WatchMessagesRequest, session_id=self._session_id, after_seq=self.last_seq
        ).SerializeToString()

    def _message_of(self, frame: bytes) -> Message | None:
        """The message that an event brings, if it brings a new one."""
        self._backoff.reset()
        self._bearer.moved()
        event = pb.WatchMessagesResponse.FromString(frame)
        kind = event.WhichOneof("event")
        if kind == "caught_up":
            self.caught_up = True
        if kind == "heartbeat":
            self.last_seq = max(self.last_seq, event.heartbeat.last_seq)
        if kind != "message" or event.message.seq <= self.last_seq:
            return None
        self.last_seq = event.message.seq
        return convert.message_from(event.message)

    def _pause_after(self, error: errors.ChatledgerError | None) -> float:
        """Seconds to wait before the watch is resumed; raises what no new attempt can mend."""
        if self._bearer.renews(error):
            pause = 0.0
        elif error is not None and not errors.is_transient(error):
            raise error
        else:
            pause = self._backoff.pause(error.retry_after if error else None)
        _log.info("watch of session %s resumes in %.2f s: %s", self._session_id, pause, error or "it was ended")
        return pause


class Watch(_Position):
    """The messages of a session as they come: an iterator, for ``for``.

    When the connection breaks or the server restarts, it reconnects, for as long as that takes, and goes on after
    the last message it gave. It ends after :meth:`close`, which any thread may call, and raises what no new attempt
    can mend, such as :class:`~chatledger.NotFoundError` when the session is deleted.
    """

    def __init__(self, client: StreamOpener, session_id: Id, after_seq: int) -> None:
        super().__init__(session_id, after_seq, client.settings.bearer())
        client.check_usable()
        self._client = client
        self._closed = threading.Event()
        self._call: Any = None
        self._messages = self._run()

    def _run(self) -> Iterator[Message]:
        while not self._closed.is_set():
            error = None
            try:
                metadata = self._bearer.metadata()
                self._call = self._client.open_stream(_METHOD, self._request(), watching=True, metadata=metadata)
                if self._closed.is_set():
                    self._call.cancel()
                for frame in self._call:
                    message = self._message_of(frame)
                    if message is not None:
                        yield message
            except grpc.RpcError as failure:
                error = errors.of_rpc(failure)
            finally:
                # The call ends also when the loop over us is left: a watch that nobody reads must not go on.
                if self._call is not None:
                    self._call.cancel()
            if not self._closed.is_set():
                self._closed.wait(self._pause_after(error))

    def __iter__(self) -> Watch:
        return self

    def __next__(self) -> Message:
        self._client.settings.check_process()
        return next(self._messages)

    def close(self) -> None:
        """Ends the watch; a thread that waits for its next message leaves its loop."""
        self._closed.set()
        # In a forked process the call is the other process'.
        if self._call is not None and not self._client.settings.is_forked:
            self._call.cancel()

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncWatch(_Position):
    """The messages of a session as they come: an iterator, for ``async for``.

    When the connection breaks or the server restarts, it reconnects, for as long as that takes, and goes on after
    the last message it gave. Cancelling the task that waits for the next message is safe: so is going on
    afterwards. It raises what no new attempt can mend, such as :class:`~chatledger.NotFoundError` when the session
    is deleted.
    """

    def __init__(self, client: AsyncStreamOpener, session_id: Id, after_seq: int) -> None:
        super().__init__(session_id, after_seq, client.settings.bearer())
        self._client = client
        self._closed = False
        self._call: Any = None
        self._messages: AsyncGenerator[Message, None] | None = None

    async def _run(self) -> AsyncGenerator[Message, None]:
        while not self._closed:
            error = None
            try:
                metadata = await self._bearer.ametadata()
                self._call = self._client.open_stream(_METHOD, self._request(), metadata=metadata)
                while (frame := await answer_of(self._call.read())) is not EOF:
                    message = self._message_of(frame)
                    if message is not None:
                        yield message
            except grpc.RpcError as failure:
                error = errors.of_rpc(failure)
            except errors.ClosedError:
                # Our own close() ends the watch; closing the client is an error.
                if not self._closed:
                    raise
            finally:
                if self._call is not None:
                    self._call.cancel()
            if not self._closed:
                await asyncio.sleep(self._pause_after(error))

    def __aiter__(self) -> AsyncWatch:
        return self

    async def __anext__(self) -> Message:
        if self._messages is None:
            self._messages = self._run()
        try:
            return await self._messages.__anext__()
        except asyncio.CancelledError:
            # A generator ends where it is cancelled; the next one goes on after the last message.
            self._messages = None
            raise

    async def close(self) -> None:
        """Ends the watch; a task that waits for its next message leaves its loop."""
        self._closed = True
        if self._call is not None:
            self._call.cancel()

    async def __aenter__(self) -> AsyncWatch:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
