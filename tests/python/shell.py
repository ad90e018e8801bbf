"""What is done with the commands of the documents: each meets the first of RULES that fits. It is run in a World, which is
a directory, with databases of its own in the server's cluster, or the rule says why it isn't."""

import itertools
import os
import pathlib
import re
import shlex
import subprocess
import sys
import uuid

from conftest import ROOT, Server, chatledger, clean_env
from documents import document_commands
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

ADDRESS = "127.0.0.1:50051"
SESSION = "5e5510aa-0000-4000-8000-000000000001"
USER = "5e5510aa-0000-4000-8000-000000000002"
SECURITY = "docs/security.md"


def database(url, name):
    """A new, empty database, and its URL."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as db:
        db.execute(f'CREATE DATABASE "{name}"')
    return in_database(url, name)


def in_database(url, name):
    """A cluster's URL with another database."""
    head, _, parameters = url.partition("?")
    changed = f"{head.rsplit('/', 1)[0]}/{name}"
    return f"{changed}?{parameters}" if parameters else changed


def run_sql(url, script):
    import psycopg

    with psycopg.connect(url, autocommit=True) as db:
        db.execute(script)


def converse(url):
    """A user with a session and a message, whose ids the documents name."""
    run_sql(
        url,
        f"""INSERT INTO users (id, email) VALUES ('{USER}', 'ada@example.com');
        INSERT INTO chat_sessions (id, user_id) VALUES ('{SESSION}', '{USER}');
        INSERT INTO messages (session_id, role, content) VALUES ('{SESSION}', 'user', 'What does this mean?');""",
    )


RAG_UUID = f"""
CREATE TABLE users (id uuid PRIMARY KEY, email varchar(255) UNIQUE NOT NULL, name varchar(255),
    hashed_password varchar(255), created_at timestamp DEFAULT now(), updated_at timestamp DEFAULT now());
CREATE TABLE user_profiles (id uuid PRIMARY KEY, user_id uuid UNIQUE REFERENCES users (id),
    software_background text, hardware_background text, experience_level varchar(50),
    preferred_language varchar(10) DEFAULT 'en', preferences jsonb DEFAULT '{{}}',
    created_at timestamp DEFAULT now(), updated_at timestamp DEFAULT now());
CREATE TABLE chat_sessions (id uuid PRIMARY KEY, user_id uuid REFERENCES users (id), title varchar(500),
    metadata jsonb DEFAULT '{{}}', created_at timestamp DEFAULT now(), updated_at timestamp DEFAULT now());
CREATE TABLE messages (id uuid PRIMARY KEY, session_id uuid NOT NULL REFERENCES chat_sessions (id),
    role varchar(20) NOT NULL, content text NOT NULL, selected_text text, metadata jsonb DEFAULT '{{}}',
    created_at timestamp DEFAULT now());
CREATE TABLE message_citations (id uuid PRIMARY KEY, message_id uuid NOT NULL REFERENCES messages (id),
    document_id varchar(255) NOT NULL, chunk_id varchar(255), score double precision, citation_index integer,
    created_at timestamp DEFAULT now());
INSERT INTO users (id, email) VALUES ('{USER}', 'ada@example.com');
INSERT INTO chat_sessions (id, user_id) VALUES ('{SESSION}', '{USER}');
INSERT INTO messages (id, session_id, role, content) VALUES ('{uuid.UUID(int=7)}', '{SESSION}', 'user', 'Hello');
"""


