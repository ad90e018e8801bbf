"""The tokens of a client, which are asked for when they are needed, and the metadata by which a call says who it is from."""

from __future__ import annotations

import asyncio
import base64
import contextvars
import inspect
import json
import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import CancelledError, Future, wait
from typing import Any

from . import errors
from ._trace import traced

Token = str | Callable[[], str] | Callable[[], Awaitable[str]]
"""A token, or a function that gives one; an async one only for an :class:`~chatledger.AsyncClient`."""

Metadata = Sequence[tuple[str, str]]

_MARGIN = 30.0
"""Seconds before its end at which a new token is asked for: about as much as clocks differ, and a call takes."""

_MARGIN_SHARE = 0.2
"""The share of its life that the margin has at most: a token that lives for ten seconds isn't asked for at each call."""

_LEAST_LIFE = 1.0
"""Seconds between two questions for a token at least, where no server has refused the last: our clock may be wrong."""

_log = logging.getLogger("chatledger")


def check_secret(value: object, name: str) -> str:
    """A secret that gRPC would refuse at each call, or send without its ends, is refused here, and never shown."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    if not value or not (value.isascii() and value.isprintable() and value == value.strip()):
        raise ValueError(f"{name} must be printable ASCII without blanks around it: is there a line's end in it?")
    return value


class Tokens:
    """The token of a client and of all that is made of it, or the function that gives one.

    The function is asked when there is no token, when the last one is near its end, or was refused; by one thread or
    task at a time, while the others wait for its answer.
    """

    def __init__(self, source: Token) -> None:
        self._lock = threading.Lock()
        self._flight: Future[str | None] | None = None
        # The moments, by the clock that nobody sets, from which a new token is asked for, and when the last one ends.
        self._asked_from = self._ends = math.inf
        if callable(source):
            self._source: Callable[[], Any] | None = source
            self._token, self._asked_from = "", -math.inf
        else:
            self._source = None
            self._token = check_secret(source, "token")

    def get(self, timeout: float | None = None) -> str:
        """The token to send, which is asked for where that is needed."""
        while True:
            flight, is_ours = self._board()
            if flight is None:
                return self._token
            if is_ours:
                self._fly(flight, None)
            if not wait([flight], timeout).done:
                raise _late()
            token = flight.result()
            if token is not None:
                return token
            if is_ours:
                raise _cancelled()

    async def aget(self, timeout: float | None = None) -> str:
        """The same, awaited. The function is called in another thread: it may block."""
        while True:
            flight, is_ours = self._board()
            if flight is None:
                return self._token
            if is_ours:
                self._take_off(flight, asyncio.get_running_loop())
            landing = asyncio.wrap_future(flight)
            try:
                if not (await asyncio.wait([landing], timeout=timeout))[0]:
                    raise _late()
            finally:
                # Who gives up waits no longer; the question goes on for the others.
                landing.cancel()
            token = landing.result()
            if token is not None:
                return token
            if is_ours:
                raise _cancelled()

    def refuse(self, token: str) -> bool:
        """Notes that a server has refused this token; returns whether another one can be had."""
        with self._lock:
            if self._source is None:
                return False
            if token == self._token:
                self._asked_from, self._ends = -math.inf, -math.inf
            return True

    def _board(self) -> tuple[Future[str | None] | None, bool]:
        """The question that is under way, and whether it is ours to ask; None: the last token will do."""
        with self._lock:
            if time.monotonic() < self._asked_from:
                return None, False
            if self._flight is not None:
                return self._flight, False
            self._flight = Future()
            # Who waits for it must not be able to cancel it for the others.
            self._flight.set_running_or_notify_cancel()
            return self._flight, True

    def _take_off(self, flight: Future[str | None], loop: asyncio.AbstractEventLoop) -> None:
        """Asks in another thread."""
        try:
            context = contextvars.copy_context()
            loop.run_in_executor(None, lambda: context.run(self._fly, flight, loop))
        except RuntimeError:
            self._land(flight, None)
            raise

    def _fly(self, flight: Future[str | None], loop: asyncio.AbstractEventLoop | None) -> None:
        """Asks for a token, and tells all who wait for it. An event loop that ends meanwhile leaves it to another."""
        try:
            token = self._ask(loop)
        except CancelledError:
            self._land(flight, None)
        except Exception as error:
            self._fall_back(flight, error)
        except BaseException:
            self._land(flight, None)
            raise
        else:
            self._land(flight, token)

    def _ask(self, loop: asyncio.AbstractEventLoop | None) -> str:
        assert self._source is not None  # a token that was given as such is never asked for
        answer = self._source()
        if inspect.isawaitable(answer):
            if loop is None:
                if inspect.iscoroutine(answer):
                    answer.close()
                raise TypeError("token is an async function, which only an AsyncClient can await")
            answer = asyncio.run_coroutine_threadsafe(_awaited(answer), loop).result()
        return check_secret(answer, "token")

    def _land(self, flight: Future[str | None], token: str | None) -> None:
        """Keeps the token, if there is one, and gives it to who waits."""
        with self._lock:
            self._flight = None
            if token is not None:
                left, now = _life_of(token), time.monotonic()
                margin = min(_MARGIN, left * _MARGIN_SHARE)
                self._token, self._ends = token, now + left
                self._asked_from = now + max(left - margin, _LEAST_LIFE)
        flight.set_result(token)

    def _fall_back(self, flight: Future[str | None], error: Exception) -> None:
        """Goes on with the last token while it lasts, where no new one could be had."""
        with self._lock:
            now = time.monotonic()
            token = self._token if self._token and now < self._ends else None
            if token is not None:
                self._asked_from = now + _LEAST_LIFE
            self._flight = None
        if token is None:
            flight.set_exception(error)
            return
        # The error's text is the function's own, and may have a secret in it.
        _log.warning("no new token could be had (%s); the last one is used while it lasts", type(error).__name__)
        flight.set_result(token)


class Bearer:
    """What one call says who it is from; or one stream, which is opened as often as it breaks.

    A token that has expired is replaced once, and once more each time that the stream has got somewhere.
    """

    __slots__ = ("_is_replaced", "_others", "_sent", "_tokens")

    def __init__(self, tokens: Tokens | None, others: Metadata | None) -> None:
        self._tokens = tokens
        self._others = others
        self._sent = ""
        self._is_replaced = False

    def metadata(self, timeout: float | None = None) -> Metadata | None:
        """The metadata to send along; asks for a token where that is needed."""
        if self._tokens is None:
            return traced(self._others)
        self._sent = self._tokens.get(timeout)
        return self._with_token()

    async def ametadata(self, timeout: float | None = None) -> Metadata | None:
        """The same, awaited."""
        if self._tokens is None:
            return traced(self._others)
        self._sent = await self._tokens.aget(timeout)
        return self._with_token()

    def _with_token(self) -> Metadata | None:
        return traced([("authorization", f"Bearer {self._sent}"), *(self._others or ())])

    def renews(self, error: errors.ChatledgerError | None) -> bool:
        """Whether the call is to be made once more, with another token, when it has failed by this error."""
        # A wrong password has no cause: the token was good.
        if self._tokens is None or not isinstance(error, errors.InvalidCredentialsError) or not error.cause:
            return False
        can_renew = self._tokens.refuse(self._sent) and isinstance(error, errors.ExpiredCredentialsError)
        first, self._is_replaced = not self._is_replaced, True
        return can_renew and first

    def moved(self) -> None:
        """Called when the stream has got somewhere."""
        self._is_replaced = False


async def _awaited(answer: Awaitable[Any]) -> Any:
    return await answer


def _late() -> errors.DeadlineExceededError:
    return errors.DeadlineExceededError("no token was there in time", code="DEADLINE_EXCEEDED")


def _cancelled() -> errors.ChatledgerError:
    return errors.ChatledgerError("the question for a token was cancelled", code="CANCELLED")


def _life_of(token: str) -> float:
    """The seconds that a JWT has left by its own words; for ever, where it is none or doesn't say so."""
    try:
        _, payload, _ = token.split(".")
        claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
        return float(claims["exp"]) - time.time()
    except (ValueError, TypeError, KeyError, IndexError):
        # A server will say when it has ended.
        return math.inf
