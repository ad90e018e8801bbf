"""The entries that a writer has not had answered yet: the bookkeeping that both writers share.

Entries wait in order, are sent in frames, and are answered in the order sent. When a stream breaks, all that
wasn't answered is sent again on the next one, in the same order, with the same message ids, so that the server
stores each once. Nothing here waits or locks: that is what the two writers do differently.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypedDict, TypeVar

import grpc

from . import _convert as convert
from . import errors
from ._ids import Id
from ._settings import Backoff, check_timeout
from .types import NewMessage, Receipt
from .v1 import message_pb2 as pb

METHOD = "/chatledger.v1.MessageService/StreamAppendMessages"

MAX_FRAME_ENTRIES = 1024
"""The most entries in a frame: as many as the server commits at a time."""

MAX_FRAME_BYTES = 1 << 20
"""The most bytes in a frame, unless one entry is larger by itself: far below what the server takes in a request."""

# The codes of what the server could do a moment later. A deadline that passed on the server is not among them: the
# session was locked all the time, and trying on would hold up all the others.
_TRY_ENTRY_AGAIN = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED"})

# The codes of a stream that the writer itself ends, since nothing is answered.
_OUR_OWN = frozenset({"CANCELLED", "DEADLINE_EXCEEDED"})

_log = logging.getLogger("chatledger")

F = TypeVar("F")
Outcome = Receipt | errors.ChatledgerError


def encode(session_id: Id, message: NewMessage) -> tuple[bytes, str]:
    """A frame of this one entry, and its message's id.

    Frames put one after the other are one frame with all their entries: that is how protobuf merges messages.
    """
    fields = convert.new_message_fields(message)
    frame = pb.StreamAppendMessagesRequest()
    try:
        frame.entries.add(session_id=str(session_id), message=fields)
    except (TypeError, ValueError):
        # The one that protobuf doesn't take is found by making the two parts by themselves.
        convert.make(pb.AppendEntry, session_id=str(session_id))
        convert.make(pb.NewMessage, **fields)
        raise
    return frame.SerializeToString(), fields["message_id"]


def parse(frame: bytes) -> list[Outcome]:
    """The answers in a frame."""
    return [
        convert.receipt_from(result.receipt)
        if result.HasField("receipt")
        else errors.of_number(
            result.error.code, result.error.message, result.error.reason, result.error.metadata
        )
        for result in pb.StreamAppendMessagesResponse.FromString(frame).results
    ]


def stream_error(error: Exception) -> errors.ChatledgerError:
    """The error of a stream that ended by this exception.

    Any exception has one: if it ended the writer's thread or task, the futures would wait for ever.
    """
    if isinstance(error, grpc.RpcError):
        return errors.of_rpc(error)
    if isinstance(error, errors.ClosedError):
        return errors.FailedPreconditionError(str(error), code="FAILED_PRECONDITION")
    if isinstance(error, errors.ChatledgerError):
        return error
    return errors.InternalError(f"the stream failed: {error!r}", code="INTERNAL")


def unanswered_error(left: int, timeout: float | None) -> errors.DeadlineExceededError:
    """The error of messages that stayed unanswered while their writer was flushed or closed."""
    return errors.DeadlineExceededError(
        f"{left} messages were not answered within {timeout} s", code="DEADLINE_EXCEEDED"
    )


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds of a writer: how much it takes before it is answered, and how long it waits."""

    max_pending: int = 4096
    """The most messages that are unanswered: four times what the server commits at a time, so that it has more to do."""
    max_pending_bytes: int = 16 << 20
    """The most bytes that are unanswered: so many messages of 4 KiB each."""
    timeout: float | None = 120.0
    """Seconds that a message may be unanswered: longer than a server's restart, or the failover of its database."""

    def __post_init__(self) -> None:
        for name, value in (("max_pending", self.max_pending), ("max_pending_bytes", self.max_pending_bytes)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1: {value}")
        check_timeout(self.timeout)


class BoundFields(TypedDict, total=False):
    """The fields of :class:`Bounds`, for functions that take them by name and pass them on."""

    max_pending: int
    max_pending_bytes: int
    timeout: float | None


class Window(Generic[F]):
    """The entries of a writer that aren't answered, each with its future."""

    def __init__(self, bounds: Bounds) -> None:
        self._max_pending = bounds.max_pending
        self._max_bytes = bounds.max_pending_bytes
        self._timeout = bounds.timeout
        self._backoff = Backoff()
        self._waiting: deque[tuple[bytes, F, float]] = deque()
        self._in_flight: deque[tuple[bytes, F, float]] = deque()
        self._refused: deque[tuple[bytes, F, float]] = deque()
        self._bytes = 0
        # Entries of which one may have ended a stream: they are sent one by one.
        self._suspects = 0
        # The error by which the last stream ended that answered nothing.
        self._last_error: errors.ChatledgerError | None = None

    def __len__(self) -> int:
        return len(self._waiting) + len(self._in_flight) + len(self._refused)

    @property
    def is_careful(self) -> bool:
        """Whether entries are sent one by one, each after the answer to the one before."""
        return self._suspects > 0

    def futures(self) -> list[F]:
        """The futures of all that isn't answered."""
        return [future for entries in (self._refused, self._in_flight, self._waiting) for _, future, _ in entries]

    def has_room(self, size: int) -> bool:
        """Whether an entry of so many bytes may be added; any may, where there is no other."""
        pending = len(self)
        return pending == 0 or (pending < self._max_pending and self._bytes + size <= self._max_bytes)

    def has_much_room(self) -> bool:
        """Whether half the room is free, so that the appends that wait are woken.

        If they were woken one at a time, they would fill frames one by one.
        """
        return len(self) <= self._max_pending // 2 and self._bytes <= self._max_bytes // 2

    def add(self, chunk: bytes, future: F) -> None:
        self._waiting.append((chunk, future, time.monotonic()))
        self._bytes += len(chunk)

    def take(self) -> bytes | None:
        """The next frame to send; None: nothing to send now."""
        waiting, in_flight = self._waiting, self._in_flight
        if not waiting or self._suspects and in_flight:
            return None
        most = 1 if self._suspects else MAX_FRAME_ENTRIES
        chunks: list[bytes] = []
        size = 0
        while waiting and len(chunks) < most:
            size += len(waiting[0][0])
            if size > MAX_FRAME_BYTES and chunks:
                break
            entry = waiting.popleft()
            in_flight.append(entry)
            chunks.append(entry[0])
        return b"".join(chunks)

    def answer(self, outcomes: list[Outcome]) -> tuple[list[tuple[F, Outcome]], errors.ChatledgerError | None]:
        """The futures of the next entries in flight with their outcomes, and the error of one that must be sent again."""
        done: list[tuple[F, Outcome]] = []
        again: errors.ChatledgerError | None = None
        in_flight = self._in_flight
        self._last_error = None
        for outcome in outcomes:
            if not in_flight:
                raise errors.InternalError("the server answered what wasn't sent", code="INTERNAL")
            entry = in_flight.popleft()
            if not isinstance(outcome, Receipt) and outcome.code in _TRY_ENTRY_AGAIN and errors.is_transient(outcome):
                self._refused.append(entry)
                again = outcome
                continue
            done.append((entry[1], outcome))
            self._bytes -= len(entry[0])
        self._suspects = max(self._suspects - len(done), 0)
        if again is None:
            self._backoff.reset()
        return done, again

    def ended(self, error: errors.ChatledgerError | None) -> list[tuple[F, Outcome]]:
        """The futures that fail for good when a stream has ended. The other entries wait to be sent again, in order."""
        failed: list[tuple[bytes, F, float]] = []
        code = "" if error is None else error.code
        too_large = code in {"INVALID_ARGUMENT", "OUT_OF_RANGE"} or (
            error is not None
            and code == "RESOURCE_EXHAUSTED"
            and error.retry_after is None
            and errors.is_transient(error)
            and not self._refused
        )
        if too_large and self._suspects and len(self._in_flight) == 1:
            failed.append(self._in_flight.popleft())
            self._suspects -= 1
        elif too_large:
            self._suspects = max(self._suspects, len(self._in_flight))
        for queue in (self._in_flight, self._refused):
            self._waiting.extendleft(reversed(queue))
            queue.clear()
        if error is not None and not too_large and not errors.is_transient(error):
            failed.extend(self._waiting)
            self._waiting.clear()
        why = error or errors.UnavailableError("the stream was ended", code="UNAVAILABLE")
        if code not in _OUR_OWN:
            self._last_error = why
        done: list[tuple[F, Outcome]] = [(future, why) for _, future, _ in failed]
        while self._waiting and self._is_late(self._waiting[0]):
            late = self._waiting.popleft()
            failed.append(late)
            done.append((late[1], self._last_error or self._timeout_error()))
        self._bytes -= sum(len(chunk) for chunk, _, _ in failed)
        return done

    def pause_after(self, error: errors.ChatledgerError | None) -> float:
        """Seconds to wait before the next stream is opened, when one has ended by this error."""
        pause = self._backoff.pause(error.retry_after if error else None)
        _log.warning("the writer's stream has ended and is opened again in %.2f s: %s", pause, error)
        return pause

    def _timeout_error(self) -> errors.DeadlineExceededError:
        return errors.DeadlineExceededError(
            f"the server did not answer within {self._timeout} s", code="DEADLINE_EXCEEDED"
        )

    def fail(self, error: errors.ChatledgerError) -> list[tuple[F, Outcome]]:
        """The futures of all entries, which fail by this error and are forgotten."""
        everything = [*self._refused, *self._in_flight, *self._waiting]
        for queue in (self._refused, self._in_flight, self._waiting):
            queue.clear()
        self._bytes = 0
        return [(future, error) for _, future, _ in everything]

    def patience(self) -> float | None:
        """Seconds until the oldest entry has waited too long; None: no entry, or no limit."""
        oldest = self._refused or self._in_flight or self._waiting
        if not oldest or self._timeout is None:
            return None
        return oldest[0][2] + self._timeout - time.monotonic()

    def _is_late(self, entry: tuple[bytes, F, float]) -> bool:
        return self._timeout is not None and time.monotonic() - entry[2] >= self._timeout