class World:
    """Where the commands of one document are run: a directory, and databases of its own in the server's cluster."""

    def __init__(self, server, channel, url, data_dir, directory):
        self.server, self.channel, self.url, self.data_dir, self.directory = server, channel, url, data_dir, directory
        name = uuid.uuid4().hex
        self.target = database(url, f"target_{name}")
        bin_dir = directory / "bin"
        bin_dir.mkdir()
        program = bin_dir / "chatledger"
        # With the PostgreSQL programs of our own PATH: those of a venv may be too new to restore into the server.
        found = f"PATH={shlex.quote(os.environ['PATH'])}"
        program.write_text(f'#!/bin/sh\n{found} exec {shlex.join(chatledger())} "$@"\n')
        program.chmod(0o755)
        os.symlink(ROOT / "proto", directory / "proto")
        # psql and pg_restore of the version that the server has, where one is chosen.
        chosen = os.environ.get("CHATLEDGER_PG_BIN")
        path = ":".join(filter(None, [str(bin_dir), chosen, str(pathlib.Path(sys.executable).parent), os.environ["PATH"]]))
        self.env = clean_env(PATH=path, DATABASE_URL=self.target, DATABASE_DIRECT_URL=self.target)
        self.answers = []

    def sh(self, command, **more):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.directory,
            env=self.env | more,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def parse(self, command):
        """Lets the program read the flags and their values, and do nothing."""
        said = self.sh(f"{command.split(' > ')[0]} --help")
        assert "Usage: " in said


def is_run(world, command):
    """As it is, on the document's own database."""
    world.parse(command)
    world.sh(command)


def is_looked_at(world, command):
    """On the server, with the conversation that the documents name. A watch is followed for a second."""
    import psycopg

    with psycopg.connect(world.url) as db:
        known = db.execute("SELECT FROM chat_sessions WHERE id = %s", (SESSION,)).fetchone() is not None
    if not known:
        converse(world.url)
    world.parse(command)
    if command.startswith("chatledger watch "):
        command = f"timeout --preserve-status --signal=INT 1 {command}"
    world.sh(command, CHATLEDGER_TARGET=f"http://{world.server.address}")


def is_imported(world, command):
    """From another chatledger, with a conversation in it."""
    source = database(world.url, f"source_{uuid.uuid4().hex}")
    world.sh("chatledger migrate up", DATABASE_URL=source, DATABASE_DIRECT_URL=source)
    converse(source)
    command = command.replace("postgresql://USER:PASSWORD@HOST/DB", shlex.quote(source))
    world.parse(command)
    world.sh(command)


def is_adopted(world, command):
    """Tables of the layout, in a database of their own."""
    adopted = database(world.url, f"adopted_{uuid.uuid4().hex}")
    run_sql(adopted, RAG_UUID)
    world.parse(command)
    world.sh(command, DATABASE_URL=adopted, DATABASE_DIRECT_URL=adopted)


def is_measured(world, command):
    """For a second, instead of for as long as it takes to trust the numbers."""
    command = command.replace("cargo run --release --", "chatledger").replace(ADDRESS, world.server.address)
    world.parse(command)
    command = re.sub(r"--duration \S+", "", command)
    world.sh(f"{command} --duration 1s --warm-up 100ms")


def is_compared(world, command):
    """It takes minutes, and tests/it runs it."""
    world.parse(command.replace("cargo run --release --", "chatledger"))


def is_served(world, command):
    """Until it is ready, where the document's files are."""
    command = command.replace("cargo run --release --", "chatledger")
    world.parse(command)
    there = f"cd {shlex.quote(str(world.directory))}"
    server = Server(["bash", "-c", f"{there} && exec {command} --listen 127.0.0.1:0"], world.env)
    assert server.stop() == 0


def is_called(world, command):
    """As grpcurl makes calls: types by reflection, requests in protobuf's JSON."""
    words = shlex.split(command)
    known = DescriptorPool(ProtoReflectionDescriptorDatabase(world.channel))
    assert ADDRESS in words
    rest = words[words.index(ADDRESS) + 1 :]
    if rest == ["list"]:
        return
    if rest[0] == "describe":
        known.FindServiceByName(rest[1])
        return
    (path,) = rest
    service, method = path.split("/")
    method = known.FindServiceByName(service).FindMethodByName(method)
    request = words[words.index("-d") + 1] if "-d" in words else "{}"
    request = json_format.Parse(request, GetMessageClass(method.input_type)(), descriptor_pool=known)
    kind = world.channel.unary_stream if method.server_streaming else world.channel.unary_unary
    call = kind(f"/{path}", lambda m: m.SerializeToString(), GetMessageClass(method.output_type).FromString)
    answer = call(request)
    # A watch has no end: as much of it as is stored.
    answer = list(itertools.islice(answer, 3)) if method.server_streaming else [answer]
    world.answers.append([json_format.MessageToDict(message, descriptor_pool=known) for message in answer])


