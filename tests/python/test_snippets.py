"""What the documents tell people to type, tried out.

Every fenced block of every document is accounted for. Programs in Python and statements of SQL have a test each. Each
line of a shell block meets the first of shell.RULES that fits: it is run on a scratch database, or the rule says why it isn't.
What no rule fits, and a block of a language or a place that nobody knows, fails."""

import ast
import importlib
import json
import os
import pathlib
import re
import select
import shlex
import subprocess
import sys
import tempfile
import uuid

import grpc
import pytest
from conftest import PACKAGE, ROOT, Server, chatledger, clean_env
from documents import BLOCKS, DOCUMENTS, blocks, commands, document_commands
from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass
from shell import ADDRESS, SECURITY, World, converse, database, is_run, rule

PACKAGE_README = "clients/python/README.md"
SECURED = "localhost:50051"
# Where the packages of tests/tools/package.json are, with node_modules in it.
NODE_DIR = os.environ.get("CHATLEDGER_NODE_DIR")
# Blocks that aren't run, each by its document and how it begins, and why.
NOT_RUN = {
    (PACKAGE_README, "python", "from agents import"): "it needs a framework and a model; clients/python/tests/adapters",
    (PACKAGE_README, "python", "def test_my_bot"): "a fixture of pytest's, which the tests of clients/python use",
    ("ARCHITECTURE.md", "mermaid", ""): "a picture",
    ("docs/doctor.md", "text", ""): "what it says of somebody's database",
    ("docs/doctor.md", "json", ""): "the form of a document; tests/it/doctor reads real ones",
    ("docs/ledger.md", "mermaid", ""): "a picture",
    ("docs/operations.md", "haproxy", ""): "tests/python/test_rolling.py runs it",
    ("docs/operations.md", "json", ""): "tests/python/test_rolling.py calls by it",
    ("docs/deploy.md", "yaml", "services:"): "tests/deploy/test_compose.py has Compose read it",
    ("docs/deploy.md", "yaml", "rules:"): "it is read by prometheus-adapter, which needs a cluster",
    ("docs/security.md", "sql", ""): "it needs roles, which only a superuser makes; tests/it/row_security.rs",
    ("docs/configuration.md", "toml", "listen = "): "tests/it/config reads it",
    ("docs/hosted-postgresql.md", "sql", "REVOKE"): "it needs roles; tests/it/row_security.rs",
    ("docs/terminal.md", "yaml", ""): "a probe of Kubernetes; tests/it/terminal runs the command",
    ("docs/tracing.md", "yaml", "receivers:"): "it needs a Collector; tests/python/receiver.py stands for one",
    ("docs/ledger.md", "text", ""): "a sketch; the statement itself is src/ledger/sql/append.sql",
    ("docs/security.md", "toml", "[[client_certificates]]"): "a test in src/auth/certificate.rs reads it",
    ("docs/security.md", "toml", "[caller]"): "a test in src/rates/settings.rs reads it",
}


# Python


def run_python(program, path, where=None, **env):
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=where,
        env=clean_env(PYTHONPATH=str(path), **env),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_conversation(server):
    (program,) = blocks("README.md", "python")
    assert ADDRESS in program
    said = run_python(program.replace(ADDRESS, server.address), PACKAGE)
    ready, printed = blocks("README.md", "text")
    assert said == printed
    # The other block of text is the ready line, with another version and place.
    version = re.compile(r"127\.0\.0\.1:\d+|PostgreSQL \d+\.\d+|embedded at .*\)")
    assert version.sub("", ready.strip()) == version.sub("", server.ready)
    assert ready in blocks("docs/configuration.md", "text")


def test_the_first_conversation_with_stubs(server, stubs):
    (program,) = blocks("docs/clients.md", "python")
    assert ADDRESS in program
    assert run_python(program.replace(ADDRESS, server.address), stubs).splitlines() == [
        "1 ROLE_USER What does this mean?",
        "2 ROLE_ASSISTANT DDS delivers messages between nodes without a broker [1][2].",
        "  [1] module-1-ros2 chunk_023 (0.89)",
        "  [2] module-2-gazebo chunk_045 (0.82)",
    ]


PROGRAMS = [text for text in blocks(PACKAGE_README, "python") if text.startswith("import chatledger\n")]


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_the_programs_of_the_package(server, program):
    run_python(program, PACKAGE, CHATLEDGER_TARGET=server.address)


