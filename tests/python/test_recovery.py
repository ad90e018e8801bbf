"""Point-in-time recovery as docs/operations.md has it: its very lines, on a PostgreSQL of its own, with a server before and after."""

import glob
import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile
import uuid

import grpc
import pytest
from conftest import Server, chatledger, clean_env
from documents import blocks, commands
from shell import is_recovered, rule


class Cluster:
    """A PostgreSQL, and the user that it runs as."""

    def __init__(self, top):
        self.top, self.servers = top, []
        found = [os.environ.get("CHATLEDGER_PG_BIN"), *sorted(glob.glob("/usr/lib/postgresql/*/bin"))]
        path = ":".join([*filter(None, found), os.environ["PATH"]])
        if shutil.which("pg_basebackup", path=path) is None:
            pytest.skip("no pg_basebackup")
        admin = f"postgresql://postgres@/postgres?host={top}"
        self.url = f"postgresql://postgres@/chats?host={top}"
        self.env = clean_env(PATH=path, PGDATA=f"{top}/data", BACKUP=f"{top}/backup", ADMIN_URL=admin, HOME=str(top))
        self.user = None
        if os.geteuid() == 0:
            self.user = "postgres"
            shutil.chown(top, self.user)
            assert pwd.getpwnam(self.user)
        self.run("initdb --username=postgres --auth=trust --no-sync > /dev/null")
        settings = f"listen_addresses = ''\nunix_socket_directories = '{top}'\n"
        with open(f"{top}/data/postgresql.conf", "a") as config:
            config.write(settings)
        self.run('pg_ctl start --wait --log="$PGDATA/log"')
        self.run('psql "$ADMIN_URL" -c "CREATE DATABASE chats"')

    def run(self, script, **more):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.top,
            env=self.env | more,
            user=self.user,
            group=self.user,
            extra_groups=[] if self.user else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{script}: {done.stdout}"
        return done.stdout

    def server(self):
        server = Server([*chatledger(), "serve", "--listen", "127.0.0.1:0"], clean_env(DATABASE_URL=self.url))
        self.servers.append(server)
        return server


@pytest.fixture
def cluster():
    top = tempfile.mkdtemp(prefix="chatledger-recovery-")
    os.chmod(top, 0o755)
    cluster = Cluster(pathlib.Path(top))
    yield cluster
    for server in cluster.servers:
        server.process.kill()
    cluster.run("pg_ctl stop --mode=fast || true")
    shutil.rmtree(top)


class Chat:
    """A session, and what is appended to it."""

    def __init__(self, address, session=None):
        from chatledger.v1 import message_pb2, message_pb2_grpc, session_pb2, session_pb2_grpc

        self.pb, self.channel = message_pb2, grpc.insecure_channel(address)
        self.messages = message_pb2_grpc.MessageServiceStub(self.channel)
        created = session_pb2_grpc.SessionServiceStub(self.channel).CreateSession
        self.session = session or created(session_pb2.CreateSessionRequest()).session.id

    def append(self, content, id=None):
        new = self.pb.NewMessage(message_id=id or str(uuid.uuid4()), role=self.pb.ROLE_USER, content=content)
        request = self.pb.AppendMessageRequest(session_id=self.session, message=new)
        return self.messages.AppendMessage(request, timeout=30).receipt

    def contents(self):
        request = self.pb.ListMessagesRequest(session_id=self.session)
        return [(m.seq, m.content) for m in self.messages.ListMessages(request, timeout=30).messages]


def test_a_recovery_to_a_moment_between_two_appends(cluster, stubs):
    scripts = [
        text
        for text in blocks("docs/operations.md", "sh")
        if all(rule(command) is is_recovered for command in commands(text))
    ]
    beforehand, now_and_then, afterwards = scripts
    cluster.run(beforehand)

    server = cluster.server()
    chat = Chat(server.address)
    assert [chat.append(f"before the backup {n}").seq for n in (1, 2)] == [1, 2]
    cluster.run(now_and_then)
    assert [chat.append(f"after the backup {n}").seq for n in (3, 4)] == [3, 4]
    moment = cluster.run('psql "$ADMIN_URL" --tuples-only --no-align -c "SELECT clock_timestamp()"').strip()
    forgotten = str(uuid.uuid4())
    assert chat.append("after the moment", forgotten).seq == 5
    kept = chat.contents()[:4]
    chat.channel.close()
    assert server.stop() == 0

    said = cluster.run(afterwards, TARGET_TIME=moment)
    # Promoted: what is asked last answers "f", at once or in a moment.
    while said.split()[-1] != "f":
        said = cluster.run('psql "$ADMIN_URL" --tuples-only -c "SELECT pg_is_in_recovery()"')

    server = cluster.server()
    chat = Chat(server.address, chat.session)
    assert chat.contents() == kept
    # The seqs go on without a gap; what was forgotten is taken as new, once.
    assert chat.append("after the recovery").seq == 5
    receipts = [chat.append("after the moment", forgotten) for _ in range(2)]
    assert [receipt.seq for receipt in receipts] == [6, 6]
    assert chat.contents() == [*kept, (5, "after the recovery"), (6, "after the moment")]
    chat.channel.close()
    assert server.stop() == 0
    verified = subprocess.run([*chatledger(), "migrate", "verify"], env=clean_env(DATABASE_URL=cluster.url))
    assert verified.returncode == 0
