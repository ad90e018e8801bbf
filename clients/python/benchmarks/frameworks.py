"""The adapters beside the frameworks' own PostgreSQL stores, one PostgreSQL for both, in turns, on this machine.

    python benchmarks/frameworks.py --pg-bin /usr/lib/postgresql/15/bin

Measures, with messages of 512 bytes, and fsync on:

- the whole history of a conversation of 2,000 messages, by each framework's own types;
- the last 20 of it, where the framework can ask for them (the Agents SDK);
- turns a second: 16 conversations at once, each of which stores a question and an answer, and reads its last 20, or
  all where the framework has no other way;
- without a framework: the raw stubs' ReadMessages and ListMessages, and ``messages.list()``, beside asyncpg's fetch of
  the same rows.

Each round measures both sides, who is first changes from round to round. Told are the medians, how far the middle half
of the rounds lies apart, and the median of the rounds' ratios. ``requirements.txt`` has what this needs; the server is
found as ``chatledger.testing`` finds it: ``CHATLEDGER_BIN`` should name a release build.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import sys
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import asyncpg
import grpc
import grpc.aio
from postgres import Postgres
from stores import CONVERSATIONS, PAIRS, Pair, Store

import chatledger
import chatledger.testing
from chatledger import NewMessage
from chatledger.v1 import message_pb2 as pb
from chatledger.v1 import message_pb2_grpc

TEXT = "What does this mean? " * 25
"""Some 512 bytes."""
ROWS = """
SELECT id, session_id, seq, role, content, selected_text, metadata, payload, created_at
FROM messages WHERE session_id = $1 AND deleted_at IS NULL ORDER BY seq
"""

Measure = Callable[[], Awaitable[float]]
"""Seconds, or turns a second, of one measurement."""


@dataclass(frozen=True)
class Result:
    """One line of the table."""

    what: str
    unit: str
    ours: str
    our_median: float
    our_spread: float
    theirs: str
    their_median: float
    their_spread: float
    ratio: float
    """The median of the rounds' ratios, ours by theirs."""
    ratio_spread: float

    def line(self) -> str:
        mine = f"{self.ours} {self.our_median:8.2f} ±{self.our_spread:.2f}"
        other = f"{self.theirs} {self.their_median:8.2f} ±{self.their_spread:.2f}"
        return f"{self.what:38} {mine:40} {other:44} {self.unit:8} ratio {self.ratio:.2f} ±{self.ratio_spread:.2f}"


def half_spread(values: Sequence[float]) -> float:
    """Half the distance between the quartiles."""
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4)
    return (high - low) / 2


async def compare(
    what: str, unit: str, rounds: int, ours: tuple[str, Measure], theirs: tuple[str, Measure]
) -> Result:
    """Measures both in turns."""
    found: dict[str, list[float]] = {"ours": [], "theirs": []}
    for number in range(rounds + 1):
        for name, measure in [("ours", ours[1]), ("theirs", theirs[1])][:: 1 if number % 2 else -1]:
            gc.collect()
            value = await measure()
            # The first round warms up.
            if number:
                found[name].append(value)
    ratios = [mine / other for mine, other in zip(found["ours"], found["theirs"], strict=True)]
    result = Result(
        what, unit,
        ours[0], statistics.median(found["ours"]), half_spread(found["ours"]),
        theirs[0], statistics.median(found["theirs"]), half_spread(found["theirs"]),
        statistics.median(ratios), half_spread(ratios),
    )  # fmt: skip
    print(result.line(), file=sys.stderr, flush=True)
    return result


async def called(blocking: bool, function: Callable[..., Any], *arguments: Any) -> Any:
    """The answer of a store's function."""
    return function(*arguments) if blocking else await function(*arguments)


def timed(store: Store, function: Callable[[Any], Any], history: Any, count: int, times: int) -> Measure:
    """Milliseconds of reading so many messages."""

    async def measure() -> float:
        began = time.perf_counter()
        for _ in range(times):
            found = await called(store.blocking, function, history)
        seconds = time.perf_counter() - began
        assert len(found) == count, f"{store.name} read {len(found)} messages, not {count}"
        return seconds * 1000 / times

    return measure


def turns_of(store: Store, message: Callable[[int, str], Any], turns: int) -> Measure:
    """Turns a second of conversations that go on at once, each begun anew."""
    question, answer = message(0, TEXT), message(1, TEXT)
    read = store.last or store.read
    expected = min(20, 2 * turns) if store.last else 2 * turns

    def check(found: Sequence[Any]) -> None:
        assert len(found) == expected, f"{store.name} read {len(found)} messages, not {expected}"

    def blocking(history: Any) -> None:
        for _ in range(turns):
            store.add(history, [question, answer])
            found = read(history)
        check(found)

    async def awaited(history: Any) -> None:
        for _ in range(turns):
            await store.add(history, [question, answer])
            found = await read(history)
        check(found)

    async def measure() -> float:
        histories = [store.open(str(uuid.uuid4())) for _ in range(CONVERSATIONS)]
        threads = [threading.Thread(target=blocking, args=(history,)) for history in histories]
        began = time.perf_counter()
        if store.blocking:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        else:
            await asyncio.gather(*map(awaited, histories))
        return turns * CONVERSATIONS / (time.perf_counter() - began)

    return measure


