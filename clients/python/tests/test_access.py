"""Callers and their credentials, against a server over TLS that asks for them."""

from __future__ import annotations

import asyncio
import datetime
import logging
import pathlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import chatledger
from chatledger import TLS, AsyncClient, Client
from chatledger._window import Bounds, Window
from chatledger.errors import of_code
from secured import Issuer, Secured

KINDS = pytest.mark.parametrize("kind", ["of threads", "of tasks"])


async def asked(secured: Secured, kind: str, use: Callable[[Any], Any], **arguments: Any) -> Any:
    """The answer of a call, by a client of either kind."""
    if kind == "of threads":
        with secured.client(**arguments) as client:
            return await asyncio.to_thread(use, client)
    async with secured.aclient(**arguments) as aclient:
        return await use(aclient)


# Keys


@KINDS
async def test_the_right_key(secured: Secured, kind: str) -> None:
    caller = await asked(secured, kind, lambda c: c.access.who_am_i(), api_key=secured.keys["write"])
    assert (caller.kind, caller.tenant, caller.scopes) == ("service", "default", ["write"])
    assert (caller.user_id, caller.key_id, caller.expire_time) == (None, None, None)


@KINDS
async def test_a_wrong_key_is_not_tried_again(secured: Secured, kind: str) -> None:
    with pytest.raises(chatledger.InvalidCredentialsError) as caught:
        await asked(secured, kind, lambda c: c.sessions.create(), api_key="x" * 43, timeout=None)
    assert (caught.value.cause, caught.value.code) == ("UNKNOWN", "UNAUTHENTICATED")
    assert not isinstance(caught.value, chatledger.ExpiredCredentialsError)
    with pytest.raises(chatledger.CredentialsRequiredError):
        await asked(secured, kind, lambda c: c.sessions.create(), timeout=None)


@KINDS
async def test_a_weak_scope(secured: Secured, kind: str) -> None:
    with pytest.raises(chatledger.ScopeRequiredError) as caught:
        await asked(secured, kind, lambda c: c.sessions.create(), api_key=secured.keys["read"])
    assert caught.value.scope == "write" and isinstance(caught.value, chatledger.PermissionDeniedError)


@KINDS
async def test_a_wrong_password_is_nobodys_token(secured: Secured, kind: str) -> None:
    with pytest.raises(chatledger.InvalidCredentialsError) as caught:
        await asked(secured, kind, lambda c: c.users.verify_password("a@b.c", "no"), api_key=secured.keys["users"])
    assert caught.value.cause == ""


def test_keys_are_made_listed_and_revoked(secured: Secured) -> None:
    tomorrow = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) + datetime.timedelta(days=1)
    with secured.client(api_key=secured.keys["admin"]) as admin:
        made = admin.access.create_api_key("worker", ["read", "write"], expire_time=tomorrow)
        assert made.secret.startswith(f"cl_{made.api_key.id}_") and made.secret not in repr(made)
        assert (made.api_key.name, made.api_key.expire_time) == ("worker", tomorrow)
        with secured.client(api_key=made.secret) as worker:
            caller = worker.access.who_am_i()
        assert (caller.key_id, caller.expire_time) == (made.api_key.id, tomorrow)
        assert caller.scopes == made.api_key.scopes == ["read", "write"]
        admin.access.revoke_api_key(made.api_key.id)
        admin.access.create_api_key("another", ["read"])
        listed = list(admin.access.list_api_keys(page_size=1))
        found = {key.id: key for key in listed}[made.api_key.id]
        assert found.revoke_time is not None and len(listed) >= 2
        with pytest.raises(chatledger.NotFoundError):
            admin.access.revoke_api_key("0" * 16)
    for wrong in ("read", 5):
        with pytest.raises(TypeError, match="scopes"), secured.client() as client:
            client.access.create_api_key("name", wrong)  # type: ignore[arg-type]
    with secured.client(api_key=secured.keys["users"]) as client, pytest.raises(chatledger.ScopeRequiredError):
        list(client.access.list_api_keys())


def test_without_authentication_the_caller_is_local(client: Client) -> None:
    assert client.access.who_am_i().kind == "local"


# Tokens


