"""What the README says, tried out."""

import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from conftest import README, ROOT, Server, blocks, cargo_run

ADDRESS = "127.0.0.1:50051"


def test_the_first_conversation(server, stubs):
    (snippet,) = blocks("python")
    assert ADDRESS in snippet
    ran = subprocess.run(
        [sys.executable, "-c", snippet.replace(ADDRESS, server.address)],
        env=os.environ | {"PYTHONPATH": stubs},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [
        "1 ROLE_USER What does this mean?",
        "2 ROLE_ASSISTANT DDS delivers messages between nodes without a broker [1][2].",
        "  [1] module-1-ros2 chunk_023 (0.89)",
        "  [2] module-2-gazebo chunk_045 (0.82)",
    ]


def grpcurl_calls():
    """The README's calls by grpcurl: method and request."""
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("grpcurl")]
    for words in map(shlex.split, lines):
        if "/" in words[-1]:
            yield words[-1], words[words.index("-d") + 1] if "-d" in words else "{}"


def test_the_calls_by_grpcurl(channel):
    """As grpcurl makes them: types by reflection, requests in protobuf's JSON."""
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    answers = []
    for path, request in grpcurl_calls():
        service, method = path.split("/")
        method = pool.FindServiceByName(service).FindMethodByName(method)
        request = json_format.Parse(request, GetMessageClass(method.input_type)(), descriptor_pool=pool)
        kind = channel.unary_stream if method.server_streaming else channel.unary_unary
        answer = kind(f"/{path}", lambda m: m.SerializeToString(), GetMessageClass(method.output_type).FromString)(
            request
        )
        # A watch has no end: as much of it as is stored.
        answer = list(itertools.islice(answer, 3)) if method.server_streaming else [answer]
        answers.append([json_format.MessageToDict(message, descriptor_pool=pool) for message in answer])
    watched = answers.pop()
    created, asked, answered, listed, cited, health = (answer for [answer] in answers)
    assert created["session"]["title"] == "ROS 2"
    assert (asked["receipt"]["seq"], answered["receipt"]["seq"]) == ("1", "2")
    assert listed["messages"][1]["citations"][0]["documentId"] == "module-1-ros2"
    assert "module-1-ros2" in json.dumps(cited)
    assert health == {"status": "SERVING"}
    assert [event["message"]["seq"] for event in watched[:2]] == ["1", "2"]
    assert watched[2] == {"caughtUp": {"lastSeq": "2"}}


def test_the_table_of_flags():
    """Every flag of --help with its variable and its default, and no other."""
    run = cargo_run("cargo run --release --quiet -- serve --help")
    text = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    flags = re.findall(r"^ {6}(--\S+)(.*?)(?=^ {2,6}-|\Z)", text, re.M | re.S)
    table = {}
    for row in re.findall(r"^\| `--.*$", README, re.M):
        flag, variable, default = row.replace(r"\|", "/").split("|")[1:4]
        table[flag.split()[0].strip("`")] = (variable, default)
    assert len(flags) > 20 and {flag for flag, _ in flags} == set(table)
    for flag, rest in flags:
        variable, default = table[flag]
        assert re.search(r"\[env: (\w+)", rest)[1] in variable, flag
        given = re.search(r"^ +\[default: (\S+)\]$", rest, re.M)
        if given:
            assert given[1] in default, flag


def test_sigterm_ends_it_with_0_and_what_was_stored_stays(stubs):
    from chatledger.v1 import session_pb2, session_pb2_grpc

    with tempfile.TemporaryDirectory(prefix="chatledger-python-") as top:
        os.chmod(top, 0o755)
        ids = []
        for _ in range(2):
            server = Server(f"{top}/data")
            with grpc.insecure_channel(server.address) as channel:
                sessions = session_pb2_grpc.SessionServiceStub(channel)
                for session_id in ids:
                    found = sessions.GetSession(session_pb2.GetSessionRequest(session_id=session_id))
                    assert found.session.title == "kept"
                created = sessions.CreateSession(session_pb2.CreateSessionRequest(title="kept"))
                ids.append(created.session.id)
            assert server.stop() == 0
