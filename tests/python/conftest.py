"""Starts the server by the README's own command, with stubs generated as docs/clients.md says."""

import os
import pathlib
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import grpc
import pytest
from documents import ROOT, document_commands

READY = re.compile(r"chatledger \S+ serving on (\S+) \(PostgreSQL [^,]+(?:, .+)?\)")
# What `cargo run` builds: the README's release.
PROFILE = os.environ.get("CHATLEDGER_CARGO_PROFILE", "release")
# Or nothing is built, and this program is run: in CI, the one that the tests have built. Cargo would build most of it once more,
# since tests have features of their dependencies' besides.
BIN = os.environ.get("CHATLEDGER_BIN")
# A first start that has to build the program takes minutes.
PATIENCE = 900
# The clients in Python, as `pip install ./clients/python` makes them importable.
PACKAGE = ROOT / "clients/python/src"


def cargo_run(command):
    """A `cargo run --release …` of a document with our profile, or with the program that is built already."""
    words = shlex.split(command)
    if BIN:
        assert words[:2] == ["cargo", "run"]
        return [*chatledger(), *words[words.index("--") + 1 :]]
    return [f"--profile={PROFILE}" if word == "--release" else word for word in words]


def chatledger():
    """The program, as the words that a command begins with."""
    if BIN:
        return [str(pathlib.Path(BIN).resolve(strict=True))]
    manifest = ROOT / "Cargo.toml"
    return ["cargo", "run", f"--profile={PROFILE}", "--quiet", "--manifest-path", str(manifest), "--"]


def clean_env(**more):
    """Our environment without settings of chatledger's, but for where PostgreSQL is."""
    other = ("CHATLEDGER_", "DATABASE_", "NEON_DATABASE_", "OTEL_")
    keep = ("CHATLEDGER_PG_BIN",)
    return {k: v for k, v in os.environ.items() if k in keep or not k.startswith(other)} | more


class Server:
    """The program, as a child process."""

    def __init__(self, command, env=None, log=None):
        # Its log is shown where a test fails, unless the test takes it.
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=env or clean_env(), stdout=subprocess.PIPE, stderr=log
        )
        self.ready, self.address = self._wait_until_ready()

    @classmethod
    def of_readme(cls, data_dir):
        """By the README's first command."""
        (command,) = (command for command in document_commands("README.md") if command.startswith("cargo run"))
        return cls([*cargo_run(command), "--listen", "127.0.0.1:0", "--data-dir", str(data_dir)])

    def _wait_until_ready(self):
        end = time.monotonic() + PATIENCE
        while not select.select([self.process.stdout], [], [], 1)[0]:
            if time.monotonic() > end:
                self.process.kill()
                pytest.fail("the server did not get ready")
        line = self.process.stdout.readline().decode().strip()
        ready = READY.fullmatch(line)
        assert ready, f"not a ready line: {line!r}, exit code {self.process.poll()}"
        return line, ready[1]

    def stop(self):
        """Its exit code after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


@pytest.fixture(scope="session", autouse=True)
def stubs():
    """A directory with the generated stubs."""
    with tempfile.TemporaryDirectory() as top:
        os.symlink(ROOT / "proto", pathlib.Path(top, "proto"))
        bin_dir = pathlib.Path(sys.executable).parent
        env = os.environ | {"PATH": f"{bin_dir}:{os.environ['PATH']}"}
        (command,) = (c for c in document_commands("docs/clients.md") if c.startswith("mkdir -p stubs"))
        subprocess.run(command, shell=True, check=True, cwd=top, env=env)
        sys.path.insert(0, f"{top}/stubs")
        yield f"{top}/stubs"


@pytest.fixture(scope="session")
def data_dir():
    """Where PostgreSQL's user may enter, which is another one when we are root."""
    top = tempfile.mkdtemp(prefix="chatledger-python-")
    os.chmod(top, 0o755)
    yield pathlib.Path(top, "data")
    shutil.rmtree(top)


@pytest.fixture(scope="session")
def server(data_dir):
    server = Server.of_readme(data_dir)
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="session")
def channel(server):
    with grpc.insecure_channel(server.address) as channel:
        yield channel