@KINDS
async def test_a_token_is_its_users(secured: Secured, kind: str) -> None:
    user = secured.user()
    mine = secured.token(user)
    caller = await asked(secured, kind, lambda c: c.access.who_am_i(), token=mine)
    assert (caller.kind, caller.user_id, caller.scopes) == ("end_user", user, [])
    session = await asked(secured, kind, lambda c: c.sessions.create(), token=mine)
    assert session.user_id == user
    with pytest.raises(chatledger.NotFoundError):
        await asked(secured, kind, lambda c: c.sessions.get(session.id), token=secured.token(secured.user()))
    with pytest.raises(chatledger.ScopeRequiredError) as caught:
        await asked(secured, kind, lambda c: c.documents.upsert("d"), token=mine)
    assert caught.value.scope == ""


@KINDS
async def test_an_expired_token(secured: Secured, kind: str) -> None:
    with pytest.raises(chatledger.ExpiredCredentialsError) as caught:
        await asked(secured, kind, lambda c: c.sessions.create(), token=secured.token(secured.user(), -5))
    assert caught.value.cause == "EXPIRED" and isinstance(caught.value, chatledger.InvalidCredentialsError)


@pytest.mark.parametrize(
    ("subject", "claims", "cause"),
    [
        ("nobody", {}, "NO_SUCH_USER"),
        ("nobody", {"nbf": 1 << 40}, "NOT_YET_VALID"),
        ("nobody", {"aud": "others"}, "WRONG_AUDIENCE"),
    ],
)
def test_why_a_token_is_refused(secured: Secured, subject: str, claims: dict[str, Any], cause: str) -> None:
    with secured.client(token=secured.token(subject, **claims)) as client:
        with pytest.raises(chatledger.InvalidCredentialsError) as caught:
            client.sessions.create()
    assert caught.value.cause == cause


@KINDS
async def test_a_call_is_made_once_more_with_a_new_token(secured: Secured, kind: str) -> None:
    issuer = Issuer(secured, secured.user(), lives=[-5, 3600])
    source = issuer if kind == "of threads" else issuer.acall
    assert (await asked(secured, kind, lambda c: c.sessions.create(), token=source)).user_id == issuer.subject
    assert len(issuer.given) == 2
    hopeless = Issuer(secured, issuer.subject, lives=[-5] * 9)
    with pytest.raises(chatledger.ExpiredCredentialsError):
        await asked(secured, kind, lambda c: c.sessions.create(), token=hopeless, timeout=None)
    assert len(hopeless.given) == 2


@KINDS
async def test_a_wrong_token_is_not_tried_again_and_replaced_at_the_next_call(secured: Secured, kind: str) -> None:
    user = secured.user()
    given: list[str] = []

    def source() -> str:
        given.append("wrong" if not given else secured.token(user))
        return given[-1]

    if kind == "of threads":
        with secured.client(token=source) as client:
            with pytest.raises(chatledger.InvalidCredentialsError):
                client.sessions.create()
            assert len(given) == 1 and client.sessions.create().user_id == user
    else:
        async with secured.aclient(token=source) as aclient:
            with pytest.raises(chatledger.InvalidCredentialsError):
                await aclient.sessions.create()
            assert len(given) == 1 and (await aclient.sessions.create()).user_id == user


def test_a_watch_and_a_writer_go_on_with_new_tokens(secured: Secured) -> None:
    user = secured.user()
    mine = secured.client(token=secured.token(user))
    session = mine.sessions.create()
    writers, watchers = Issuer(secured, user), Issuer(secured, user)
    client, watching = secured.client(token=writers), secured.client(token=watchers)
    with (
        mine,
        client,
        watching,
        ThreadPoolExecutor(1) as pool,
        client.messages.writer() as writer,
        watching.messages.watch(session.id) as watch,
    ):
        assert writer.append(session.id, "user", "before").result(30).seq == 1
        assert next(watch).content == "before"
        # The server ends both streams with their tokens.
        waiting = pool.submit(next, watch)
        assert watchers.again.wait(30)
        # A writer that has nothing to send opens no stream: it asks with the next message.
        writers.wait_for_the_end()
        assert writer.append(session.id, "user", "after").result(30).seq == 2
        assert waiting.result(30).content == "after"
        assert (len(watchers.given), len(writers.given)) == (2, 2)


