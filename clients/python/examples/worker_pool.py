"""A pool of async workers that store many messages through one writer, with a progress bar.

    pip install tqdm
    python examples/worker_pool.py                        # 100,000 messages by 8 workers
    python examples/worker_pool.py --messages 1000 --demo # starts a server of its own

Each worker has sessions of its own and stores questions and answers, as workers that run a model do. The writer sends
them many at a time; a worker waits only while too much is unanswered.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib

from tqdm import tqdm

import chatledger
import chatledger.testing


async def worker(
    client: chatledger.AsyncClient, writer: chatledger.AsyncWriter, number: int, count: int, progress: tqdm[None]
) -> None:
    def stored(future: asyncio.Future[chatledger.Receipt]) -> None:
        future.result()
        progress.update()

    session = await client.sessions.create(title=f"worker {number}", metadata={"worker": number})
    for n in range(count):
        role: chatledger.Role = "assistant" if n % 2 else "user"
        future = await writer.append(session.id, role, f"message {n} of worker {number}", metadata={"n": n})
        future.add_done_callback(stored)


async def store(target: str | None, messages: int, workers: int) -> None:
    shares = [messages // workers + (number < messages % workers) for number in range(workers)]
    with tqdm(total=messages, unit=" messages") as progress:
        async with chatledger.AsyncClient(target) as client, client.messages.writer() as writer:
            await asyncio.gather(*(worker(client, writer, n, share, progress) for n, share in enumerate(shares)))
            await writer.flush()
    print(f"stored {progress.n:,} messages")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000, help="how many to store")
    parser.add_argument("--workers", type=int, default=8, help="how many workers")
    parser.add_argument("--demo", action="store_true", help="start a server for this run")
    given = parser.parse_args()
    if given.messages < 1 or given.workers < 1:
        parser.error("--messages and --workers must be at least 1")
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(chatledger.testing.server()).target if given.demo else None
        asyncio.run(store(target, given.messages, given.workers))


if __name__ == "__main__":
    main()
