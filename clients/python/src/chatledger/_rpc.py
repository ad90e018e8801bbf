"""Methods that are described once and offered twice, to be called or to be awaited.

A builder turns arguments into an :class:`Rpc` (one call), a :class:`Listing` (calls, page by page) or a :class:`Stream`
(one call, many frames).
:func:`call`, :func:`acall`, :func:`pages` and :func:`apages` make methods of it, with its signature and its docstring.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypedDict, TypeVar, get_type_hints

from google.protobuf.message import Message as Protobuf

from ._credentials import Metadata
from ._settings import Settings

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R", bound=Protobuf)
F = TypeVar("F", bound=Callable[..., Any])

MAX_PAGE = 500
"""The largest page that the server gives."""


@dataclass(frozen=True, slots=True)
class Rpc(Generic[T]):
    """One unary call, ready to be made."""

    method: str
    """The method's path, ``/chatledger.v1.SessionService/GetSession``."""
    request: bytes
    parse: Callable[[bytes], T]
    safe: bool
    """Whether the call may be sent again when nobody knows what became of it."""


def rpc(
    method: str, request: Protobuf, response: type[R], decode: Callable[[R], T], *, safe: bool = True
) -> Rpc[T]:
    """The call ``Service/Method``."""
    return Rpc(
        f"/chatledger.v1.{method}",
        request.SerializeToString(),
        lambda data: decode(response.FromString(data)),
        safe,
    )


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list."""

    items: list[T]
    next_page_token: str
    """The token of the next page; empty at the end."""


@dataclass(frozen=True, slots=True)
class Frame(Generic[T]):
    """One part of a stream."""

    items: Iterable[T]
    """The items, which are made as they are taken."""
    last_seq: int | None
    """The seq of the last one; None: there are none."""


@dataclass(frozen=True, slots=True)
class Stream(Generic[T]):
    """A list that comes in one call, frame by frame, and can be read on behind any frame."""

    method: str
    """The method's path."""
    request: Callable[[int | None], bytes]
    """The request for what comes behind a seq; None: for all of it."""
    parse: Callable[[bytes], Frame[T]]


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """A list to be read page by page, or in one stream where it can be and nobody asks for pages."""

    page: Callable[[str, int], Rpc[Page[T]]]
    """The call that reads the page of a token, of a size."""
    stream: Stream[T] | None = None
    """The call that reads all of it."""
    limit: int | None = None
    """The most items that are given altogether."""
    page_size: int = 0
    """The most items a page; 0: the server's default, or the limit where that is given."""
    page_token: str = ""
    """The token of the first page; empty: the beginning."""

    def __post_init__(self) -> None:
        for name, value in (("limit", self.limit), ("page_size", self.page_size)):
            if value is not None and not isinstance(value, int):
                raise TypeError(f"{name} must be an int, not {type(value).__name__}")
        if self.limit is not None and self.limit < 0:
            raise ValueError(f"limit must not be negative: {self.limit}")

    @property
    def whole(self) -> Stream[T] | None:
        """The stream that gives all that the pages would; None where they are asked for."""
        return None if self.limit is not None or self.page_size or self.page_token else self.stream

    def next(self, token: str, given: int) -> Rpc[Page[T]]:
        """The call for the next page, when so many items have been given."""
        left = MAX_PAGE if self.limit is None else min(self.limit - given, MAX_PAGE)
        size = min(self.page_size, left) if self.page_size else (0 if self.limit is None else left)
        return self.page(token, size)


class Paging(TypedDict, total=False):
    """The fields of a :class:`Listing` that callers give, for functions that take them by name and pass them on."""

    limit: int | None
    page_size: int
    page_token: str


class Runner(Protocol):
    """A client as its groups of methods see it: it makes calls and waits for them."""

    def run(self, rpc: Rpc[T]) -> T: ...

    def frames(self, stream: Stream[T]) -> Iterator[Frame[T]]: ...


class AsyncRunner(Protocol):
    """An async client as its groups of methods see it: it makes calls and has them awaited."""

    async def run(self, rpc: Rpc[T]) -> T: ...

    def frames(self, stream: Stream[T]) -> AsyncGenerator[Frame[T], None]: ...


class StreamOpener(Protocol):
    """A client as its writers and watches see it: they don't import it, since it imports them."""

    @property
    def settings(self) -> Settings: ...

    def check_usable(self) -> None: ...

    def open_stream(self, method: str, requests: Any, *, watching: bool, metadata: Metadata | None) -> Any: ...


class AsyncStreamOpener(Protocol):
    """An async client as its writers and watches see it."""

    @property
    def settings(self) -> Settings: ...

    def check_usable(self) -> None: ...

    def open_stream(self, method: str, request: bytes | None = None, *, metadata: Metadata | None) -> Any: ...


