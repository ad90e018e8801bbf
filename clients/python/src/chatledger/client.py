"""The client for threads: every call waits for its answer."""

from __future__ import annotations

import builtins
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from grpc.experimental import ChannelOptions

from . import errors
from ._base import BaseClient
from ._credentials import Metadata
from ._ids import Id
from ._requests import access, analytics, citations, documents, messages, profiles, sessions, users
from ._rpc import Frame, Resource, Rpc, Stream, by_name, call, pages
from ._settings import Attempts, StreamAttempts
from ._window import BoundFields, Bounds
from .types import Message
from .watch import Watch
from .writer import Writer

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")


class Users(Resource):
    """The users: who chats, and how they sign in."""

    create = call(users.create)
    get = call(users.get)
    update = call(users.update)
    delete = call(users.delete)
    list = pages(users.list_)
    set_password = call(users.set_password)
    verify_password = call(users.verify_password)


class Profiles(Resource):
    """The profiles: a user's onboarding answers."""

    get = call(profiles.get)
    update = call(profiles.update)
    delete = call(profiles.delete)
    list = pages(profiles.list_)


class Sessions(Resource):
    """The sessions: conversations, of a user or anonymous."""

    create = call(sessions.create)
    get = call(sessions.get)
    list = pages(sessions.list_)
    update = call(sessions.update)
    delete = call(sessions.delete)
    claim = call(sessions.claim)


class Messages(Resource):
    """The messages of a session, in order."""

    append = call(messages.append)
    append_batch = call(messages.append_batch)
    get = call(messages.get)
    list = pages(messages.list_)
    update = call(messages.update)
    delete = call(messages.delete)
    clear = call(messages.clear)
    search = pages(messages.search)

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._client = client

    def last(self, session_id: Id, count: int) -> builtins.list[Message]:
        """The last ``count`` messages of a session, oldest first."""
        return builtins.list(self.list(session_id, order="desc", limit=count))[::-1]

    def watch(self, session_id: Id, *, after_seq: int = 0) -> Watch:
        """Every message with a seq above ``after_seq``, in order, each once: first those that are stored, then live.

        The iterator reconnects and resumes by itself, and doesn't end by itself: see :class:`~chatledger.Watch`.
        """
        return Watch(self._client, session_id, after_seq)

    @by_name(Bounds, BoundFields)
    def writer(self, **bounds: Unpack[BoundFields]) -> Writer:
        """A pipelined writer, many times faster than ``append``: see :class:`~chatledger.Writer`."""
        return Writer(self._client, **bounds)


class Citations(Resource):
    """The citations: which chunks of which documents an answer rests on."""

    add = call(citations.add)
    list = pages(citations.list_)
    delete = call(citations.delete)


class Documents(Resource):
    """The documents: the names of the answers' sources."""

    upsert = call(documents.upsert)
    get = call(documents.get)
    list = pages(documents.list_)
    delete = call(documents.delete)


class Analytics(Resource):
    """The counts that a RAG chatbot's team asks of its tables."""

    top_documents = call(analytics.top_documents)
    user_activity = pages(analytics.user_activity)
    daily_volume = call(analytics.daily_volume)
    session_length_distribution = call(analytics.session_length_distribution)


class Access(Resource):
    """The callers: who this one is, and the API keys of its tenant."""

    who_am_i = call(access.who_am_i)
    create_api_key = call(access.create_api_key)
    list_api_keys = pages(access.list_api_keys)
    revoke_api_key = call(access.revoke_api_key)


