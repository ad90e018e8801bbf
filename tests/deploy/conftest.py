"""What deploy/ has, tried out with the tools that read it. A tool that isn't here skips its tests, and the reason says which.

CHATLEDGER_BIN is the program (default: the one that `cargo build` makes), and CHATLEDGER_DEPLOY_TOOLS a folder that
`.ci/deploy-tools` has filled."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
TOOLS = pathlib.Path(os.environ.get("CHATLEDGER_DEPLOY_TOOLS") or ROOT / "target/deploy-tools")
# The Python package, with which the servers are called.
sys.path.insert(0, str(ROOT / "clients/python/src"))


def run(*command, **more):
    """What a command says on stdout; the test fails with all that it says where it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **more)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def tool(name):
    """The path of a tool: of the folder, beside our Python, or of the PATH."""
    places = [TOOLS / "bin", pathlib.Path(sys.executable).parent]
    found = shutil.which(name, path=os.pathsep.join([*map(str, places), os.environ["PATH"]]))
    if found is None:
        pytest.skip(f"skipped: no {name} here")
    return found


def clean_env(**more):
    """Our environment without settings of chatledger's."""
    other = ("CHATLEDGER_", "DATABASE_", "NEON_DATABASE_")
    return {k: v for k, v in os.environ.items() if not k.startswith(other)} | more


@pytest.fixture(scope="session")
def program():
    """The program."""
    found = pathlib.Path(os.environ.get("CHATLEDGER_BIN") or ROOT / "target/debug/chatledger")
    if not found.exists():
        pytest.skip(f"skipped: no program at {found}")
    return found.resolve()


@pytest.fixture(scope="session")
def stripped(program, tmp_path_factory):
    """The program without its symbols, alone in a folder: a tenth of the bytes to copy."""
    folder = tmp_path_factory.mktemp("program")
    run("strip", "-o", folder / "chatledger", program)
    return folder / "chatledger"


@pytest.fixture(scope="session")
def flags(program):
    """The flags of `serve` without the dashes: what a chatledger.toml may have."""
    return set(re.findall(r"^ +--([a-z-]+)", run(program, "serve", "--help", env=clean_env()), re.M))


READY = re.compile(r"chatledger \S+ serving on (\S+):(\d+) \(PostgreSQL ")


def wait_until_ready(process):
    """The port of the server that a process runs, once it says that it is ready."""
    line = process.stdout.readline()
    ready = READY.match(line)
    assert ready, f"not a ready line: {line!r}, exit code {process.poll()}"
    return int(ready[2])


def first_append(target, **more):
    """A session and its first message."""
    import chatledger

    with chatledger.Client(target, **more) as client:
        session = client.sessions.create(title="the first")
        assert client.messages.append(session.id, "user", "What does this mean?").seq == 1