def test_the_watch_of_the_package(server):
    """A watch has no end: its first line is looked at."""
    (watch,) = (text for text in blocks(PACKAGE_README, "python") if text.startswith("with client.messages.watch("))
    program = f"""
import chatledger
client = chatledger.Client()
session = client.sessions.create()
receipt = client.messages.append(session.id, "user", "first")
client.messages.append(session.id, "user", "second")
{watch}"""
    env = clean_env(PYTHONPATH=str(PACKAGE), CHATLEDGER_TARGET=server.address, PYTHONUNBUFFERED="1")
    with subprocess.Popen([sys.executable, "-c", program], env=env, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert select.select([child.stdout], [], [], 60)[0]
            assert child.stdout.readline() == "2 second\n"
        finally:
            child.kill()


def test_python_that_is_not_run_is_python():
    for block in BLOCKS:
        if block.language == "python":
            compile(block.text, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


# SQL


@pytest.fixture(scope="module")
def url(server, data_dir):
    return (data_dir / "lock").read_text().strip()


def test_the_statements_by_hand(server, url):
    import psycopg

    select_all, insert, cite = blocks("docs/sql.md", "sql")
    with psycopg.connect(url, autocommit=True) as db, psycopg.RawCursor(db) as cursor:
        session = cursor.execute("INSERT INTO chat_sessions DEFAULT VALUES RETURNING id").fetchone()[0]
        _, first = cursor.execute(insert, [session]).fetchone()
        message, second = cursor.execute(insert, [session]).fetchone()
        assert (first, second) == (1, 2)
        cursor.execute(cite, [message])
        rows = cursor.execute(select_all, [session]).fetchall()
        assert [row[1] for row in rows] == ["user", "user"]
        assert [row[4] for row in rows] == [None, ["module-1-ros2"]]


def test_the_migrations_of_the_examples(server, url, tmp_path):
    """The examples of migrations without a transaction, as a team's own."""
    texts = blocks("migrations/README.md", "sql")
    assert len(texts) == 2
    for number, text in enumerate(["ALTER TABLE messages ADD COLUMN language text;", *texts], 1):
        (tmp_path / f"V{number}__example.sql").write_text(text)
        (tmp_path / f"V{number}__example.down.sql").write_text("SELECT 1;")
    target = database(url, f"examples_{uuid.uuid4().hex}")
    up = [*chatledger(), "migrate", "up", "--with", "search", "--migrations-dir", str(tmp_path), "--json"]
    done = subprocess.run([*up, "--database-url", target], env=clean_env(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [m["version"] for m in json.loads(done.stdout) if m["set"] == "own"] == [1, 2, 3]


# Shell


WITH_COMMANDS = [document for document in DOCUMENTS if document_commands(document)]


@pytest.mark.parametrize("document", WITH_COMMANDS)
def test_the_commands_of(document, server, channel, url, data_dir):
    with tempfile.TemporaryDirectory(prefix="chatledger-docs-") as directory:
        # PostgreSQL's user may be another one.
        os.chmod(directory, 0o755)
        world = World(server, channel, url, data_dir, pathlib.Path(directory))
        if any(rule(command) is is_run for command in document_commands(document)):
            prepare(world, document)
        for command in document_commands(document):
            rule(command)(world, command)
        if document == "docs/clients.md":
            check_the_calls(world.answers)


def prepare(world, document):
    """A database with a conversation, and what else the commands of a document begin with."""
    world.sh("chatledger migrate up")
    converse(world.target)
    if document == "migrations/README.md":
        # Something is pending, or there would be no backup.
        world.sh("chatledger migrate down --steps 1")
    if document == SECURITY:
        (keys,) = (text for text in blocks(SECURITY, "toml") if text.startswith("[[api_keys]]"))
        (world.directory / "keys.toml").write_text(keys)
    (world.directory / "prisma").mkdir()


def check_the_calls(answers):
    """What grpcurl's calls answer, one after the other."""
    *answers, read, watched = answers
    created, asked, answered, listed, cited, health = (answer for [answer] in answers)
    assert created["session"]["title"] == "ROS 2"
    assert (asked["receipt"]["seq"], answered["receipt"]["seq"]) == ("1", "2")
    assert listed["messages"][1]["citations"][0]["documentId"] == "module-1-ros2"
    assert "module-1-ros2" in json.dumps(cited)
    assert health == {"status": "SERVING"}
    assert [message["seq"] for frame in read for message in frame["messages"]] == ["1", "2"]
    assert [event["message"]["seq"] for event in watched[:2]] == ["1", "2"]
    assert watched[2] == {"caughtUp": {"lastSeq": "2"}}


@pytest.fixture(scope="module")
def secured(server, channel, url, data_dir):
    """A server over TLS that asks for credentials, by the commands of docs/security.md: where its files are, and a key."""
    with tempfile.TemporaryDirectory(prefix="chatledger-docs-") as directory:
        os.chmod(directory, 0o755)
        world = World(server, channel, url, data_dir, pathlib.Path(directory))
        prepare(world, SECURITY)

        def command(start):
            return next(each for each in reversed(document_commands(SECURITY)) if each.startswith(start))

        world.sh(command("openssl "))
        world.sh(command("(umask 077; "))
        key = world.sh(f'{command("export CHATLEDGER_API_KEY=")} && printf %s "$CHATLEDGER_API_KEY"')
        serve = f"cd {shlex.quote(directory)} && exec {command('chatledger serve ')} --listen 127.0.0.1:0"
        running = Server(["bash", "-c", serve], world.env)
        yield pathlib.Path(directory), running.address, key
        assert running.stop() == 0


def test_calls_with_credentials(secured):
    """As grpcurl makes them: types from files, and the metadata that the command has."""
    directory, address, key = secured
    answers = []
    for command in document_commands(SECURITY):
        if not command.startswith("grpcurl "):
            continue
        words = shlex.split(command.replace("$CHATLEDGER_API_KEY", key))
        assert words[-2] == SECURED
        options = dict(zip(words[1:-2:2], words[2:-2:2]))
        assert (directory / options["-import-path"] / options["-proto"]).exists()
        module = importlib.import_module(options["-proto"].removesuffix(".proto").replace("/", ".") + "_pb2")
        service, name = words[-1].split("/")
        method = module.DESCRIPTOR.services_by_name[service.rpartition(".")[2]].methods_by_name[name]
        request = json_format.Parse(options.get("-d", "{}"), GetMessageClass(method.input_type)())
        header, _, value = options["-H"].partition(": ")
        tls = grpc.ssl_channel_credentials((directory / options["-cacert"]).read_bytes())
        with grpc.secure_channel(address, tls) as channel:
            response = GetMessageClass(method.output_type).FromString
            call = channel.unary_unary(f"/{words[-1]}", lambda m: m.SerializeToString(), response)
            answers.append(json_format.MessageToDict(call(request, metadata=[(header, value)], timeout=30)))
            with pytest.raises(grpc.RpcError) as refused:
                call(request, timeout=30)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    caller, created = answers
    assert (caller["kind"], caller["scopes"]) == ("CALLER_KIND_SERVICE", ["write"])
    assert "expireTime" in caller and created["session"]["title"] == "ROS 2"


def test_python_with_credentials(secured):
    directory, address, key = secured
    (program,) = blocks(SECURITY, "python")
    assert SECURED in program
    said = run_python(program.replace(SECURED, address), PACKAGE, directory, CHATLEDGER_API_KEY=key)
    assert said.splitlines() == ["['write']", "1", "it takes the scope users"]


@pytest.mark.skipif(NODE_DIR is None, reason="no Node packages: CHATLEDGER_NODE_DIR")
def test_node_with_credentials(secured):
    directory, address, key = secured
    (program,) = blocks(SECURITY, "js")
    assert program.count(SECURED) == 2
    done = subprocess.run(
        ["node", "-e", program.replace(SECURED, address)],
        cwd=directory,
        env=clean_env(CHATLEDGER_API_KEY=key, NODE_PATH=f"{NODE_DIR}/node_modules"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


# All of them


def accounted(block):
    """Whether a block is run by a test above, or says why it isn't."""
    key = (block.document, block.language)
    if any((document, language) == key and block.text.startswith(start) for document, language, start in NOT_RUN):
        return True
    match key:
        case (_, "sh"):
            return all(rule(command) for command in commands(block.text))
        case ("README.md" | "docs/clients.md" | "docs/configuration.md", "python" | "text"):
            return True
        case ("clients/python/README.md", "python"):
            return block.text in PROGRAMS or block.text.startswith("with client.messages.watch(")
        case ("docs/sql.md" | "migrations/README.md", "sql") | ("docs/security.md", "python" | "js"):
            return True
        case ("docs/security.md", "toml"):
            # The server of the secured fixture reads it.
            return block.text.startswith("[[api_keys]]")
    return False


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_is_accounted_for(block):
    assert accounted(block), f"{block}: no test runs this, and NOT_RUN doesn't say why"


def test_reasons_are_of_blocks_that_are_there():
    for document, language, start in NOT_RUN:
        assert any(text.startswith(start) for text in blocks(document, language)), (document, language, start)


def test_sigterm_ends_it_with_0_and_what_was_stored_stays(stubs):
    from chatledger.v1 import session_pb2, session_pb2_grpc

    with tempfile.TemporaryDirectory(prefix="chatledger-python-") as top:
        os.chmod(top, 0o755)
        ids = []
        for _ in range(2):
            server = Server.of_readme(f"{top}/data")
            with grpc.insecure_channel(server.address) as channel:
                sessions = session_pb2_grpc.SessionServiceStub(channel)
                for session_id in ids:
                    found = sessions.GetSession(session_pb2.GetSessionRequest(session_id=session_id))
                    assert found.session.title == "kept"
                created = sessions.CreateSession(session_pb2.CreateSessionRequest(title="kept"))
                ids.append(created.session.id)
            assert server.stop() == 0