class Pager(Generic[T]):
    """The items of a list; reads them as they are taken, page after page, or in one stream where there is one.

    Iterating again reads again. :meth:`pages` gives the pages themselves.
    """

    def __init__(self, runner: Runner, listing: Listing[T]) -> None:
        self._runner = runner
        self._listing = listing

    def pages(self) -> Iterator[Page[T]]:
        """The pages, each with the token of the next."""
        token, given = self._listing.page_token, 0
        while self._listing.limit is None or given < self._listing.limit:
            page = self._runner.run(self._listing.next(token, given))
            yield page
            token, given = page.next_page_token, given + len(page.items)
            if not token:
                return

    def __iter__(self) -> Iterator[T]:
        stream = self._listing.whole
        if stream is not None:
            for frame in self._runner.frames(stream):
                yield from frame.items
            return
        for page in self.pages():
            yield from page.items


class AsyncPager(Generic[T]):
    """The items of a list, for ``async for``; reads them as they are taken, page after page, or in one stream.

    Iterating again reads again. :meth:`pages` gives the pages themselves.
    """

    def __init__(self, runner: AsyncRunner, listing: Listing[T]) -> None:
        self._runner = runner
        self._listing = listing

    async def pages(self) -> AsyncIterator[Page[T]]:
        """The pages, each with the token of the next."""
        token, given = self._listing.page_token, 0
        while self._listing.limit is None or given < self._listing.limit:
            page = await self._runner.run(self._listing.next(token, given))
            yield page
            token, given = page.next_page_token, given + len(page.items)
            if not token:
                return

    async def __aiter__(self) -> AsyncIterator[T]:
        stream = self._listing.whole
        if stream is not None:
            # The call is to end where this iterator is closed, and not when somebody collects its frames.
            async with contextlib.aclosing(self._runner.frames(stream)) as frames:
                async for frame in frames:
                    for item in frame.items:
                        yield item
            return
        async for page in self.pages():
            for item in page.items:
                yield item


class Resource:
    """A group of methods of a client."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner


class AsyncResource:
    """A group of methods of an async client."""

    def __init__(self, runner: AsyncRunner) -> None:
        self._runner = runner


def by_name(kind: type, fields: type) -> Callable[[F], F]:
    """A decorator for a function whose ``**`` arguments are fields of a dataclass: it shows them one by one.

    ``help`` and other tools read them from the signature and the annotations that the function gets here, the type
    checkers from ``fields``, a TypedDict that has the names and types of those fields.
    """
    hints = get_type_hints(fields)
    named = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in inspect.signature(kind).parameters.values()
        if parameter.name in hints
    ]

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        function.__signature__ = signature.replace(parameters=[*own, *named])  # type: ignore[attr-defined]
        returns = {"return": signature.return_annotation}
        function.__annotations__ = {p.name: p.annotation for p in own if p.name != "self"} | hints | returns
        return function

    return decorate


def _like(build: Callable[..., Any], method: Callable[..., Any], result: str) -> None:
    """Gives a method the builder's name, docstring and signature, so that ``help`` tells of it."""
    method.__name__ = build.__name__.rstrip("_")
    method.__qualname__ = method.__name__
    method.__doc__ = build.__doc__
    signature = inspect.signature(build)
    myself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    returns = str(signature.return_annotation)
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[myself, *signature.parameters.values()],
        return_annotation=result.format(returns[returns.index("[") + 1 : -1]),
    )


def call(build: Callable[P, Rpc[T]]) -> Callable[Concatenate[Resource, P], T]:
    """The method that makes this call."""

    def method(self: Resource, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._runner.run(build(*args, **kwargs))

    _like(build, method, "{}")
    return method


def acall(build: Callable[P, Rpc[T]]) -> Callable[Concatenate[AsyncResource, P], Coroutine[Any, Any, T]]:
    """The method that makes this call, to be awaited."""

    async def method(self: AsyncResource, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._runner.run(build(*args, **kwargs))

    _like(build, method, "{}")
    return method


def pages(build: Callable[P, Listing[T]]) -> Callable[Concatenate[Resource, P], Pager[T]]:
    """The method that reads this list."""

    def method(self: Resource, /, *args: P.args, **kwargs: P.kwargs) -> Pager[T]:
        return Pager(self._runner, build(*args, **kwargs))

    _like(build, method, "Pager[{}]")
    return method


def apages(build: Callable[P, Listing[T]]) -> Callable[Concatenate[AsyncResource, P], AsyncPager[T]]:
    """The method that reads this list, for ``async for``."""

    def method(self: AsyncResource, /, *args: P.args, **kwargs: P.kwargs) -> AsyncPager[T]:
        return AsyncPager(self._runner, build(*args, **kwargs))

    _like(build, method, "AsyncPager[{}]")
    return method
