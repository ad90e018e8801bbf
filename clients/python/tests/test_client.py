"""The resources, by the blocking client."""

from __future__ import annotations

import datetime
import inspect
import uuid

import pytest

import chatledger
from chatledger import Citation, Client, NewMessage, NewProfile


def email() -> str:
    return f"{uuid.uuid4()}@example.com"


def test_users_and_profiles(client: Client) -> None:
    profile = NewProfile(software_background="Python", preferences={"interests": ["robotics"]})
    name = email()
    user = client.users.create(name, name="Ada", password="lovelace", external_id=name[:36], profile=profile)
    assert (user.email, user.name, user.external_id, user.is_active) == (name, "Ada", name[:36], True)
    assert user.create_time.tzinfo is datetime.timezone.utc
    assert client.users.get(user.id) == client.users.get(email=name.upper()) == user
    assert client.users.get(external_id=name[:36]) == user
    assert client.users.create(name, user_id=user.id).id == user.id
    assert client.users.verify_password(name, "lovelace") == user
    client.users.set_password(user.id, "byron")
    with pytest.raises(chatledger.UnauthenticatedError) as caught:
        client.users.verify_password(name, "lovelace")
    assert caught.value.reason == "INVALID_CREDENTIALS"
    changed = client.users.update(user.id, external_id=None, name="Countess")
    assert (changed.external_id, changed.name, changed.email) == (None, "Countess", name)
    assert [u.id for u in client.users.list(email_prefix=name)] == [user.id]

    stored = client.profiles.get(user.id)
    assert (stored.software_background, stored.hardware_background) == ("Python", None)
    assert (stored.preferred_language, stored.preferences) == ("en", {"interests": ["robotics"]})
    merged = client.profiles.update(
        user.id, software_background=None, preferences={"theme": "dark"}, merge_preferences=True
    )
    assert merged.software_background is None
    assert merged.preferences == {"interests": ["robotics"], "theme": "dark"}
    assert user.id in [p.user_id for p in client.profiles.list(preferences_contain={"theme": "dark"})]
    client.profiles.delete(user.id)
    with pytest.raises(chatledger.NotFoundError, match="PROFILE_NOT_FOUND"):
        client.profiles.get(user.id)
    client.users.delete(user.id)
    with pytest.raises(chatledger.NotFoundError) as missing:
        client.users.get(user.id)
    assert missing.value.reason == "USER_NOT_FOUND"


def test_claims_by_a_secret(client: Client) -> None:
    user = client.users.create(email())
    secret = "a secret that the device keeps"
    kept = client.sessions.create(claim_secret=secret)
    assert client.sessions.create(session_id=kept.id, claim_secret=secret) == kept
    assert client.sessions.claim(user.id, [kept.id], claim_secrets=["another secret than that"]) == []
    assert client.sessions.claim(user.id, [kept.id], claim_secrets=[secret]) == [kept.id]


def test_sessions(client: Client) -> None:
    user = client.users.create(email())
    metadata = {"tokens": 4096, "id": 2**60, "text": "Grüße 🤖", "none": None, "nested": {"a": [1, 2.5]}}
    session = client.sessions.create(user_id=user.id, title="ROS 2", metadata=metadata)
    assert session.metadata == metadata and isinstance(session.metadata["tokens"], int)
    assert session.last_message_time is None and session.last_seq == 0
    assert client.sessions.get(uuid.UUID(session.id)) == session
    assert client.sessions.create(session_id=session.id, user_id=user.id) == session
    anonymous = client.sessions.create()
    assert anonymous.user_id is None
    assert client.sessions.claim(user.id, [anonymous.id]) == [anonymous.id]
    secret = "a secret that the device keeps"
    kept = client.sessions.create(claim_secret=secret)
    assert client.sessions.create(session_id=kept.id, claim_secret=secret) == kept
    assert client.sessions.claim(user.id, [kept.id], claim_secrets=["another secret than that"]) == []
    assert client.sessions.claim(user.id, [kept.id], claim_secrets=[secret]) == [kept.id]
    assert {s.id for s in client.sessions.list(user_id=user.id)} == {session.id, anonymous.id, kept.id}
    assert [s.id for s in client.sessions.list(user_id=user.id, metadata_contains={"tokens": 4096})] == [session.id]
    assert [s.id for s in client.sessions.list(user_id=user.id, order_by="created", limit=1)] == [kept.id]
    assert client.sessions.create().id in [s.id for s in client.sessions.list(limit=1)]

    changed = client.sessions.update(session.id, metadata={"tokens": 1, "text": None})
    assert changed.title == "ROS 2"
    assert changed.metadata == {k: v for k, v in metadata.items() if k != "text"} | {"tokens": 1}
    assert client.sessions.update(session.id, metadata={"x": 1}, replace_metadata=True).metadata == {"x": 1}
    cleared = client.sessions.update(session.id, title=None, metadata=None)
    assert (cleared.title, cleared.metadata) == ("", {})
    client.sessions.delete(session.id)
    with pytest.raises(chatledger.NotFoundError):
        client.sessions.get(session.id)


