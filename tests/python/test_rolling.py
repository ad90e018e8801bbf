"""Three servers behind HAProxy, restarted, upgraded and taken back one by one, while clients are at work: none of their calls
fails, and every message is stored once. What docs/operations.md says of rolling restarts is what is done here."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import grpc
import pytest
from conftest import PACKAGE, PROFILE, READY, ROOT, chatledger, clean_env
from documents import blocks
from shell import database

PATIENCE = 60
DRAIN = "400ms"
OPERATIONS = "docs/operations.md"

# CI has it, and says so: there, a test that is skipped would be one that can't fail.
HAPROXY = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
pytestmark = pytest.mark.skipif(
    HAPROXY is None and not os.environ.get("CHATLEDGER_REQUIRE_HAPROXY"), reason="no haproxy"
)

# An expansion, which servers of both builds live with; and the contraction, which only those do that don't use the old column.
EXPAND = {
    "V20260101000000__label.sql": "ALTER TABLE messages ADD COLUMN label text;\n",
    "V20260101000000__label.down.sql": "ALTER TABLE messages DROP COLUMN label;\n",
    "V20260101000001__topic.sql": "ALTER TABLE messages ADD COLUMN topic text;\n",
    "V20260101000001__topic.down.sql": "ALTER TABLE messages DROP COLUMN topic;\n",
}
CONTRACT = EXPAND | {
    "V20260201000000__drop_label.sql": "ALTER TABLE messages DROP COLUMN label;\n",
    "V20260201000000__drop_label.down.sql": "ALTER TABLE messages ADD COLUMN label text;\n",
}


def until(what, ask):
    end = time.monotonic() + PATIENCE
    while not (answer := ask()):
        assert time.monotonic() < end, f"never happened: {what}"
        time.sleep(0.02)
    return answer


def program():
    """The program itself, once it is built: a signal is for it, and not for Cargo."""
    command = chatledger()
    subprocess.run([*command, "--version"], check=True, stdout=subprocess.PIPE)
    if len(command) == 1:
        return command[0]
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return str(target / ("debug" if PROFILE == "dev" else PROFILE) / "chatledger")


class Member:
    """One of the servers. Restarted, it has the same addresses."""

    def __init__(self, fleet, name):
        self.fleet, self.log = fleet, fleet.directory / f"{name}.log"
        self.name, self.address, self.admin = name, "127.0.0.1:0", "127.0.0.1:0"
        self.start()

    def start(self, *args, build=None):
        log = open(self.log, "ab")
        begins_at = log.tell()
        flags = ["--listen", self.address, "--admin-listen", self.admin, "--drain-delay", DRAIN, "--pool-size", "4"]
        self.process = subprocess.Popen(
            [build or self.fleet.program, "serve", *flags, *args], env=self.fleet.env, stdout=subprocess.PIPE, stderr=log
        )
        ready = READY.fullmatch(self.process.stdout.readline().decode().strip())
        assert ready, self.log.read_text()
        print(self.name, ready[0])
        self.address = ready[1]
        said = self.log.read_bytes()[begins_at:].decode()
        self.admin = re.search(r"the admin port answers.*address=(\S+)", re.sub(r"\x1b\[\d+m", "", said))[1]

    def readiness(self):
        try:
            with urllib.request.urlopen(f"http://{self.admin}/readyz", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def stop(self):
        """Stops it as an orchestrator does: whoever asks is told first, and calls are answered all the same."""
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        with grpc.insecure_channel(self.address) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            request = health_pb2.HealthCheckRequest()
            assert check(request).status == health_pb2.HealthCheckResponse.SERVING
            self.process.send_signal(signal.SIGTERM)
            code, said = until("it isn't ready", lambda: (found := self.readiness())[0] != 200 and found)
            assert (code, said) == (503, "not ready: stopping\n")
            assert check(request, timeout=5).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert self.process.wait(timeout=PATIENCE) == 0

    def restart(self, *args, build=None):
        self.stop()
        self.start(*args, build=build)
        until("HAProxy sends it calls", lambda: self.fleet.states().get(self.name) == "UP")


class Fleet:
    """The servers, and what is in front of them."""

    def __init__(self, directory, url):
        self.directory, self.program = directory, program()
        # Quiet, but for where the admin port is.
        self.env = clean_env(DATABASE_URL=url, RUST_LOG="warn,chatledger_cli=info", NO_COLOR="1")
        self.members = [Member(self, name) for name in ("one", "two", "three")]
        listener = socket.create_server(("127.0.0.1", 0))
        self.target = "127.0.0.1:%d" % listener.getsockname()[1]
        self.stats = directory / "haproxy.sock"
        config = directory / "haproxy.cfg"
        config.write_text(self.config(listener.fileno()))
        said = open(directory / "haproxy.log", "wb")
        self.haproxy = subprocess.Popen(
            [HAPROXY, "-db", "-f", str(config)], pass_fds=[listener.fileno()], stdout=said, stderr=said
        )
        listener.close()
        until("all are up", lambda: list(self.states().values()).count("UP") == 3)

    def config(self, listener):
        """That of the document, with our addresses, and a socket that tells what it knows."""
        (config,) = (text for text in blocks(OPERATIONS, "haproxy"))
        for member in self.members:
            there = f"server {member.name} 10.0.0.\\d+:50051 (.*) port 9464"
            here = rf"server {member.name} {member.address} \1 port {member.admin.split(':')[1]}"
            config, found = re.subn(there, here, config)
            assert found == 1, config
        # As fast as the test is to be; the drain delay is as many times longer as in the document.
        config = config.replace("inter 1s", "inter 100ms")
        config, found = re.subn(r"bind :50051", f"bind fd@{listener}", config)
        assert found == 1, config
        return f"global\n    stats socket {self.stats} level admin\n{config}"

    def states(self):
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(self.stats))
            except OSError:
                return {}
            client.sendall(b"show stat\n")
            rows = client.makefile().read().splitlines()
        rows = [row.split(",") for row in rows if row.startswith("servers,")]
        return {row[1]: row[17] for row in rows if row[1] not in ("BACKEND", "FRONTEND")}

    def migrate(self, *args, build=None):
        subprocess.run([build or self.program, "migrate", *args], env=self.env, check=True, stdout=subprocess.PIPE)

    def close(self):
        self.haproxy.kill()
        for member in self.members:
            member.process.kill()


@pytest.fixture(scope="module")
def fleet(server, data_dir, tmp_path_factory):
    directory = tmp_path_factory.mktemp("rolling")
    url = (data_dir / "lock").read_text().strip()
    fleet = Fleet(directory, database(url, "rolling"))
    yield fleet
    fleet.close()


class Load:
    """The clients, until the block ends. Then what they say is looked at."""

    def __init__(self, target):
        (retries,) = (text for text in blocks(OPERATIONS, "json"))
        # Where `chatledger` is the package, and not the stubs of these tests.
        command = [sys.executable, str(ROOT / "tests/python/rolling_load.py"), target, json.dumps(json.loads(retries))]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, env=clean_env(PYTHONPATH=str(PACKAGE)), stdin=pipe, stdout=pipe, text=True)

    def __enter__(self):
        assert self.process.stdout.readline() == "loaded\n"
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            self.process.kill()
            return
        said, _ = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0
        works = json.loads(said)
        for work in works:
            print(work["kind"], work["calls"], "calls,", len(work["failures"]), "failed", work["failures"][:1])
        for work in works:
            assert (work["lost"], work["doubled"], work["in_order"], work["gaps"]) == (0, 0, True, False), work
            # How much that is in the time, is the machine's to say.
            assert work["acknowledged"] > 0, work
            # Nor of the client that tries nothing again: it would see what the drain lets through.
            assert work["failures"] == [], work


def test_a_rolling_restart_fails_no_call(fleet):
    with Load(fleet.target):
        for member in fleet.members:
            member.restart()


def test_an_upgrade_its_rollback_and_the_contraction_fail_no_call(fleet):
    """The new build is CHATLEDGER_NEXT_BIN, of a later version; or else the same program, with migrations of its own."""
    for name, files in (("expand", EXPAND), ("contract", CONTRACT)):
        (fleet.directory / name).mkdir()
        for file, text in files.items():
            (fleet.directory / name / file).write_text(text)
    next_build = os.environ.get("CHATLEDGER_NEXT_BIN")
    contraction = ["--migrations-dir", str(fleet.directory / "contract")]
    one, two, three = fleet.members

    def upgrade(member):
        member.restart("--migrations-dir", str(fleet.directory / "expand"), build=next_build)

    with Load(fleet.target):
        # The first of the new build expands; the others still are of the old one, and go on.
        upgrade(one)
        upgrade(two)
        # It is taken back, and finds the expanded schema.
        one.restart()
        # Then for good; and the contraction, when nobody of the old build is left.
        upgrade(one)
        upgrade(three)
        fleet.migrate("up", *contraction, build=next_build)
        # The schema, too, goes back while servers use it.
        fleet.migrate("down", "--set", "own", "--to", "0", "--yes", *contraction, build=next_build)
