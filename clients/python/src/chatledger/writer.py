"""The pipelined writer for threads."""

from __future__ import annotations

import atexit
import concurrent.futures
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any

import grpc

from . import errors
from ._ids import Id
from ._rpc import StreamOpener, by_name
from ._window import METHOD, BoundFields, Bounds, Outcome, Window, encode, parse, unanswered_error, stream_error
from .types import MessageFields, NewMessage, Receipt, Role

if TYPE_CHECKING:
    from typing_extensions import Unpack

_WATCH_INTERVAL = 0.5
"""Seconds between looks at how long the oldest message has waited: timeouts are many times longer."""

_log = logging.getLogger("chatledger")


class AppendFuture(Future[Receipt]):
    """The receipt of an append to come. It can't be cancelled: the message may be stored already."""

    message_id: str
    """The message's id, also where the append fails: with it, the message can be appended again."""
    _seen = False
    _failure: BaseException | None = None

    def cancel(self) -> bool:
        """Does nothing; returns False."""
        return False

    def result(self, timeout: float | None = None) -> Receipt:
        """Waits for the receipt; raises what the append failed with."""
        self._seen = True
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Waits for the receipt; returns what the append failed with, or None."""
        self._seen = True
        return super().exception(timeout)

    def add_done_callback(self, fn: Callable[[Future[Receipt]], object]) -> None:
        """Calls the function with this future when it is done, in the writer's thread: it should be short.

        It may append, and isn't made to wait for room; it can't flush or close the writer.
        """
        self._seen = True
        super().add_done_callback(fn)

    def set_exception(self, exception: BaseException | None) -> None:
        """Sets what the append failed with; for the writer only."""
        self._failure = exception
        super().set_exception(exception)

    def __del__(self) -> None:
        # A failure that nobody has looked at must not pass in silence; asyncio logs it, too.
        if self._failure is not None and not self._seen:
            _log.error("append of message %s failed, and nobody asked: %s", self.message_id, self._failure)


class Writer:
    """Appends messages over one stream, many under way at a time.

    :meth:`append` returns a future at once, and blocks while too much is unanswered. Messages of one session are
    stored in the order in which they were appended. When the connection breaks or the server restarts, the writer
    reconnects and sends again what wasn't acknowledged, with the same ids, so that each message is stored once. A
    message that the server refuses fails its own future and no other.

    Any number of threads may use one writer. Close it at the end, or use it in a ``with``: that waits until all is
    answered. It belongs to the process that made it.

    :param max_pending: the most messages that are not answered; then ``append`` blocks.
    :param max_pending_bytes: the same in bytes; one message may be larger.
    :param timeout: seconds that a message may stay unanswered, through outages; then its future fails with the last
        error. It may have been stored all the same. None: no limit.
    """

    @by_name(Bounds, BoundFields)
    def __init__(self, client: StreamOpener, **bounds: Unpack[BoundFields]) -> None:
        client.check_usable()
        self._client = client
        self._bearer = client.settings.bearer()
        self._window: Window[AppendFuture] = Window(Bounds(**bounds))
        self._lock = threading.Lock()
        # The condition of the threads that wait for room: notified when something was answered.
        self._room = threading.Condition(self._lock)
        # The condition of the sender and of the thread that opens streams: notified when there is something to do.
        self._work = threading.Condition(self._lock)
        self._sender_waits = False
        # The entries that were answered, and whose futures are not set yet.
        self._resolving: list[tuple[AppendFuture, Outcome]] = []
        self._closing = False
        self._gave_up = threading.Event()
        self._call: Any = None
        self._threads: list[threading.Thread] = []

    @by_name(NewMessage, MessageFields)
    def append(
        self, session_id: Id, role: Role, content: str = "", **fields: Unpack[MessageFields]
    ) -> AppendFuture:
        """Appends one message, as ``messages.append`` does, and returns the future of its receipt."""
        self._client.check_usable()
        chunk, message_id = encode(session_id, NewMessage(role, content, **fields))
        future = AppendFuture()
        future.message_id = message_id
        size = len(chunk)
        with self._lock:
            while not self._closing and not self._window.has_room(size) and not self._is_own_thread():
                self._room.wait()
            if self._closing:
                raise errors.closed_error("writer")
            self._window.add(chunk, future)
            if not self._threads:
                self._start()
            elif self._sender_waits:
                self._sender_waits = False
                self._work.notify_all()
        return future

    def pending(self) -> int:
        """How many messages are not answered."""
        self._client.settings.check_process()
        with self._lock:
            return len(self._window)

    def flush(self, timeout: float | None = None) -> None:
        """Waits until all that was appended before is answered; failures are in the futures.

        Raises :class:`~chatledger.DeadlineExceededError` after ``timeout`` seconds; the writer goes on.
        """
        self._client.check_usable()
        self._refuse_in_callback()
        left = self._wait(timeout)
        if left:
            raise unanswered_error(left, timeout)

    def close(self, timeout: float | None = None) -> None:
        """Waits until all is answered, and ends the stream; failures are in the futures.

        After ``timeout`` seconds what isn't answered fails, and :class:`~chatledger.DeadlineExceededError` is raised.
        Leaving the ``with`` does the same, also by an exception. In a forked process it raises
        :class:`~chatledger.ForkedError`: the messages are the other process'.
        """
        # The check comes first: a thread that held the lock when the process forked holds it for ever.
        self._client.settings.check_process()
        self._refuse_in_callback()
        with self._lock:
            self._closing = True
            self._work.notify_all()
            self._room.notify_all()
        left = self._wait(timeout)
        if left:
            with self._lock:
                failed = self._window.fail(unanswered_error(left, timeout))
                self._gave_up.set()
                if self._call is not None:
                    self._call.cancel()
                self._work.notify_all()
            _resolve(failed)
        self._gave_up.set()
        for thread in self._threads:
            thread.join()
        atexit.unregister(self._log_loss)
        if left:
            raise unanswered_error(left, timeout)

    def _wait(self, timeout: float | None) -> int:
        """The number of messages pending now that are not answered in time, when they were waited for."""
        with self._lock:
            pending = [*self._window.futures(), *(future for future, _ in self._resolving)]
        return len(concurrent.futures.wait(pending, timeout).not_done)

    def _is_own_thread(self) -> bool:
        """Whether this is a future's callback: there is nobody else to make room, or to answer."""
        return threading.current_thread() in self._threads

    def _refuse_in_callback(self) -> None:
        if self._is_own_thread():
            raise RuntimeError("a callback runs in the writer's thread and can't wait for the writer")

    def _log_loss(self) -> None:
        # Messages that a forked process finds here aren't lost: the other process sends them.
        if len(self._window) and not self._client.settings.is_forked:
            _log.error("%d messages may not be stored: the chatledger writer was not closed", len(self._window))

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._client.settings.is_forked:
            # The exception of the forked process is on its way already.
            return
        self.close()

    def _start(self) -> None:
        atexit.register(self._log_loss)
        for run in (self._run, self._watch):
            thread = threading.Thread(target=run, name=f"chatledger-writer{run.__name__}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self) -> None:
        """Opens stream after stream, and reads their answers, until the writer is closed and all is answered."""
        while True:
            with self._lock:
                while not len(self._window) and not self._closing:
                    # No stream without need: a server that went away is asked for again when there is something.
                    self._sender_waits = True
                    self._work.wait()
                if not len(self._window):
                    return
            error = self._stream()
            with self._lock:
                self._call = None
                self._resolving = self._window.ended(None if self._bearer.renews(error) else error)
            self._resolve()
            if len(self._window):
                pause = self._window.pause_after(error)
                self._gave_up.wait(pause)

    def _stream(self) -> errors.ChatledgerError | None:
        """The error by which a stream ended, when it was opened and read until then."""
        live = [True]
        try:
            metadata = self._bearer.metadata()
            call = self._client.open_stream(METHOD, self._frames(live), watching=False, metadata=metadata)
            with self._lock:
                self._call = call
            for frame in call:
                outcomes = parse(frame)
                self._bearer.moved()
                with self._lock:
                    self._resolving, again = self._window.answer(outcomes)
                self._resolve()
                if again is not None:
                    call.cancel()
                    return again
        except Exception as error:
            return stream_error(error)
        finally:
            with self._lock:
                live[0] = False
                self._work.notify_all()
        return None

    def _resolve(self) -> None:
        """Sets the futures of what was answered, and tells who waits for it."""
        _resolve(self._resolving)
        with self._lock:
            self._resolving = []
            if self._window.has_much_room():
                self._room.notify_all()
            if self._window.is_careful or self._closing:
                # The sender waits for answers in these cases.
                self._work.notify_all()

    def _frames(self, live: list[bool]) -> Iterator[bytes]:
        """The frames of one stream, as they are ready; gRPC takes them from a thread of its own."""
        while True:
            with self._lock:
                frame = None
                while live[0]:
                    frame = self._window.take()
                    if frame is not None or (self._closing and not len(self._window)):
                        break
                    self._sender_waits = True
                    self._work.wait()
            if frame is None:
                return
            yield frame

    def _watch(self) -> None:
        """Ends a stream whose server hangs: nothing else would, while the connection is alive."""
        while not self._gave_up.wait(_WATCH_INTERVAL):
            with self._lock:
                patience = self._window.patience()
                if patience is not None and patience <= 0 and self._call is not None:
                    self._call.cancel()


def _resolve(done: list[tuple[AppendFuture, Outcome]]) -> None:
    """Sets the futures; never with the lock held, since that calls back into code of the caller."""
    for future, outcome in done:
        if isinstance(outcome, Receipt):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)