def is_called_by_a_caller(world, command):
    """With credentials, which test_calls_with_credentials has."""
    assert command in document_commands(SECURITY)


def is_a_setting(world, command):
    """A variable that `serve` knows, with a URL to be filled in."""
    name, value = re.fullmatch(r"export (\w+)='([^']*)'", command).groups()
    assert f"[env: {name}" in world.sh("chatledger serve --help") and "USER:PASSWORD" in value


def is_sql(world, command):
    """psql, on the server's own database where the command names the file that has its URL."""
    lock = "/var/lib/chatledger/lock"
    if lock in command:
        command = f"{command.replace(lock, str(world.data_dir / 'lock'))} -c 'SELECT count(*) FROM messages'"
    world.sh(command)


def is_recovered(world, command):
    """On a PostgreSQL of its own, by test_recovery.py, which runs all of them."""
    assert command in document_commands("docs/operations.md")


def is_the_developers(world, command):
    """What CI runs by itself, or what takes minutes: its files are there."""
    for word in shlex.split(command):
        if "/" in word and not word.startswith(("-", "http")) and "=" not in word:
            assert (ROOT / word).exists(), command


def is_an_installation(world, command):
    """From a registry, or of what is in the tree."""
    for word in shlex.split(command)[2:]:
        assert not word.startswith(("./", "clients/")) or (ROOT / word.split(":")[0]).exists(), command


def is_deployed(world, command):
    """Without a daemon, a cluster or systemd there is only as much of it as tests/deploy do. Its files are there, and the program's
    flags are the program's."""
    for path in re.findall(r"(?<![\w/])deploy/[\w./-]+", command):
        if not path.startswith("deploy/chatledger"):  # kubectl's name of the Deployment
            assert (ROOT / path).exists(), command
    ours = re.search(r" /?chatledger ((?:serve|migrate|key) .*)$", command)
    if ours:
        world.parse(f"chatledger {ours[1]}")


# The first that fits a command says what is done with it.
RULES = [
    (r"grpcurl -cacert ", is_called_by_a_caller),
    (r"grpcurl ", is_called),
    (r"export CHATLEDGER_API_KEY=\$\(chatledger key create ", lambda world, command: world.sh(command)),
    (r"export \w+=", is_a_setting),
    (r"\(umask 077; openssl ", lambda world, command: world.sh(command)),
    (r"mkdir -p stubs && python -m grpc_tools\.protoc ", lambda world, command: world.sh(command)),
    (r"openssl ", lambda world, command: world.sh(command)),
    (r"(pip|uv pip|apt) install ", is_an_installation),
    (r"(cargo run --release -- |chatledger )bench (compare|growth)", is_compared),
    (r"(cargo run --release -- |chatledger )bench ", is_measured),
    (r"(cargo run --release -- |chatledger )serve", is_served),
    (r"env (OTEL_\w+=\S+ )+chatledger serve", is_served),
    (r"chatledger migrate adopt ", is_adopted),
    (r"chatledger import --from postgresql:", is_imported),
    (r"chatledger (sessions|messages|watch|search|health)\b", is_looked_at),
    (r"chatledger ", is_run),
    (r"(pg_ctl|pg_basebackup) |(psql|mkdir -p|mv|cp -a|touch|echo) .*\$(ADMIN_URL|BACKUP|PGDATA)\b", is_recovered),
    (r"(psql|pg_dump|pg_restore) ", is_sql),
    (r"(docker|helm|kubectl|install|systemctl|promtool|maturin|\(umask 077; echo) |(POSTGRES_PASSWORD|CHATLEDGER_BIN)=", is_deployed),
    (r"(CHATLEDGER_\w+=\S+ )*cargo (test|nextest|clippy|fmt|build|deny|doc|xtask|machete)\b", is_the_developers),
    (r"(\.ci/run|just|typos)\b", is_the_developers),
]


def rule(command):
    return next((action for pattern, action in RULES if re.match(pattern, command)), None)
