"""The client for asyncio: every call is awaited."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio

from . import errors
from ._answers import EOF, answer_of
from ._base import BaseClient
from ._credentials import Metadata
from ._ids import Id
from ._requests import access, analytics, citations, documents, messages, profiles, sessions, users
from ._rpc import AsyncResource, Frame, Rpc, Stream, acall, apages, by_name
from ._settings import Attempts, Settings, StreamAttempts
from ._window import BoundFields, Bounds
from .aio_writer import AsyncWriter
from .types import Message
from .watch import AsyncWatch

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")


class AsyncUsers(AsyncResource):
    """The users: who chats, and how they sign in."""

    create = acall(users.create)
    get = acall(users.get)
    update = acall(users.update)
    delete = acall(users.delete)
    list = apages(users.list_)
    set_password = acall(users.set_password)
    verify_password = acall(users.verify_password)


class AsyncProfiles(AsyncResource):
    """The profiles: a user's onboarding answers."""

    get = acall(profiles.get)
    update = acall(profiles.update)
    delete = acall(profiles.delete)
    list = apages(profiles.list_)


class AsyncSessions(AsyncResource):
    """The sessions: conversations, of a user or anonymous."""

    create = acall(sessions.create)
    get = acall(sessions.get)
    list = apages(sessions.list_)
    update = acall(sessions.update)
    delete = acall(sessions.delete)
    claim = acall(sessions.claim)


class AsyncMessages(AsyncResource):
    """The messages of a session, in order."""

    append = acall(messages.append)
    append_batch = acall(messages.append_batch)
    get = acall(messages.get)
    list = apages(messages.list_)
    update = acall(messages.update)
    delete = acall(messages.delete)
    clear = acall(messages.clear)
    search = apages(messages.search)

    def __init__(self, client: AsyncClient) -> None:
        super().__init__(client)
        self._client = client

    async def last(self, session_id: Id, count: int) -> builtins.list[Message]:
        """The last ``count`` messages of a session, oldest first."""
        newest_first = [message async for message in self.list(session_id, order="desc", limit=count)]
        return newest_first[::-1]

    def watch(self, session_id: Id, *, after_seq: int = 0) -> AsyncWatch:
        """Every message with a seq above ``after_seq``, in order, each once: first those that are stored, then live.

        The iterator reconnects and resumes by itself, and doesn't end by itself: see :class:`~chatledger.AsyncWatch`.
        """
        return AsyncWatch(self._client, session_id, after_seq)

    @by_name(Bounds, BoundFields)
    def writer(self, **bounds: Unpack[BoundFields]) -> AsyncWriter:
        """A pipelined writer, many times faster than ``append``: see :class:`~chatledger.AsyncWriter`."""
        return AsyncWriter(self._client, **bounds)


class AsyncCitations(AsyncResource):
    """The citations: which chunks of which documents an answer rests on."""

    add = acall(citations.add)
    list = apages(citations.list_)
    delete = acall(citations.delete)


class AsyncDocuments(AsyncResource):
    """The documents: the names of the answers' sources."""

    upsert = acall(documents.upsert)
    get = acall(documents.get)
    list = apages(documents.list_)
    delete = acall(documents.delete)


class AsyncAnalytics(AsyncResource):
    """The counts that a RAG chatbot's team asks of its tables."""

    top_documents = acall(analytics.top_documents)
    user_activity = apages(analytics.user_activity)
    daily_volume = acall(analytics.daily_volume)
    session_length_distribution = acall(analytics.session_length_distribution)


class AsyncAccess(AsyncResource):
    """The callers: who this one is, and the API keys of its tenant."""

    who_am_i = acall(access.who_am_i)
    create_api_key = acall(access.create_api_key)
    list_api_keys = apages(access.list_api_keys)
    revoke_api_key = acall(access.revoke_api_key)