class Client(BaseClient):
    """A connection to a chatledger server, for any number of threads.

    Make one, use it everywhere, and close it at the end (or use it in a ``with``). It connects when it is first
    used. In programs that fork (Gunicorn with ``preload_app``, multiprocessing), make it after the fork: a forked
    copy raises :class:`~chatledger.ForkedError`. Its arguments: see ``__init__``.
    """

    def _connect(self) -> None:
        # A stream that is only read needs no thread of its own beside the reader's: that costs more than a short one.
        options = [*self._settings.channel_options, (ChannelOptions.SingleThreadedUnaryStream, 1)]
        # grpc has no types of its own.
        self._channel: Any
        if self._settings.credentials is None:
            self._channel = grpc.insecure_channel(self._settings.target, options)
        else:
            self._channel = grpc.secure_channel(self._settings.target, self._settings.credentials, options)
        self._calls: dict[str, Callable[..., bytes]] = {}
        # A list, so that the views of with_timeout and as_user see it too.
        self._closed: list[bool] = []

    def _bind(self) -> None:
        self.users = Users(self)
        self.profiles = Profiles(self)
        self.sessions = Sessions(self)
        self.messages = Messages(self)
        self.citations = Citations(self)
        self.documents = Documents(self)
        self.analytics = Analytics(self)
        self.access = Access(self)

    def close(self) -> None:
        """Closes the connection. Close writers first: they may still have messages to send.

        Calls and watches that wait raise :class:`~chatledger.ClosedError`. In a forked process it leaves the
        connection alone: that is the other process'.
        """
        if not self._closed:
            self._closed.append(True)
            if not self._settings.is_forked:
                self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def check_usable(self) -> None:
        """Raises where the client is closed, or belongs to another process."""
        self._settings.check_process()
        if self._closed:
            raise errors.closed_error("client")

    def run(self, rpc: Rpc[T]) -> T:
        """Makes a call, again where that is safe, until it is answered or the timeout has passed."""
        self.check_usable()
        method = self._calls.get(rpc.method)
        if method is None:
            method = self._calls[rpc.method] = self._channel.unary_unary(rpc.method)
        attempts, bearer = Attempts(self._timeout, safe=rpc.safe), self._settings.bearer()
        while True:
            try:
                metadata = bearer.metadata(attempts.left())
                answer = method(rpc.request, timeout=attempts.left(), metadata=metadata)
                break
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.CANCELLED:
                    self.check_usable()
                failure = errors.of_rpc(error)
                pause = 0.0 if bearer.renews(failure) else attempts.pause_after(failure)
            except ValueError:
                # grpc tells by this that the channel was closed.
                self.check_usable()
                raise
            time.sleep(pause)
            self.check_usable()
        return rpc.parse(answer)

    def frames(self, stream: Stream[T]) -> Iterator[Frame[T]]:
        """The frames of a stream, read on behind the last one when the connection breaks, as calls are made again."""
        attempts, last_seq, call = StreamAttempts(self._timeout), None, None
        bearer = self._settings.bearer()
        while True:
            try:
                request, metadata = stream.request(last_seq), bearer.metadata(attempts.left())
                call = self.open_stream(
                    stream.method, request, watching=True, metadata=metadata, timeout=attempts.left()
                )
                for data in call:
                    frame = stream.parse(data)
                    last_seq = frame.last_seq or last_seq
                    attempts.moved()
                    bearer.moved()
                    yield frame
                    self.check_usable()
                return
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.CANCELLED:
                    self.check_usable()
                failure = errors.of_rpc(error)
                pause = 0.0 if bearer.renews(failure) else attempts.pause_after(failure)
            finally:
                # The call ends also when the loop over us is left. In a forked process it is the other process'.
                if call is not None and not self._settings.is_forked:
                    call.cancel()
            time.sleep(pause)

    def open_stream(
        self, method: str, requests: Any, *, watching: bool, metadata: Metadata | None, timeout: float | None = None
    ) -> Any:
        """Opens a stream: of requests and answers, or, for who only reads, of answers to one request."""
        self.check_usable()
        open_ = self._channel.unary_stream if watching else self._channel.stream_stream
        try:
            return open_(method)(requests, timeout=timeout, metadata=metadata)
        except ValueError:
            # grpc tells by this that the channel was closed.
            self.check_usable()
            raise