async def test_an_async_watch_and_writer_go_on_with_new_tokens(secured: Secured) -> None:
    user = secured.user()
    writers, watchers = Issuer(secured, user), Issuer(secured, user)
    async with secured.aclient(token=secured.token(user)) as mine:
        session = await mine.sessions.create()
    async with (
        secured.aclient(token=writers.acall) as client,
        secured.aclient(token=watchers.acall) as watching,
        client.messages.writer() as writer,
        watching.messages.watch(session.id) as watch,
    ):
        assert (await (await writer.append(session.id, "user", "before"))).seq == 1
        assert (await anext(watch)).content == "before"
        waiting = asyncio.ensure_future(anext(watch))
        assert await asyncio.to_thread(watchers.again.wait, 30)
        await asyncio.to_thread(writers.wait_for_the_end)
        assert (await (await writer.append(session.id, "user", "after"))).seq == 2
        assert (await waiting).content == "after"
        assert (len(watchers.given), len(writers.given)) == (2, 2)


@KINDS
async def test_streams_that_are_refused_begin_again_with_a_new_token(secured: Secured, kind: str) -> None:
    """What waits for its answer when the token is refused is sent again; and once only where no token is any better."""
    user = secured.user()
    writers, watchers = Issuer(secured, user, lives=[-5]), Issuer(secured, user, lives=[-5])
    hopeless = Issuer(secured, user, lives=[-5] * 9)
    session_id = (await asked(secured, kind, lambda c: c.sessions.create(), token=secured.token(user))).id
    if kind == "of threads":
        clients = [secured.client(token=issuer) for issuer in (writers, watchers, hopeless)]
        writing, watching, refused = clients
        with writing, watching, refused:
            with writing.messages.writer() as writer, watching.messages.watch(session_id) as watch:
                assert writer.append(session_id, "user", "x").result(30).seq == next(watch).seq == 1
            with refused.messages.writer() as writer, pytest.raises(chatledger.ExpiredCredentialsError):
                writer.append(session_id, "user", "x").result(30)
            with pytest.raises(chatledger.ExpiredCredentialsError):
                next(refused.messages.watch(session_id))
    else:
        aclients = [secured.aclient(token=issuer) for issuer in (writers, watchers, hopeless)]
        awriting, awatching, arefused = aclients
        async with awriting, awatching, arefused:
            async with awriting.messages.writer() as awriter, awatching.messages.watch(session_id) as awatch:
                assert (await (await awriter.append(session_id, "user", "x"))).seq == (await anext(awatch)).seq == 1
            async with arefused.messages.writer() as awriter:
                with pytest.raises(chatledger.ExpiredCredentialsError):
                    await (await awriter.append(session_id, "user", "x"))
            with pytest.raises(chatledger.ExpiredCredentialsError):
                await anext(arefused.messages.watch(session_id))
    assert [len(issuer.given) for issuer in (writers, watchers, hopeless)] == [2, 2, 4]


@pytest.mark.parametrize("blocking", [True, False])
async def test_a_history_is_read_on_with_a_new_token(secured: Secured, blocking: bool) -> None:
    """A reader who takes his time: the stream ends with its token, and is read on behind the last message."""
    user = secured.user()
    issuer = Issuer(secured, user)
    with secured.client(token=secured.token(user)) as mine, mine.messages.writer() as writer:
        session = mine.sessions.create()
        # Far more than a connection holds under way.
        for _ in range(200):
            writer.append(session.id, "user", "x" * 200_000)
    seen: list[int] = []

    if blocking:
        with secured.client(token=issuer) as client:
            for message in client.messages.list(session.id):
                seen.append(message.seq)
                if message.seq == 1:
                    issuer.wait_for_the_end()
    else:
        async with secured.aclient(token=issuer) as aclient:
            async for message in aclient.messages.list(session.id):
                seen.append(message.seq)
                if message.seq == 1:
                    await asyncio.to_thread(issuer.wait_for_the_end)
    assert seen == list(range(1, 201)) and len(issuer.given) == 2


# Acting for users