def test_messages(client: Client, session_id: str) -> None:
    question = client.messages.append(
        session_id, "user", "What does this mean?", selected_text="ROS 2 uses DDS", metadata={"lang": "en"}
    )
    answer = client.messages.append(
        session_id,
        "assistant",
        "Nodes talk without a broker [1][2].",
        payload=b"\x00\xff",
        citations=[Citation("module-1", "chunk_023", 0.89), Citation("module-2", score=0.82)],
    )
    assert (question.seq, answer.seq, answer.deduplicated) == (1, 2, False)
    first, second = client.messages.list(session_id)
    assert (first.role, first.content, first.selected_text) == ("user", "What does this mean?", "ROS 2 uses DDS")
    assert (first.metadata, first.payload, first.citations) == ({"lang": "en"}, None, [])
    assert first.create_time == question.create_time < second.create_time
    assert (second.selected_text, second.payload) == (None, b"\x00\xff")
    assert [(c.document_id, c.chunk_id, c.score, c.citation_index) for c in second.citations] == [
        ("module-1", "chunk_023", 0.89, 1),
        ("module-2", "", 0.82, 2),
    ]
    assert client.messages.get(session_id, answer.message_id) == second
    assert client.messages.update(session_id, first.id, metadata={"a": 1}).metadata == {"lang": "en", "a": 1}
    hits = list(client.messages.search("brokers", session_id=session_id, fields=["content"]))
    assert [hit.message.id for hit in hits] == [second.id] and "<b>broker</b>" in hits[0].snippet
    client.messages.delete(session_id, first.id)
    assert [m.seq for m in client.messages.list(session_id)] == [2]
    assert client.messages.clear(session_id) == 1
    with pytest.raises(chatledger.FailedPreconditionError) as deleted:
        client.messages.append(session_id, "user", "again", message_id=first.id)
    assert deleted.value.reason == "MESSAGE_DELETED"


def test_batches_are_all_or_nothing(client: Client, session_id: str) -> None:
    batch = [NewMessage("assistant", "calls a tool"), NewMessage("tool", "its result")]
    receipts = client.messages.append_batch(session_id, batch, expected_last_seq=0)
    assert [receipt.seq for receipt in receipts] == [1, 2]
    with pytest.raises(chatledger.SequenceConflictError) as conflict:
        client.messages.append_batch(session_id, batch, expected_last_seq=0)
    assert conflict.value.last_seq == 2
    with pytest.raises(chatledger.AlreadyExistsError) as reused:
        client.messages.append_batch(
            session_id, [NewMessage("user", "new"), NewMessage("user", "x", message_id=receipts[0].message_id)]
        )
    assert reused.value.reason == "MESSAGE_ID_REUSED"
    assert client.sessions.get(session_id).last_seq == 2


