"""A user's program, for the type checkers: the tests run mypy --strict and pyright over it."""

from __future__ import annotations

import asyncio
import datetime
import uuid

import agent_framework
import agents
from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import BaseMessage
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.storage.chat_store.base_db import AsyncDBChatStore
from pydantic_ai.conversation_store import ConversationStore

import chatledger
from chatledger import AsyncClient, Citation, Client, Message, NewMessage, Receipt
from chatledger.agent_framework import ChatledgerHistoryProvider
from chatledger.langchain import ChatledgerChatMessageHistory
from chatledger.llama_index import ChatledgerBaseChatStore, ChatledgerChatStore
from chatledger.openai_agents import ChatledgerSession
from chatledger.pydantic_ai import ChatledgerConversationStore


async def token() -> str:
    return "token"


def credentials() -> None:
    tls = chatledger.TLS(ca="ca.crt", cert=b"", key=b"", server_name="ledger.internal")
    with Client("https://localhost", token=lambda: "token", tls=tls) as client:
        caller: chatledger.Caller = client.as_user(uuid.uuid4()).with_timeout(1.0).access.who_am_i()
        made: chatledger.NewApiKey = client.access.create_api_key("worker", ["read", "write"])
        keys: list[chatledger.ApiKey] = list(client.access.list_api_keys(limit=5))
        client.access.revoke_api_key(made.api_key.id)
        print(caller.user_id, made.secret, keys)
    aclient: AsyncClient = AsyncClient(token=token, insecure=True).as_user("id")
    ChatledgerSession("name", client=aclient)


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


async def openai_agents(client: Client) -> None:
    agent = agents.Agent(name="any")
    result = await agents.Runner.run(agent, "hi", session=ChatledgerSession("user-123"))
    settings = agents.SessionSettings(limit=5)
    sessions: list[agents.Session] = [
        ChatledgerSession("u", target="127.0.0.1:50051", api_key="key", session_settings=settings),
        ChatledgerSession("u", client=client, user_id=uuid.uuid4(), session_settings={"limit": 5}),
    ]
    await ChatledgerSession("u", client=AsyncClient()).aclose()
    print(result.final_output, sessions)


def langchain(client: AsyncClient) -> None:
    history: BaseChatMessageHistory = ChatledgerChatMessageHistory("u", client=client, user_id=uuid.uuid4())
    messages: list[BaseMessage] = ChatledgerChatMessageHistory("u", target="host:1", api_key="key").messages
    print(history.messages, messages[0].content)


async def llama_index(client: Client) -> None:
    stores: list[AsyncDBChatStore] = [
        ChatledgerChatStore(),
        ChatledgerChatStore("host:1", api_key="key"),
        ChatledgerChatStore(target="host:1", user_id=uuid.uuid4()),
        ChatledgerChatStore(client=client),
        ChatledgerChatStore(client=AsyncClient(), user_id="e4eaaaf2-d142-11e1-b3e4-080027620cdd"),
    ]
    older = ChatledgerBaseChatStore("host:1", api_key="key", user_id=uuid.uuid4())
    memory = ChatMemoryBuffer.from_defaults(chat_store=older, chat_store_key="u")
    ChatledgerBaseChatStore(client=client).close()
    print(await stores[0].count_messages("u"), memory.get())


async def pydantic_ai(client: AsyncClient) -> None:
    stores: list[ConversationStore] = [
        ChatledgerConversationStore(),
        ChatledgerConversationStore("host:1", api_key="key"),
        ChatledgerConversationStore(client=client, user_id=uuid.uuid4()),
    ]
    print(await stores[0].read_record("u"))


async def agents_of_microsoft(client: agent_framework.BaseChatClient, ledger: Client) -> None:
    provider = ChatledgerHistoryProvider(target="host:1", api_key="key", user_id=uuid.uuid4())
    audit: agent_framework.HistoryProvider = ChatledgerHistoryProvider("audit", client=ledger, load_messages=False)
    agent = agent_framework.Agent(client=client, context_providers=[provider, audit])
    answer = await agent.run("hi", session=agent.create_session(session_id="user-123"))
    print(answer.text)