@KINDS
async def test_a_service_acts_for_a_user(secured: Secured, kind: str) -> None:
    user, other = secured.user(), secured.user()
    key = secured.keys["write"]
    session = await asked(secured, kind, lambda c: c.as_user(user).sessions.create(), api_key=key)
    assert session.user_id == user
    caller = await asked(secured, kind, lambda c: c.as_user(user).access.who_am_i(), api_key=key)
    assert (caller.kind, caller.user_id) == ("service", user)
    with pytest.raises(chatledger.NotFoundError):
        await asked(secured, kind, lambda c: c.as_user(other).sessions.get(session.id), api_key=key)
    # The client itself stays what it was.
    assert (await asked(secured, kind, lambda c: c.sessions.get(session.id), api_key=key)).id == session.id
    with pytest.raises(ValueError, match="user_id"), secured.client() as client:
        client.as_user("ada")


def test_streams_act_for_the_user_too(secured: Secured) -> None:
    user, other = secured.user(), secured.user()
    with secured.client(api_key=secured.keys["write"]) as client:
        theirs, others = client.as_user(user), client.as_user(other).with_timeout(30)
        session = theirs.sessions.create()
        with theirs.messages.writer() as writer, theirs.messages.watch(session.id) as watch:
            writer.append(session.id, "user", "mine")
            assert next(watch).content == "mine"
        assert [m.content for m in theirs.messages.list(session.id)] == ["mine"]
        with others.messages.writer() as writer, pytest.raises(chatledger.NotFoundError):
            writer.append(session.id, "user", "not mine").result(30)
        for read in (others.messages.list(session.id), others.messages.watch(session.id)):
            with pytest.raises(chatledger.NotFoundError):
                next(iter(read))


async def test_async_streams_act_for_the_user_too(secured: Secured) -> None:
    user, other = secured.user(), secured.user()
    async with secured.aclient(api_key=secured.keys["write"]) as client:
        theirs, others = client.as_user(user), client.as_user(other)
        session = await theirs.sessions.create()
        async with theirs.messages.writer() as writer, theirs.messages.watch(session.id) as watch:
            await writer.append(session.id, "user", "mine")
            assert (await anext(watch)).content == "mine"
        async with others.messages.writer() as writer:
            with pytest.raises(chatledger.NotFoundError):
                await (await writer.append(session.id, "user", "not mine"))
        for read in (others.messages.list(session.id), others.messages.watch(session.id)):
            with pytest.raises(chatledger.NotFoundError):
                await anext(aiter(read))


@KINDS
async def test_a_token_of_somebody_elses_is_passed_on(secured: Secured, kind: str) -> None:
    user = secured.user()
    theirs = secured.token(user)
    for arguments in ({"api_key": secured.keys["users"]}, {"token": secured.token(secured.user())}, {}):
        caller = await asked(secured, kind, lambda c: c.with_token(theirs).access.who_am_i(), **arguments)
        assert (caller.kind, caller.user_id) == ("end_user", user)
    session = await asked(
        secured, kind, lambda c: c.as_user(secured.user()).with_token(theirs).sessions.create(), api_key="not sent"
    )
    assert session.user_id == user
    with Client("example.com:1") as client, pytest.raises(ValueError, match="refusing to send token"):
        client.with_token(theirs)


# TLS


@pytest.mark.parametrize("form", ["paths", "bytes", "the older arguments"])
def test_a_certificate_is_a_service(secured: Secured, form: str) -> None:
    files = [secured.folder / name for name in ("ca.crt", "rag-worker.crt", "rag-worker.key")]
    ca, cert, key = (file.read_bytes() for file in files)
    arguments: dict[str, Any] = {
        "paths": {"tls": TLS(ca=str(files[0]), cert=files[1], key=files[2])},
        "bytes": {"tls": TLS(ca=ca, cert=cert, key=key)},
        "the older arguments": {"root_certificates": ca, "certificate_chain": cert, "private_key": key},
    }[form]
    with Client(secured.server.target, **arguments) as client:
        caller = client.access.who_am_i()
        assert (caller.kind, caller.scopes) == ("service", ["read"])
        with pytest.raises(chatledger.ScopeRequiredError):
            client.sessions.create()


@KINDS
async def test_a_server_that_nobody_vouches_for_gets_no_key(secured: Secured, kind: str) -> None:
    for tls in (TLS(ca=secured.folder / "stranger.crt"), True):
        with pytest.raises(chatledger.UnavailableError):
            await asked(
                secured, kind, lambda c: c.sessions.create(), tls=tls, api_key=secured.keys["admin"], timeout=0.5
            )


