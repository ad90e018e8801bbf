"""A conversation by a client whose stubs nobody here wrote."""

import datetime
import importlib
import json
import uuid

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

SERVICES = ["User", "Profile", "Session", "Message", "Citation", "Document", "Analytics"]


@pytest.fixture(scope="module")
def stub(channel):
    """The stub and the messages of a service, by its short name."""

    def stub(name):
        module = f"chatledger.v1.{name.lower()}_pb2"
        services = importlib.import_module(f"{module}_grpc")
        return getattr(services, f"{name}ServiceStub")(channel), importlib.import_module(module)

    return stub


@pytest.fixture(scope="module")
def user(stub):
    users, pb = stub("User")
    _, profiles = stub("Profile")
    profile = profiles.Profile(
        software_background="Python",
        experience_level="intermediate",
        preferred_language="ur",
        preferences_json='{"interests": ["robotics"]}',
    )
    request = pb.CreateUserRequest(email="Ada@example.com", name="Ada", password="lovelace", profile=profile)
    return users.CreateUser(request).user


@pytest.fixture(scope="module")
def session(stub, user):
    sessions, pb = stub("Session")
    request = pb.CreateSessionRequest(user_id=user.id, title="ROS 2", metadata_json='{"chapter": "module-1"}')
    return sessions.CreateSession(request).session


@pytest.fixture(scope="module")
def conversation(stub, session):
    """The receipts of a question and its answer."""
    messages, pb = stub("Message")
    _, citations = stub("Citation")
    question = pb.NewMessage(
        message_id=str(uuid.uuid4()),
        role=pb.ROLE_USER,
        content="What does this mean?",
        selected_text="ROS 2 uses DDS for communication",
    )
    answer = pb.NewMessage(
        role=pb.ROLE_ASSISTANT,
        content="DDS delivers messages between nodes [1][2].",
        metadata_json='{"tokens": 4096, "id": 9007199254740993}',
        citations=[
            citations.Citation(document_id="module-1-ros2", chunk_id="chunk_023", score=0.89),
            citations.Citation(document_id="module-2-gazebo", chunk_id="chunk_045", score=0.82),
        ],
    )

    def append(message):
        request = pb.AppendMessageRequest(session_id=session.id, message=message)
        return messages.AppendMessage(request).receipt

    receipts = [append(question), append(answer)]
    again = append(question)
    assert again.deduplicated and again.seq == receipts[0].seq
    return receipts


def test_a_user_has_a_profile(stub, user):
    users, pb = stub("User")
    profiles, profile_pb = stub("Profile")
    assert users.GetUser(pb.GetUserRequest(email="ADA@example.com")).user == user
    assert users.VerifyPassword(pb.VerifyPasswordRequest(email=user.email, password="lovelace")).user.id == user.id
    profile = profiles.GetProfile(profile_pb.GetProfileRequest(user_id=user.id)).profile
    assert profile.preferred_language == "ur"
    assert json.loads(profile.preferences_json) == {"interests": ["robotics"]}


def test_a_conversation_is_listed(stub, session, conversation):
    messages, pb = stub("Message")
    listed = messages.ListMessages(pb.ListMessagesRequest(session_id=session.id)).messages
    assert [m.seq for m in listed] == [1, 2] == [receipt.seq for receipt in conversation]
    question, answer = listed
    assert question.role == pb.ROLE_USER
    assert question.selected_text == "ROS 2 uses DDS for communication"
    assert not answer.HasField("selected_text")
    assert json.loads(answer.metadata_json) == {"tokens": 4096, "id": 9007199254740993}
    assert [(c.document_id, c.chunk_id, c.score, c.citation_index) for c in answer.citations] == [
        ("module-1-ros2", "chunk_023", 0.89, 1),
        ("module-2-gazebo", "chunk_045", 0.82, 2),
    ]
    newest = pb.ListMessagesRequest(
        session_id=session.id, order=pb.MESSAGE_ORDER_SEQ_DESC, page_size=1, chronological=True
    )
    page = messages.ListMessages(newest)
    assert [m.seq for m in page.messages] == [2] and page.next_page_token