async def compare_stores(pair: Pair, given: argparse.Namespace) -> list[Result]:
    """The measurements of one framework."""
    key = str(uuid.uuid4())
    stores = [(store, store.open(key)) for store in (pair.ours, pair.theirs)]
    messages = [pair.message(n, f"{n} {TEXT}") for n in range(given.messages)]
    for store, history in stores:
        # By 200, as a conversation isn't stored in one statement.
        for start in range(0, len(messages), 200):
            await called(store.blocking, store.add, history, messages[start : start + 200])
        assert await called(store.blocking, store.read, history) == messages, f"{store.name} reads something else"
    results = []
    reads = [("whole history", 3, len(messages), [store.read for store, _ in stores])]
    if pair.ours.last is not None and pair.theirs.last is not None:
        reads.append(("last 20", 30, 20, [pair.ours.last, pair.theirs.last]))
    for what, times, count, functions in reads:
        ours, theirs = (
            (store.name, timed(store, function, history, count, times))
            for (store, history), function in zip(stores, functions, strict=True)
        )
        title = f"{pair.framework}: {what} of {given.messages}"
        results.append(await compare(title, "ms", given.rounds, ours, theirs))
    ours, theirs = ((store.name, turns_of(store, pair.message, given.turns)) for store, _ in stores)
    what = f"{pair.framework}: {CONVERSATIONS} x {given.turns} turns"
    results.append(await compare(what, "turns/s", given.rounds, ours, theirs))
    return results


async def compare_rows(postgres: Postgres, target: str, given: argparse.Namespace) -> list[Result]:
    """The raw stubs and ``messages.list()`` beside asyncpg, without a framework."""
    connection = await asyncpg.connect(database="ledger", **postgres.arguments)
    client, aclient = chatledger.Client(target), chatledger.AsyncClient(target)
    session = client.sessions.create().id
    with client.messages.writer() as writer:
        for n in range(given.messages):
            writer.append(session, "assistant" if n % 2 else "user", f"{n} {TEXT}")
    options = [("grpc.max_receive_message_length", 64 << 20)]
    channel, achannel = grpc.insecure_channel(target, options), grpc.aio.insecure_channel(target, options)
    stub, astub = message_pb2_grpc.MessageServiceStub(channel), message_pb2_grpc.MessageServiceStub(achannel)
    key = uuid.UUID(session)

    async def rows() -> Any:
        return await connection.fetch(ROWS, key)

    async def stream() -> Any:
        frames = stub.ReadMessages(pb.ReadMessagesRequest(session_id=session))
        return [message for frame in frames for message in frame.messages]

    async def astream() -> Any:
        frames = astub.ReadMessages(pb.ReadMessagesRequest(session_id=session))
        return [message async for frame in frames for message in frame.messages]

    async def pages() -> Any:
        found: list[Any] = []
        token = ""
        while token or not found:
            page = stub.ListMessages(pb.ListMessagesRequest(session_id=session, page_size=500, page_token=token))
            found += page.messages
            token = page.next_page_token
        return found

    async def listed() -> Any:
        return list(client.messages.list(session))

    async def alisted() -> Any:
        return [message async for message in aclient.messages.list(session)]

    def measured(name: str, read: Callable[[], Awaitable[Any]]) -> tuple[str, Measure]:
        store = Store(name, str, lambda *_: None, lambda _: read())
        return name, timed(store, store.read, None, given.messages, 3)

    results = []
    for what, read in (
        ("stub, ReadMessages", stream),
        ("async stub, ReadMessages", astream),
        ("stub, ListMessages by 500", pages),
        ("client.messages.list()", listed),
        ("async client.messages.list()", alisted),
    ):
        try:
            title = f"{what}: {given.messages}"
            results.append(
                await compare(title, "ms", given.rounds, measured("chatledger", read), measured("asyncpg", rows))
            )
        except grpc.RpcError as error:
            print(f"{what}: {error.code()}", file=sys.stderr)
    await connection.close()
    channel.close()
    await achannel.close()
    client.close()
    await aclient.close()
    return results


async def run(postgres: Postgres, target: str, given: argparse.Namespace) -> list[Result]:
    results = []
    for name, opened in PAIRS.items():
        if not given.only or name in given.only:
            async with opened(postgres, target) as pair:
                results += await compare_stores(pair, given)
    if not given.only or "rows" in given.only:
        results += await compare_rows(postgres, target, given)
    return results


def table(results: Sequence[Result]) -> str:
    """The results as Markdown."""
    lines = ["| what | chatledger | the framework's own, or asyncpg | ratio |", "| --- | --- | --- | --- |"]
    for r in results:
        mine = f"{r.our_median:,.1f} {r.unit} ± {r.our_spread:.1f}"
        other = f"{r.theirs} {r.their_median:,.1f} {r.unit} ± {r.their_spread:.1f}"
        lines.append(f"| {r.what} | {mine} | {other} | {r.ratio:.2f} ± {r.ratio_spread:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pg-bin", default="/usr/lib/postgresql/15/bin", help="where initdb and postgres are")
    parser.add_argument("--rounds", type=int, default=15, help="how often each is measured")
    parser.add_argument("--messages", type=int, default=2000, help="the messages of a long history")
    parser.add_argument("--turns", type=int, default=25, help="the turns of each conversation")
    parser.add_argument("--only", action="append", choices=[*PAIRS, "rows"], help="these comparisons alone")
    parser.add_argument("--json", metavar="FILE", help="writes the results there as well")
    given = parser.parse_args()
    postgres = Postgres(given.pg_bin)
    try:
        postgres.create("rows", "ledger")
        with chatledger.testing.server(database_url=postgres.url("ledger")) as server:
            results = asyncio.run(run(postgres, server.target, given))
    finally:
        postgres.stop()
    print(table(results))
    if given.json:
        with open(given.json, "w") as file:
            json.dump([asdict(result) for result in results], file, indent=1)


if __name__ == "__main__":
    main()
