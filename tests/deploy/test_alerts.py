"""Every alert that can be made to fire from outside is, by what it is about: a database that is stopped, tables that are locked, a
standby that is late, a disk that is full, a log that nobody reads. It takes minutes and root, and so runs by hand:

    CHATLEDGER_ALERTS=1 python -m pytest tests/deploy/test_alerts.py

ChatledgerPanicked, ChatledgerTaskRestarted and ChatledgerStreamErrorRatio need a mistake in the program; rules.test.yaml tries these."""

import contextlib
import os
import pathlib
import subprocess
import tempfile
import threading
import time

import pytest
from conftest import clean_env, wait_until_ready
from test_monitoring import ALERTS
from test_prometheus import Prometheus, eventually, free_port

pytestmark = pytest.mark.skipif(not os.environ.get("CHATLEDGER_ALERTS"), reason="skipped: it takes minutes; CHATLEDGER_ALERTS=1 runs it")
BIN = pathlib.Path(os.environ.get("CHATLEDGER_PG_BIN") or sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))[-1])
# The calls at a time, more than the pool has connections.
CALLERS = 16


def postgres(*command):
    """A program of PostgreSQL's, as its own user."""
    words = [str(BIN / command[0]), *map(str, command[1:])]
    done = subprocess.run(["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *words], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Cluster:
    """A PostgreSQL with a standby that is 40 s late."""

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        postgres("initdb", "-A", "trust", "-U", "postgres", "-D", folder / "primary")
        self.start("primary", self.port)
        standby = folder / "standby"
        postgres("pg_basebackup", "-R", "-D", standby, "-d", f"host={folder} port={self.port} user=postgres application_name=late")
        with (standby / "postgresql.auto.conf").open("a") as settings:
            settings.write("recovery_min_apply_delay = '40s'\n")
        self.start("standby", free_port())

    def start(self, which, port):
        settings = f"-p {port} -k {self.folder} -c listen_addresses=''"
        postgres("pg_ctl", "-w", "-l", self.folder / f"{which}.log", "-D", self.folder / which, "-o", settings, "start")

    def stop(self, which):
        postgres("pg_ctl", "-w", "-m", "immediate", "-D", self.folder / which, "stop")

    @property
    def url(self):
        return f"postgres://postgres@/postgres?host={self.folder}&port={self.port}"

    @contextlib.contextmanager
    def locked(self, table):
        """The table, locked by somebody else."""
        import psycopg

        with psycopg.connect(self.url) as connection:
            connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield


class Callers:
    """Clients that append and read, whatever comes back, until they are stopped."""

    def __init__(self, target):
        import chatledger

        self.target, self.stopped = target, threading.Event()
        with chatledger.Client(target) as client:
            self.session = client.sessions.create(title="alarms").id
        self.threads = [threading.Thread(target=self.call, args=(number,), daemon=True) for number in range(CALLERS)]
        for thread in self.threads:
            thread.start()

    def call(self, number):
        import chatledger

        with chatledger.Client(self.target, timeout=4) as client:
            while not self.stopped.is_set():
                with contextlib.suppress(chatledger.ChatledgerError):
                    if number % 2:
                        client.sessions.get(self.session)
                    else:
                        client.messages.append(self.session, "user", "Is anybody there?")
                time.sleep(0.01)

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="chatledger-alerts.") as path:
        subprocess.run(["chown", "postgres", path], check=True)
        pathlib.Path(path).chmod(0o755)
        yield pathlib.Path(path)


@pytest.fixture
def small_disk(folder):
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m,mode=755", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def serve(program, admin, *flags, **more):
    command = [program, "serve", "--listen", "127.0.0.1:0", "--admin-listen", admin, *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **more)


def test_every_alert_fires(program, folder, small_disk):
    fired = set()

    def fires(*names):
        eventually(lambda: fired.update(prometheus.firing()) or fired >= set(names), f"{names} after {fired}")

    admin = f"127.0.0.1:{free_port()}"
    prometheus_folder = folder / "prometheus"
    prometheus_folder.mkdir()
    prometheus = Prometheus(prometheus_folder, admin)
    running = [prometheus.process]
    cluster = Cluster(folder)
    try:
        fires("ChatledgerAbsent")
        # A log that says everything, to nobody.
        flags = ["--database-url", cluster.url, "--pool-size", "1", "--pool-wait-timeout", "1s"]
        server = serve(program, admin, *flags, env=clean_env(RUST_LOG="trace"), stderr=subprocess.PIPE)
        running.append(server)
        callers = Callers(f"127.0.0.1:{wait_until_ready(server)}")
        fires("ChatledgerLogLinesDropped")
        with cluster.locked("chat_sessions"):
            fires("ChatledgerPoolWaits", "ChatledgerPoolTimeouts", "ChatledgerShedding", "ChatledgerAppendsLate", "ChatledgerAppendsStuck")
        fires("ChatledgerReplicaLag")
        cluster.stop("primary")
        fires("ChatledgerNotReady", "ChatledgerErrorRatio")
        callers.stop()
        server.kill()
        fires("ChatledgerDown")
        embedded = serve(program, admin, "--data-dir", small_disk / "data", env=clean_env(), stderr=subprocess.DEVNULL)
        running.append(embedded)
        wait_until_ready(embedded)
        free = os.statvfs(small_disk)
        with (small_disk / "other").open("wb") as other:
            other.write(bytes(int(free.f_bavail * free.f_frsize - 0.03 * free.f_blocks * free.f_frsize)))
        fires("ChatledgerDiskFilling", "ChatledgerDiskFull")
    finally:
        for process in running:
            process.kill()
            process.wait()
        for which in ("standby", "primary"):
            with contextlib.suppress(AssertionError):
                cluster.stop(which)
    assert set(ALERTS) - fired == {"ChatledgerPanicked", "ChatledgerStreamErrorRatio", "ChatledgerTaskRestarted"}