class AsyncClient(BaseClient):
    """A connection to a chatledger server, for any number of tasks of one event loop.

    It has the methods and the arguments of :class:`~chatledger.Client`; calls are awaited, lists read with
    ``async for``. It connects when it is first used, and belongs to the event loop that is running then.
    """

    def _connect(self) -> None:
        # The views of with_timeout and as_user share it.
        self._connection = _Connection(self._settings)

    def _bind(self) -> None:
        self.users = AsyncUsers(self)
        self.profiles = AsyncProfiles(self)
        self.sessions = AsyncSessions(self)
        self.messages = AsyncMessages(self)
        self.citations = AsyncCitations(self)
        self.documents = AsyncDocuments(self)
        self.analytics = AsyncAnalytics(self)
        self.access = AsyncAccess(self)

    async def close(self) -> None:
        """Closes the connection. Close writers first: they may still have messages to send.

        Calls and watches that wait raise :class:`~chatledger.ClosedError`.
        """
        await self._connection.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def run(self, rpc: Rpc[T]) -> T:
        """Makes a call, again where that is safe, until it is answered or the timeout has passed."""
        attempts, bearer = Attempts(self._timeout, safe=rpc.safe), self._settings.bearer()
        while True:
            metadata = await bearer.ametadata(attempts.left())
            # The method is asked for each time: the client may have been closed in between.
            method = self._connection.method(rpc.method)
            try:
                answer = await answer_of(method(rpc.request, timeout=attempts.left(), metadata=metadata))
                break
            except grpc.RpcError as error:
                failure = errors.of_rpc(error)
                pause = 0.0 if bearer.renews(failure) else attempts.pause_after(failure)
            await asyncio.sleep(pause)
        return rpc.parse(answer)

    async def frames(self, stream: Stream[T]) -> AsyncGenerator[Frame[T], None]:
        """The frames of a stream, read on behind the last one when the connection breaks, as calls are made again."""
        attempts, last_seq, call = StreamAttempts(self._timeout), None, None
        bearer = self._settings.bearer()
        while True:
            try:
                request, metadata = stream.request(last_seq), await bearer.ametadata(attempts.left())
                call = self.open_stream(stream.method, request, metadata=metadata, timeout=attempts.left())
                while (data := await answer_of(call.read())) is not EOF:
                    frame = stream.parse(data)
                    last_seq = frame.last_seq or last_seq
                    attempts.moved()
                    bearer.moved()
                    yield frame
                    self.check_usable()
                return
            except grpc.RpcError as error:
                failure = errors.of_rpc(error)
                pause = 0.0 if bearer.renews(failure) else attempts.pause_after(failure)
            finally:
                # The call ends also when the loop over us is left.
                if call is not None:
                    call.cancel()
            await asyncio.sleep(pause)

    def open_stream(
        self, method: str, request: bytes | None = None, *, metadata: Metadata | None, timeout: float | None = None
    ) -> Any:
        """Opens a stream: of requests and answers, or of answers to the one request that is given."""
        channel = self._connection.channel()
        if request is None:
            return channel.stream_stream(method)(metadata=metadata)
        return channel.unary_stream(method)(request, timeout=timeout, metadata=metadata)

    def fits_here(self) -> bool:
        """Whether it belongs to the event loop that is running, or to none yet."""
        return self._connection.fits_here()

    def check_usable(self) -> None:
        """Raises where the client is closed, or belongs to another process or event loop."""
        self._connection.channel()


class _Connection:
    """A channel that is made when it is first used, by the event loop that it then belongs to."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # grpc has no types of its own.
        self._channel: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._methods: dict[str, Callable[..., Any]] = {}
        self._closed = False

    def fits_here(self) -> bool:
        return self._loop is None or self._loop is asyncio.get_running_loop()

    def channel(self) -> Any:
        self._settings.check_process()
        if self._closed:
            raise errors.closed_error("client")
        loop = asyncio.get_running_loop()
        if self._channel is None:
            self._loop = loop
            target, options = self._settings.target, self._settings.channel_options
            credentials = self._settings.credentials
            if credentials is None:
                self._channel = grpc.aio.insecure_channel(target, options)
            else:
                self._channel = grpc.aio.secure_channel(target, credentials, options)
        elif self._loop is not loop:
            raise RuntimeError("this AsyncClient belongs to another event loop; make one in each")
        return self._channel

    def method(self, path: str) -> Callable[..., Any]:
        channel = self.channel()
        method = self._methods.get(path)
        if method is None:
            method = self._methods[path] = channel.unary_unary(path)
        return method

    async def close(self) -> None:
        self._closed = True
        # In a forked process the channel belongs to the other process.
        if self._channel is not None and not self._settings.is_forked:
            await self._channel.close()