def test_a_stream_of_appends_is_watched(stub):
    """The watch is live before anything is appended."""
    sessions, session_pb = stub("Session")
    messages, pb = stub("Message")
    session_id = sessions.CreateSession(session_pb.CreateSessionRequest()).session.id
    watch = messages.WatchMessages(pb.WatchMessagesRequest(session_id=session_id), timeout=60)
    assert next(watch).caught_up == pb.CaughtUp(last_seq=0)

    def frames():
        for part in range(10):
            entries = []
            for i in range(50):
                message = pb.NewMessage(
                    message_id=str(uuid.uuid4()), role=pb.ROLE_USER, content=f"{part}:{i}", metadata_json='{"n":1}'
                )
                entries.append(pb.AppendEntry(session_id=session_id, message=message))
            yield pb.StreamAppendMessagesRequest(entries=entries)

    results = [result for answer in messages.StreamAppendMessages(frames()) for result in answer.results]
    assert [result.receipt.seq for result in results] == list(range(1, 501))
    watched = [next(watch).message for _ in results]
    watch.cancel()
    assert [(m.id, m.seq) for m in watched] == [(r.receipt.message_id, r.receipt.seq) for r in results]
    assert watched[-1].content == "9:49"
    # Resumed where another watch has ended.
    resumed = messages.WatchMessages(pb.WatchMessagesRequest(session_id=session_id, after_seq=490), timeout=60)
    assert [next(resumed).message for _ in range(10)] == watched[490:]
    resumed.cancel()


def test_messages_are_found(stub, user, session, conversation):
    messages, pb = stub("Message")
    hits = messages.SearchMessages(pb.SearchMessagesRequest(query="communications", user_id=user.id)).hits
    assert [(hit.message.seq, hit.session_title) for hit in hits] == [(1, "ROS 2")]
    hits = messages.SearchMessages(pb.SearchMessagesRequest(query="nodes", session_id=session.id)).hits
    assert [hit.message.seq for hit in hits] == [2] and "<b>nodes</b>" in hits[0].snippet


def test_the_most_cited_documents(stub, conversation):
    documents, document_pb = stub("Document")
    analytics, pb = stub("Analytics")
    document = document_pb.Document(id="module-1-ros2", title="Module 1: ROS 2")
    documents.UpsertDocument(document_pb.UpsertDocumentRequest(document=document))
    request = pb.ListTopDocumentsRequest(limit=10)
    request.since.FromDatetime(datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=30))
    top = analytics.ListTopDocuments(request).documents
    found = {d.document_id: (d.title, d.citation_count, d.mean_score) for d in top}
    assert found["module-1-ros2"] == ("Module 1: ROS 2", 1, 0.89)
    assert found["module-2-gazebo"] == ("", 1, 0.82)


def details(error):
    """What an error carries: its ErrorInfo, and the fields of its BadRequest."""
    info, fields = error_details_pb2.ErrorInfo(), []
    for detail in rpc_status.from_call(error).details:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            fields = [violation.field for violation in bad.field_violations]
        detail.Unpack(info)
    return info, fields


def test_an_error_says_all_that_is_wrong(stub):
    messages, pb = stub("Message")
    _, citations = stub("Citation")
    message = pb.NewMessage(content="?", metadata_json="[]", citations=[citations.Citation(score=float("nan"))])
    with pytest.raises(grpc.RpcError) as caught:
        messages.AppendMessage(pb.AppendMessageRequest(session_id="not a UUID", message=message))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    info, fields = details(caught.value)
    assert (info.reason, info.domain) == ("INVALID_FIELD", "chatledger")
    assert sorted(fields) == [
        "message.citations[0].document_id",
        "message.citations[0].score",
        "message.metadata_json",
        "message.role",
        "session_id",
    ]


def test_what_is_missing_is_not_found(stub):
    sessions, pb = stub("Session")
    with pytest.raises(grpc.RpcError) as caught:
        sessions.GetSession(pb.GetSessionRequest(session_id=str(uuid.uuid4())))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    info, _ = details(caught.value)
    assert (info.reason, info.domain) == ("SESSION_NOT_FOUND", "chatledger")


def test_health(channel):
    health = health_pb2_grpc.HealthStub(channel)
    for service in ["", *(f"chatledger.v1.{name}Service" for name in SERVICES)]:
        response = health.Check(health_pb2.HealthCheckRequest(service=service))
        assert response.status == health_pb2.HealthCheckResponse.SERVING, service


def test_reflection(channel):
    reflection = ProtoReflectionDescriptorDatabase(channel)
    names = {f"chatledger.v1.{name}Service" for name in SERVICES}
    assert names < set(reflection.get_services())
    file = reflection.FindFileContainingSymbol("chatledger.v1.MessageService")
    assert "AppendMessage" in [method.name for method in file.service[0].method]
