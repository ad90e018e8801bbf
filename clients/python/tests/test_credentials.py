"""The source of tokens: when it is asked, by whom, and what becomes of those who wait."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

import chatledger
from chatledger import _credentials
from chatledger._credentials import Bearer, Tokens
from chatledger.errors import of_code


def jwt(life: float, name: str = "") -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": time.time() + life, "jti": name}).encode())
    return f"e30.{claims.decode().rstrip('=')}.c2ln"


class Clock:
    """The two clocks, which the test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_credentials, "time", clock)
    monkeypatch.setattr(time, "time", clock.time)
    return clock


@pytest.mark.parametrize(("life", "margin"), [(3600.0, 30.0), (10.0, 2.0)])
def test_a_new_token_is_asked_for_near_the_end(clock: Clock, life: float, margin: float) -> None:
    asked: list[str] = []

    def source() -> str:
        asked.append(jwt(life, str(len(asked))))
        return asked[-1]

    tokens = Tokens(source)
    assert [tokens.get(), tokens.get()] == asked * 2
    clock.now += life - margin - 0.1
    assert tokens.get() == asked[0]
    clock.now += 0.2
    assert tokens.get() == asked[1] and len(asked) == 2


def test_a_clock_that_is_wrong_does_not_ask_each_time(clock: Clock) -> None:
    asked: list[str] = []

    def source() -> str:
        asked.append(jwt(-60))
        return asked[-1]

    tokens = Tokens(source)
    assert tokens.get() == tokens.get() and len(asked) == 1


@pytest.mark.parametrize("text", ["opaque", "a.b.c", "e30.e30.x", "e30.W10.x", "e30.IjEi.x"])
def test_what_is_no_jwt_is_used_until_it_is_refused(clock: Clock, text: str) -> None:
    given = iter([text, "next"])
    tokens = Tokens(lambda: next(given))
    assert tokens.get() == text
    clock.now += 1e9
    assert tokens.get() == text
    assert tokens.refuse("an older one") and tokens.get() == text
    assert tokens.refuse(text) and tokens.get() == "next"


def test_the_last_token_is_used_while_no_new_one_can_be_had(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    first = jwt(3600)

    def source() -> str:
        if clock.now > 1_000:
            raise ConnectionError("with a secret in it")
        return first

    tokens = Tokens(source)
    assert tokens.get() == first
    clock.now += 3599
    assert tokens.get() == first
    assert "ConnectionError" in caplog.text and "secret" not in caplog.text
    clock.now += 2
    with pytest.raises(ConnectionError):
        tokens.get()


def test_threads_ask_once() -> None:
    asked, go = [], threading.Event()

    def source() -> str:
        asked.append(1)
        assert go.wait(30)
        return "token"

    tokens = Tokens(source)
    with ThreadPoolExecutor(8) as pool:
        gets = [pool.submit(tokens.get) for _ in range(8)]
        with pytest.raises(chatledger.DeadlineExceededError):
            # Another one asks already, or one of the eight soon does.
            while True:
                if tokens._flight is not None:
                    tokens.get(0.01)
        go.set()
        assert {get.result(30) for get in gets} == {"token"}
    assert asked == [1]


async def test_tasks_ask_once_and_one_that_is_cancelled_harms_none() -> None:
    asked, go = [], asyncio.Event()

    async def source() -> str:
        asked.append(1)
        await go.wait()
        return "token"

    tokens = Tokens(source)
    first, *others = [asyncio.create_task(tokens.aget()) for _ in range(8)]
    while not asked:
        await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(chatledger.DeadlineExceededError):
        await tokens.aget(0.01)
    go.set()
    assert await asyncio.gather(*others) == ["token"] * 7
    assert first.cancelled() and asked == [1]


async def test_functions_of_any_kind() -> None:
    async def asynchronous() -> str:
        await asyncio.sleep(0)
        return "token"

    caller = threading.get_ident()

    def blocking() -> str:
        assert threading.get_ident() != caller, "it would hold up the event loop"
        return "token"

    for source in (asynchronous, lambda: asynchronous(), blocking):
        assert await Tokens(source).aget() == "token"
    with pytest.raises(TypeError, match="AsyncClient"):
        Tokens(asynchronous).get()


def test_an_event_loop_that_ends_leaves_the_question_to_the_next() -> None:
    asked = []

    async def source() -> str:
        asked.append(1)
        if len(asked) == 1:
            await asyncio.Event().wait()
        return "token"

    tokens = Tokens(source)

    async def give_up() -> None:
        task = asyncio.create_task(tokens.aget())
        while not asked:
            await asyncio.sleep(0)
        assert not task.done()

    asyncio.run(give_up())
    assert asyncio.run(tokens.aget()) == "token"


@pytest.mark.parametrize("given", ["se\ncret", "", 5, None, b"secret"])
def test_what_is_no_token_is_refused_and_not_shown(given: object) -> None:
    with pytest.raises((TypeError, ValueError), match="token must be") as caught:
        Tokens(lambda: given).get()  # type: ignore[arg-type, return-value]
    assert "cret" not in str(caught.value)


EXPIRED = of_code("UNAUTHENTICATED", "ended", reason="INVALID_CREDENTIALS", metadata={"cause": "EXPIRED"})
REVOKED = of_code("UNAUTHENTICATED", "ended", reason="INVALID_CREDENTIALS", metadata={"cause": "REVOKED"})
PASSWORD = of_code("UNAUTHENTICATED", "wrong email or password", reason="INVALID_CREDENTIALS")


def numbered() -> Callable[[], str]:
    numbers = iter(range(100))
    return lambda: f"token-{next(numbers)}"


def sent(bearer: Bearer) -> str:
    (_, value), *_ = bearer.metadata() or [("", "")]
    return value


def test_a_token_is_replaced_once_unless_the_stream_moves() -> None:
    bearer = Bearer(Tokens(numbered()), None)
    assert sent(bearer) == "Bearer token-0"
    assert bearer.renews(EXPIRED) and sent(bearer) == "Bearer token-1"
    assert not bearer.renews(EXPIRED) and sent(bearer) == "Bearer token-2"
    bearer.moved()
    assert bearer.renews(EXPIRED)


def test_only_the_end_of_a_token_is_mended() -> None:
    bearer = Bearer(Tokens(numbered()), None)
    sent(bearer)
    for error in (PASSWORD, None, of_code("UNAVAILABLE", "away")):
        assert not bearer.renews(error) and sent(bearer) == "Bearer token-0"
    # The call fails, and the next one asks.
    assert not bearer.renews(REVOKED) and sent(bearer) == "Bearer token-1"
    for fixed in (Bearer(Tokens("token"), None), Bearer(None, [("authorization", "Bearer key")])):
        sent(fixed)
        assert not fixed.renews(EXPIRED)
