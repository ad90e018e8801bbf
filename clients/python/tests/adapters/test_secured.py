"""The adapters over TLS, by clients with credentials: as a service, for a user, and with tokens that end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import chatledger
from secured import Issuer, Secured

AnyClient = chatledger.Client | chatledger.AsyncClient


async def openai_agents(client: AnyClient, name: str) -> int:
    pytest.importorskip("agents")
    from chatledger.openai_agents import ChatledgerSession

    session = ChatledgerSession(name, client=client)
    await session.add_items([{"role": "user", "content": "x"}])
    found = await session.get_items()
    await session.aclose()
    return len(found)


async def langchain(client: AnyClient, name: str) -> int:
    messages = pytest.importorskip("langchain_core.messages")
    from chatledger.langchain import ChatledgerChatMessageHistory

    history = ChatledgerChatMessageHistory(name, client=client)
    await history.aadd_messages([messages.HumanMessage("x")])
    found = await asyncio.to_thread(lambda: history.messages)
    await history.aclose()
    return len(found)


async def llama_index(client: AnyClient, name: str) -> int:
    types = pytest.importorskip("llama_index.core.base.llms.types")
    from chatledger.llama_index import ChatledgerBaseChatStore, ChatledgerChatStore

    store, older = ChatledgerChatStore(client=client), ChatledgerBaseChatStore(client=client)
    await store.add_message(name, types.ChatMessage(role="user", content="x"))
    assert len(await asyncio.to_thread(older.get_messages, name)) == 1
    found = await store.get_messages(name)
    await store.aclose()
    await older.aclose()
    return len(found)


async def pydantic_ai(client: AnyClient, name: str) -> int:
    pytest.importorskip("pydantic_ai.conversation_store")
    from chatledger.pydantic_ai import ChatledgerConversationStore
    from pydantic_ai.conversation import Conversation
    from pydantic_ai.messages import ModelRequest, UserPromptPart

    store = ChatledgerConversationStore(client=client)
    said = ModelRequest(parts=[UserPromptPart(content="x")])
    await store.save(Conversation(messages=[said], conversation_id=name))
    found = await store.load(name)
    await store.aclose()
    return len(found.messages) if found else 0


async def agent_framework(client: AnyClient, name: str) -> int:
    framework = pytest.importorskip("agent_framework")
    from chatledger.agent_framework import ChatledgerHistoryProvider

    provider = ChatledgerHistoryProvider(client=client)
    await provider.save_messages(name, [framework.Message("user", ["x"])])
    found = await provider.get_messages(name)
    await provider.aclose()
    return len(found)


@pytest.mark.parametrize("kind", ["of threads", "of tasks"])
@pytest.mark.parametrize("use", [openai_agents, langchain, llama_index, pydantic_ai, agent_framework])
async def test_an_adapter_with_a_key(
    secured: Secured, name: str, kind: str, use: Callable[[AnyClient, str], Awaitable[int]]
) -> None:
    user = secured.user()
    issuer = Issuer(secured, user, lives=[-5])
    make: Callable[..., Any] = secured.client if kind == "of threads" else secured.aclient
    clients = [
        make(api_key=secured.keys["write"]),
        make(api_key=secured.keys["write"]).as_user(user),
        make(token=issuer),
    ]
    for number, client in enumerate(clients):
        assert await use(client, f"{name}-{number}") == 1
    assert len(issuer.given) == 2
    with secured.client(api_key=secured.keys["read"]) as service:
        owners = [service.sessions.get(chatledger.session_id_of(f"{name}-{number}")).user_id for number in range(3)]
    assert owners == [None, user, user]
    for refused, session, error in (
        (make(api_key=secured.keys["read"]), "new", chatledger.ScopeRequiredError),
        (make(api_key="x" * 40), "new", chatledger.InvalidCredentialsError),
        # For another user the session doesn't exist; with its id, none can be made either.
        (make(api_key=secured.keys["write"]).as_user(secured.user()), "1", chatledger.AlreadyExistsError),
    ):
        clients.append(refused)
        with pytest.raises(error):
            await use(refused, f"{name}-{session}")
    for client in clients:
        client.close() if isinstance(client, chatledger.Client) else await client.close()
