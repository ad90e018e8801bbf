"""Messages a second from one Python process, to one server and one PostgreSQL on this machine.

    python benchmarks/writer.py --pg-bin /usr/lib/postgresql/15/bin

Compares, with messages of 512 bytes over 64 sessions:

- ``unary``: grpcio's unary calls, one after the other, with the generated stubs, as the README's first program does;
- ``unary, 16 threads``: the same from 16 threads;
- ``asyncpg``: rows one by one, as teams write them: a transaction that raises the session's counter and inserts the
  message, on one connection;
- ``asyncpg, 16 connections``: the same from 16 tasks;
- ``writer`` and ``async writer``: this package's.

Each of them stores a number of messages after a warm-up, several times; the best and the median are told. The server has a
database of its own in the same PostgreSQL as asyncpg's rows; fsync is on for both.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import threading
import time
import uuid
from collections.abc import Callable

import asyncpg
import grpc
from postgres import Postgres

import chatledger
import chatledger.testing
from chatledger.v1 import message_pb2, message_pb2_grpc

CONTENT = "x" * 512
SESSIONS = 64
SCHEMA = """
CREATE TABLE sessions (id uuid PRIMARY KEY, last_seq bigint NOT NULL DEFAULT 0, updated_at timestamptz);
CREATE TABLE messages (
    id uuid PRIMARY KEY, session_id uuid NOT NULL REFERENCES sessions, seq bigint NOT NULL, role text NOT NULL,
    content text NOT NULL, metadata jsonb NOT NULL DEFAULT '{}', created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (session_id, seq));
"""
BUMP = "UPDATE sessions SET last_seq = last_seq + 1, updated_at = now() WHERE id = $1 RETURNING last_seq"
INSERT = "INSERT INTO messages (id, session_id, seq, role, content) VALUES ($1, $2, $3, 'user', $4)"


def unary(target: str, sessions: list[str], count: int, threads: int) -> None:
    with grpc.insecure_channel(target) as channel:
        stub = message_pb2_grpc.MessageServiceStub(channel)

        def write(first: int) -> None:
            for n in range(first, count, threads):
                message = message_pb2.NewMessage(
                    message_id=str(uuid.uuid4()), role=message_pb2.ROLE_USER, content=CONTENT
                )
                stub.AppendMessage(
                    message_pb2.AppendMessageRequest(session_id=sessions[n % SESSIONS], message=message), timeout=30
                )

        running = [threading.Thread(target=write, args=(first,)) for first in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()


async def rows(postgres: Postgres, sessions: list[uuid.UUID], count: int, connections: int) -> None:
    pool = await asyncpg.create_pool(
        database="rows", min_size=connections, max_size=connections, **postgres.arguments
    )

    async def write(first: int) -> None:
        async with pool.acquire() as connection:
            for n in range(first, count, connections):
                session_id = sessions[n % SESSIONS]
                async with connection.transaction():
                    seq = await connection.fetchval(BUMP, session_id)
                    await connection.execute(INSERT, uuid.uuid4(), session_id, seq, CONTENT)

    await asyncio.gather(*map(write, range(connections)))
    await pool.close()


def writer(target: str, sessions: list[str], count: int) -> None:
    with chatledger.Client(target) as client, client.messages.writer() as writer:
        futures = [writer.append(sessions[n % SESSIONS], "user", CONTENT) for n in range(count)]
    assert sum(1 for future in futures if future.result().seq) == count


async def async_writer(target: str, sessions: list[str], count: int) -> None:
    async with chatledger.AsyncClient(target) as client, client.messages.writer() as writer:
        futures = [await writer.append(sessions[n % SESSIONS], "user", CONTENT) for n in range(count)]
    assert sum(1 for future in futures if future.result().seq) == count


def measure(name: str, count: int, times: int, run: Callable[[int], None]) -> float:
    run(max(count // 10, 100))
    rates = []
    for _ in range(times):
        began = time.perf_counter()
        run(count)
        rates.append(count / (time.perf_counter() - began))
    median = statistics.median(rates)
    print(f"{name:26} {count:7} messages: median {median:8.0f}/s, best {max(rates):8.0f}/s", flush=True)
    return median


async def make_rows(postgres: Postgres) -> list[uuid.UUID]:
    postgres.create("rows", "ledger")
    ids = [uuid.uuid4() for _ in range(SESSIONS)]
    connection = await asyncpg.connect(database="rows", **postgres.arguments)
    await connection.execute(SCHEMA)
    await connection.executemany("INSERT INTO sessions (id) VALUES ($1)", [(each,) for each in ids])
    await connection.close()
    return ids


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pg-bin", default="/usr/lib/postgresql/15/bin", help="where initdb and postgres are")
    parser.add_argument("--times", type=int, default=3, help="how often each is measured")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the numbers of messages")
    given = parser.parse_args()
    postgres = Postgres(given.pg_bin)
    try:
        row_sessions = asyncio.run(make_rows(postgres))
        with chatledger.testing.server(database_url=postgres.url("ledger")) as server:
            with chatledger.Client(server.target) as client:
                sessions = [client.sessions.create().id for _ in range(SESSIONS)]
            small, large = int(3000 * given.scale), int(60_000 * given.scale)
            runs: list[tuple[str, int, Callable[[int], None]]] = [
                ("unary", small, lambda count: unary(server.target, sessions, count, 1)),
                ("unary, 16 threads", small * 2, lambda count: unary(server.target, sessions, count, 16)),
                ("asyncpg", small, lambda count: asyncio.run(rows(postgres, row_sessions, count, 1))),
                (
                    "asyncpg, 16 connections",
                    small * 2,
                    lambda count: asyncio.run(rows(postgres, row_sessions, count, 16)),
                ),
                ("writer", large, lambda count: writer(server.target, sessions, count)),
                ("async writer", large, lambda count: asyncio.run(async_writer(server.target, sessions, count))),
            ]
            rates = {name: measure(name, count, given.times, run) for name, count, run in runs}
    finally:
        postgres.stop()
    for ours in ("writer", "async writer"):
        against = ", ".join(f"{rates[ours] / rates[name]:.1f} x {name}" for name, _, _ in runs[:4])
        print(f"{ours}: {against}")


if __name__ == "__main__":
    main()
