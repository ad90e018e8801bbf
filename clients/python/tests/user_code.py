"""A user's program, for the type checkers: the tests run mypy --strict and pyright over it."""

from __future__ import annotations

import asyncio
import datetime

import chatledger
from chatledger import AsyncClient, Citation, Client, Message, NewMessage, Receipt


def threads() -> None:
    with Client("127.0.0.1:50051", api_key="key", timeout=5.0) as client:
        session: chatledger.Session = client.sessions.create(title="ROS 2", metadata={"chapter": 1})
        receipt: Receipt = client.messages.append(
            session.id, "user", "What?", selected_text="DDS", citations=[Citation("doc", score=0.5)]
        )
        when: datetime.datetime = receipt.create_time
        receipts: list[Receipt] = client.messages.append_batch(
            session.id, [NewMessage("assistant", "An answer", payload=b"{}")], expected_last_seq=1
        )
        for message in client.messages.list(session.id, order="desc", roles=["user"], limit=10):
            text: str = message.content
            print(text, when, receipts)
        last: list[Message] = client.messages.last(session.id, 20)
        for hit in client.messages.search("dds", session_id=session.id):
            print(hit.rank + 1.0, last)
        pages = [page.next_page_token for page in client.sessions.list().pages()]
        cleared: int = client.messages.clear(session.id)
        with client.messages.writer(max_pending=100) as writer:
            seq: int = writer.append(session.id, "assistant", "text").result(timeout=10).seq
        with client.messages.watch(session.id, after_seq=seq) as watch:
            for message in watch:
                print(message.metadata.get("x"), pages, cleared)
        try:
            client.with_timeout(1.0).users.get(email="a@example.com")
        except chatledger.NotFoundError as error:
            print(error.reason, error.metadata, error.violations)


async def tasks() -> None:
    async with AsyncClient() as client:
        session = await client.sessions.create()
        created: datetime.datetime = session.create_time
        async for message in client.messages.list(session.id):
            print(message.seq + 1, created)
        task: asyncio.Task[Receipt] = asyncio.create_task(client.messages.append(session.id, "user", "hi"))
        receipt = await task
        async with client.messages.writer() as writer:
            future = await writer.append(session.id, "user", "hi")
            print((await future).seq + receipt.seq)
        async with client.messages.watch(session.id) as watch:
            async for message in watch:
                print(message.role)
