"""The stores that frameworks.py compares: this package's adapters, and the frameworks' own stores in PostgreSQL.

Each framework's own store gets what it is fastest with: a connection for each conversation, or a pool as large as that,
and its tables made beforehand.
"""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from agents.extensions.memory.sqlalchemy_session import SQLAlchemySession
from langchain_core.messages import AIMessage, HumanMessage
from langchain_postgres import PostgresChatMessageHistory
from llama_index.core.llms import ChatMessage
from llama_index.storage.chat_store.postgres import PostgresChatStore
from postgres import Postgres
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import sessionmaker

import chatledger
from chatledger.langchain import ChatledgerChatMessageHistory
from chatledger.llama_index import ChatledgerBaseChatStore
from chatledger.openai_agents import ChatledgerSession

CONVERSATIONS = 16
"""The conversations that go on at once."""


@dataclass(frozen=True)
class Store:
    """One store of one framework. Its functions are awaited, unless it is blocking."""

    name: str
    open: Callable[[str], Any]
    """The framework's history of a conversation's id, a UUID."""
    add: Callable[[Any, Sequence[Any]], Any]
    """Adds messages as the framework does after a turn."""
    read: Callable[[Any], Any]
    """Reads the whole history."""
    last: Callable[[Any], Any] | None = None
    """Reads the last 20, where the framework can ask for them."""
    blocking: bool = False


@dataclass(frozen=True)
class Pair:
    """A framework's two stores, and the messages to store in them."""

    framework: str
    message: Callable[[int, str], Any]
    """The framework's message of a text; even ones are the user's."""
    ours: Store
    theirs: Store


Opener = Callable[[Postgres, str], contextlib.AbstractAsyncContextManager[Pair]]


@contextlib.asynccontextmanager
async def langchain(postgres: Postgres, target: str) -> AsyncIterator[Pair]:
    """LangChain from threads: a connection each, and one client."""
    connections = [psycopg.connect(postgres.url("rows")) for _ in range(CONVERSATIONS)]
    PostgresChatMessageHistory.create_tables(connections[0], "langchain")
    turn = itertools.cycle(connections)

    def add(history: Any, messages: Sequence[Any]) -> None:
        history.add_messages(messages)

    def read(history: Any) -> Any:
        return history.messages

    def theirs(key: str) -> Any:
        return PostgresChatMessageHistory("langchain", key, sync_connection=next(turn))

    with chatledger.Client(target) as client:
        yield Pair(
            "LangChain",
            lambda n, text: AIMessage(text) if n % 2 else HumanMessage(text),
            Store("chatledger", lambda key: ChatledgerChatMessageHistory(key, client=client), add, read, blocking=True),
            Store("langchain-postgres", theirs, add, read, blocking=True),
        )
    for connection in connections:
        connection.close()


@contextlib.asynccontextmanager
async def langchain_async(postgres: Postgres, target: str) -> AsyncIterator[Pair]:
    """LangChain from tasks: a connection each, and one client."""
    url = postgres.url("rows")
    connections = [await psycopg.AsyncConnection.connect(url) for _ in range(CONVERSATIONS)]
    await PostgresChatMessageHistory.acreate_tables(connections[0], "langchain_async")
    turn = itertools.cycle(connections)

    async def add(history: Any, messages: Sequence[Any]) -> None:
        await history.aadd_messages(messages)

    def read(history: Any) -> Awaitable[Any]:
        answer: Awaitable[Any] = history.aget_messages()
        return answer

    def theirs(key: str) -> Any:
        return PostgresChatMessageHistory("langchain_async", key, async_connection=next(turn))

    async with chatledger.AsyncClient(target) as client:
        yield Pair(
            "LangChain, async",
            lambda n, text: AIMessage(text) if n % 2 else HumanMessage(text),
            Store("chatledger", lambda key: ChatledgerChatMessageHistory(key, client=client), add, read),
            Store("langchain-postgres", theirs, add, read),
        )
    for connection in connections:
        await connection.close()


@contextlib.asynccontextmanager
async def llama_index(postgres: Postgres, target: str) -> AsyncIterator[Pair]:
    """LlamaIndex's interface of chat stores, which adds messages one by one."""
    engine = create_engine(postgres.url("rows", "postgresql+psycopg"))
    pool = create_async_engine(postgres.url("rows", "postgresql+asyncpg"), pool_size=CONVERSATIONS)
    own = PostgresChatStore(sessionmaker(engine), sessionmaker(pool, class_=AsyncSession), "chatstore")  # type: ignore

    async def add(history: tuple[Any, str], messages: Sequence[Any]) -> None:
        store, key = history
        for message in messages:
            await store.async_add_message(key, message)

    def read(history: tuple[Any, str]) -> Awaitable[Any]:
        store, key = history
        answer: Awaitable[Any] = store.aget_messages(key)
        return answer

    async with chatledger.AsyncClient(target) as client:
        ours = ChatledgerBaseChatStore(client=client)
        yield Pair(
            "LlamaIndex",
            lambda n, text: ChatMessage(text, role="assistant" if n % 2 else "user"),
            Store("chatledger", lambda key: (ours, key), add, read),
            Store("chat-store-postgres", lambda key: (own, key), add, read),
        )
    await pool.dispose()
    engine.dispose()


@contextlib.asynccontextmanager
async def openai_agents(postgres: Postgres, target: str) -> AsyncIterator[Pair]:
    """The Agents SDK's sessions."""
    pool = create_async_engine(postgres.url("rows", "postgresql+asyncpg"), pool_size=CONVERSATIONS)
    made = SQLAlchemySession(str(uuid.uuid4()), engine=pool, create_tables=True)
    await made.get_items()

    def add(session: Any, items: Sequence[Any]) -> Awaitable[None]:
        answer: Awaitable[None] = session.add_items(list(items))
        return answer

    def read(session: Any) -> Awaitable[Any]:
        answer: Awaitable[Any] = session.get_items()
        return answer

    def last(session: Any) -> Awaitable[Any]:
        answer: Awaitable[Any] = session.get_items(limit=20)
        return answer

    async with chatledger.AsyncClient(target) as client:
        yield Pair(
            "OpenAI Agents",
            lambda n, text: {"role": "assistant" if n % 2 else "user", "content": text},
            Store("chatledger", lambda key: ChatledgerSession(key, client=client), add, read, last),
            Store("SQLAlchemySession", lambda key: SQLAlchemySession(key, engine=pool), add, read, last),
        )
    await pool.dispose()


PAIRS: dict[str, Opener] = {
    "langchain": langchain,
    "langchain-async": langchain_async,
    "llama-index": llama_index,
    "openai-agents": openai_agents,
}
"""The comparisons by the names that --only takes."""
