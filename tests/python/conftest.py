"""Starts the server by the README's own command, with stubs generated as the README says."""

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

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
READY = re.compile(r"chatledger \S+ serving on (\S+) \(PostgreSQL \S+, embedded at .+\)")
# What `cargo run` builds: the README's release, or in CI what `cargo test` has built already.
PROFILE = os.environ.get("CHATLEDGER_CARGO_PROFILE", "release")
# A first start that has to build the program takes minutes.
PATIENCE = 900


def blocks(language):
    """The README's code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.M | re.S)


def line_of_readme(start):
    """The first line of the README's shell blocks that starts so, without its comment."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return next(line for line in lines if line.startswith(start)).split("  #")[0].strip()


def cargo_run(command):
    """A `cargo run --release …` of the README with our profile."""
    return [f"--profile={PROFILE}" if word == "--release" else word for word in shlex.split(command)]


class Server:
    """The program, as a child process."""

    def __init__(self, data_dir):
        command = cargo_run(line_of_readme("cargo run"))
        command += ["--listen", "127.0.0.1:0", "--data-dir", str(data_dir)]
        other = ("CHATLEDGER_", "DATABASE_", "NEON_DATABASE_")
        keep = ("CHATLEDGER_PG_BIN",)
        env = {k: v for k, v in os.environ.items() if k in keep or not k.startswith(other)}
        self.process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE)
        self.address = self._wait_until_ready()

    def _wait_until_ready(self):
        end = time.monotonic() + PATIENCE
        while not select.select([self.process.stdout], [], [], 1)[0]:
            if time.monotonic() > end:
                self.process.kill()
                pytest.fail("the server did not get ready")
        line = self.process.stdout.readline().decode()
        ready = READY.fullmatch(line.strip())
        assert ready, f"not a ready line: {line!r}, exit code {self.process.poll()}"
        return ready[1]

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
        command = line_of_readme("mkdir -p stubs")
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
    server = Server(data_dir)
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="session")
def channel(server):
    with grpc.insecure_channel(server.address) as channel:
        yield channel