def test_the_name_in_the_certificate(secured: Secured) -> None:
    port = secured.server.target.rpartition(":")[2]
    for name, error in (("ledger.internal", None), ("others.internal", chatledger.UnavailableError)):
        tls = TLS(ca=secured.folder / "ca.crt", server_name=name)
        with Client(f"127.0.0.1:{port}", tls=tls, api_key=secured.keys["read"], timeout=1.0) as client:
            if error is None:
                assert client.access.who_am_i().kind == "service"
            else:
                with pytest.raises(error):
                    client.access.who_am_i()
    with Client(f"https://localhost:{port}", tls=secured.tls, api_key=secured.keys["read"]) as client:
        assert client.access.who_am_i().kind == "service"


def test_a_server_over_tls_is_not_spoken_to_in_clear_text(secured: Secured) -> None:
    with secured.client(tls=False, api_key=secured.keys["read"], timeout=0.5) as client:
        with pytest.raises(chatledger.UnavailableError):
            client.access.who_am_i()


def test_files_that_are_no_certificates(tmp_path: pathlib.Path) -> None:
    secret = "-----BEGIN PRIVATE KEY-----\nsecret"
    (tmp_path / "empty").touch()
    for ca, error in (
        (tmp_path / "missing", FileNotFoundError),
        (tmp_path / "empty", ValueError),
        (b"DER", ValueError),
        (secret, TypeError),
        (5, TypeError),
    ):
        with pytest.raises(error) as caught:
            Client("https://localhost", tls=TLS(ca=ca))  # type: ignore[arg-type]
        assert "secret" not in str(caught.value)
    with pytest.raises(ValueError, match="belong together"):
        TLS(key=b"x")
    with pytest.raises(TypeError, match="tls must be"):
        Client("https://localhost", tls="ca.pem")  # type: ignore[arg-type]
    assert "secret" not in repr(TLS(cert=secret.encode(), key=secret.encode()))


# Errors


@pytest.mark.parametrize(
    ("reason", "kind", "parent"),
    [
        ("RATE_LIMITED", chatledger.RateLimitedError, chatledger.OverloadedError),
        ("QUOTA_EXCEEDED", chatledger.QuotaExceededError, chatledger.OverloadedError),
    ],
)
def test_limits(reason: str, kind: type[Any], parent: type[Any]) -> None:
    error: Any = of_code("RESOURCE_EXHAUSTED", "no", reason=reason, metadata={"limit": "messages"}, retry_after=2.5)
    assert type(error) is kind and isinstance(error, parent)
    assert (error.limit, error.retry_after) == ("messages", 2.5)


def test_a_writer_gives_up_at_a_quota_and_waits_at_a_rate() -> None:
    for reason, given_up in (("QUOTA_EXCEEDED", True), ("RATE_LIMITED", False)):
        retry_after = None if given_up else 1.0
        error = of_code("RESOURCE_EXHAUSTED", "no", reason=reason, retry_after=retry_after)
        window: Window[str] = Window(Bounds())
        window.add(b"entry", "future")
        window.take()
        assert bool(window.ended(error)) is given_up
        window.add(b"entry", "future")
        window.take()
        done, again = window.answer([error])
        assert (bool(done), again is None) == (given_up, given_up)


# Secrecy


@KINDS
async def test_credentials_are_never_shown(secured: Secured, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    shown: list[object] = []
    for arguments in ({"api_key": "top-secret" * 4}, {"token": "top-secret"}, {"token": lambda: "top-secret"}):
        client = AsyncClient(secured.server.target, tls=secured.tls, **arguments)  # type: ignore[arg-type]
        shown += [repr(client), repr(client.settings), str(client.settings.tokens), repr(client.as_user(secured.user()))]
        with pytest.raises(chatledger.UnauthenticatedError) as caught:
            await asked(secured, kind, lambda c: c.sessions.create(), **arguments)
        shown += [repr(caught.value), str(caught.value), repr(caught.value.__context__), vars(caught.value)]
        with pytest.raises(chatledger.UnauthenticatedError) as caught:
            await asked(secured, "of tasks", watch_once, **arguments)
        shown += [repr(caught.value)]
    assert "top-secret" not in f"{shown}{caplog.text}"


async def watch_once(client: AsyncClient) -> None:
    await anext(aiter(client.messages.watch(chatledger.uuid7())))
