"""A chatledger server for tests: the real program, on a database of its own that is gone afterwards.

As a context manager::

    with chatledger.testing.server() as server:
        client = chatledger.Client(server.target)

As pytest fixtures, which come with the package: ``chatledger_server`` (one a test session) and ``chatledger_target``.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future

_READY = re.compile(r"chatledger \S+ serving on (\S+) ")

START_TIMEOUT = 60.0
"""Seconds until the server must be ready. A first start takes about one; a busy machine's takes longer."""

STOP_TIMEOUT = 30.0
"""Seconds until the server must have ended: longer than its own grace for what is under way."""

_LAUNCHER = """
import os, sys
try:
    import ctypes, signal
    # PR_SET_PDEATHSIG
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
except (ImportError, OSError, AttributeError):
    pass
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
"""The launcher of the server: it has the system end the server when its parent is killed, and becomes the server.

It is a program of its own, since subprocess' preexec_fn runs gRPC's fork handlers, and warns, in a process with threads.
"""


class ServerError(RuntimeError):
    """The server isn't found, or didn't start; the text has the end of its log."""


class Server:
    """A running server; :func:`server` makes one."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], log: pathlib.Path) -> None:
        self._command = list(command)
        self._env = dict(env)
        self.log = log
        """The file that the server's log goes to."""
        self.target = ""
        """The address that the server answers on, as ``host:port``; the same again after :meth:`start`."""
        self.process: subprocess.Popen[str] | None = None
        """The program; None while it is stopped."""
        self._ended = threading.Event()

    def start(self) -> None:
        """Starts it, on the port that it had before, if any, and waits until it is ready."""
        command = [*self._command, "--listen", self.target or "127.0.0.1:0"]
        self.process = self._launch(command)
        assert self.process.stdout is not None  # it was asked for
        end = time.monotonic() + START_TIMEOUT
        while not select.select([self.process.stdout], [], [], 0.1)[0]:
            if time.monotonic() > end:
                self.kill()
                raise ServerError(f"the server did not get ready within {START_TIMEOUT} s\n{self._tail()}")
        ready = _READY.match(self.process.stdout.readline())
        if ready is None:
            code = self.process.wait(STOP_TIMEOUT)
            raise ServerError(f"the server ended with {code}\n{self._tail()}")
        self.target = ready[1]

    def _launch(self, command: Sequence[str]) -> subprocess.Popen[str]:
        """Starts the program, from a thread that lives as long: on Linux, the program ends with that thread."""
        launched: Future[subprocess.Popen[str]] = Future()
        self._ended = ended = threading.Event()
        if sys.platform == "linux" and sys.executable:
            command = [sys.executable, "-S", "-c", _LAUNCHER, str(os.getpid()), *command]

        def run() -> None:
            try:
                with self.log.open("ab") as log:
                    launched.set_result(
                        subprocess.Popen(
                            command, env=self._env, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
                        )
                    )
            except OSError as error:
                launched.set_exception(ServerError(f"the server can't be started: {error}"))
            else:
                ended.wait()

        threading.Thread(target=run, name="chatledger-server", daemon=True).start()
        return launched.result()

    def stop(self) -> None:
        """Ends it as a deployment would: SIGTERM, and what is under way may finish."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it as a crash would: SIGKILL."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stops it and starts it again, on the same port and database."""
        self.stop()
        self.start()

    def _end(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None
        self._ended.set()

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]


def find_binary() -> str:
    """The program: by the variable ``CHATLEDGER_BIN``, in the PATH, or in the ``target`` folder of a checkout that this
    package, or the current directory, is in."""
    given = os.environ.get("CHATLEDGER_BIN")
    if given:
        if not os.access(given, os.X_OK):
            raise ServerError(f"CHATLEDGER_BIN is not a program: {given}")
        return given
    found = shutil.which("chatledger")
    if found:
        return found
    here = [pathlib.Path(__file__).resolve(), pathlib.Path.cwd() / "x"]
    for folder in (parent for path in here for parent in path.parents):
        for kind in ("release", "debug"):
            path = folder / "target" / kind / "chatledger"
            if path.is_file() and (folder / "Cargo.toml").is_file():
                return str(path)
    raise ServerError("no chatledger found: put it on the PATH, or name it by CHATLEDGER_BIN")


@contextlib.contextmanager
def server(
    *, binary: str | None = None, database_url: str | None = None, args: Sequence[str] = ()
) -> Iterator[Server]:
    """Starts a server on an embedded PostgreSQL with an empty database, and stops it at the end.

    Raises :class:`ServerError` with the server's own words where it doesn't start.

    :param binary: the program; default: see :func:`find_binary`.
    :param database_url: a PostgreSQL to use instead; it is left as the test leaves it.
    :param args: more flags of ``chatledger serve``.
    """
    # The flags below are all that counts: the environment may speak of some other server.
    other = ("CHATLEDGER_", "DATABASE_", "NEON_DATABASE_")
    env = {k: v for k, v in os.environ.items() if k == "CHATLEDGER_PG_BIN" or not k.startswith(other)}
    program = shutil.which(binary or find_binary())
    if program is None:
        raise ServerError(f"this is not a program: {binary}")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="chatledger-"))
    # As root, PostgreSQL runs as another user, who has to get in.
    folder.chmod(0o755)
    command = [program, "serve", *args]
    command += ["--database-url", database_url] if database_url else ["--data-dir", str(folder / "data")]
    made = Server(command, env, folder / "server.log")
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)