def test_lists_page_by_themselves(client: Client, session_id: str) -> None:
    client.messages.append_batch(session_id, [NewMessage("user", str(n)) for n in range(1, 12)])
    listing = client.messages.list(session_id, page_size=4)
    assert [m.seq for m in listing] == list(range(1, 12)) == [m.seq for m in listing]
    assert [len(page.items) for page in listing.pages()] == [4, 4, 3]
    token = next(listing.pages()).next_page_token
    assert [m.seq for m in client.messages.list(session_id, page_size=4, page_token=token)] == list(range(5, 12))
    assert [m.seq for m in client.messages.list(session_id, page_size=4, limit=6)] == [1, 2, 3, 4, 5, 6]
    assert [m.seq for m in client.messages.list(session_id, limit=0)] == []
    assert [m.seq for m in client.messages.list(session_id, order="desc", limit=3)] == [11, 10, 9]
    assert [m.seq for m in client.messages.list(session_id, after_seq=2, before_seq=5)] == [3, 4]
    assert [m.seq for m in client.messages.last(session_id, 3)] == [9, 10, 11]
    assert list(client.messages.list(session_id, roles=["tool"])) == []


def test_citations_documents_and_analytics(client: Client, session_id: str) -> None:
    key = f"doc-{uuid.uuid4()}"
    document = client.documents.upsert(key, title="Module 1", metadata={"pages": 3})
    assert client.documents.get(key) == document
    assert [d.id for d in client.documents.list(title_contains="module", metadata_contains={"pages": 3})].count(key)
    message_id = client.messages.append(session_id, "assistant", "It is [1].").message_id
    (added,) = client.citations.add(session_id, message_id, [Citation(key, score=0.5)])
    assert (added.citation_index, added.message_id, added.session_id) == (1, message_id, session_id)
    assert list(client.citations.list(session_id, message_id)) == [added]
    assert list(client.citations.list(document_id=key)) == [added]
    since = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
    top = {d.document_id: d for d in client.analytics.top_documents(since=since, limit=500)}
    assert (top[key].title, top[key].citation_count, top[key].mean_score) == ("Module 1", 1, 0.5)
    assert sum(day.message_count for day in client.analytics.daily_volume(time_zone="Asia/Karachi")) >= 1
    assert len(client.analytics.session_length_distribution()) == 5
    user = client.users.create(email())
    assert user.id in [activity.user_id for activity in client.analytics.user_activity()]
    client.citations.delete(session_id, message_id, 1)
    client.documents.delete(key)
    with pytest.raises(chatledger.NotFoundError, match="DOCUMENT_NOT_FOUND"):
        client.documents.get(key)


def test_an_error_names_every_wrong_field(client: Client) -> None:
    with pytest.raises(chatledger.InvalidArgumentError) as caught:
        client.messages.append("no UUID", "user", "?", citations=[Citation("", score=float("nan"))])
    assert (caught.value.code, caught.value.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    fields = sorted(violation.field for violation in caught.value.violations)
    assert fields == ["message.citations[0].document_id", "message.citations[0].score", "session_id"]


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"role": "robot"}, ValueError, "role must be one of user"),
        ({"content": b"bytes"}, TypeError, "content must be a str"),
        ({"metadata": [1]}, TypeError, "metadata must be a dict"),
        ({"metadata": {"x": object()}}, TypeError, "metadata is not JSON"),
        ({"metadata": {"x": float("nan")}}, ValueError, "metadata is not JSON"),
        ({"create_time": datetime.datetime(2026, 1, 1)}, ValueError, "create_time must be an aware datetime"),
    ],
)
def test_what_no_server_has_to_see(
    client: Client, session_id: str, arguments: dict[str, object], error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        client.messages.append(session_id, **({"role": "user"} | arguments))  # type: ignore[arg-type]
    assert client.sessions.get(session_id).last_seq == 0


def test_methods_tell_of_themselves(client: Client) -> None:
    assert "Appends one message" in (client.messages.append.__doc__ or "")
    assert list(inspect.signature(client.messages.get).parameters) == ["session_id", "message_id"]
    assert inspect.signature(client.sessions.list).return_annotation == "Pager[Session]"
