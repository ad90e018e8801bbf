"""The server for tests: it starts or says why not, and ends with the tests."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time

import pytest

from chatledger import Client
from chatledger.testing import Server, ServerError, server

PATIENCE = 60.0
"""Seconds until a test gives up on what must come."""


def test_a_program_that_is_none_is_refused() -> None:
    for wrong in ("/nonexistent", "/etc/passwd", "/"):
        with pytest.raises(ServerError, match=wrong), server(binary=wrong):
            pass
    with pytest.raises(ServerError, match="ended with"), server(binary="/bin/false"):
        pass


def test_a_server_outlives_the_thread_that_started_it(own_server: Server) -> None:
    thread = threading.Thread(target=own_server.restart)
    thread.start()
    thread.join()
    assert own_server.process is not None
    with pytest.raises(subprocess.TimeoutExpired):
        own_server.process.wait(0.5)
    with Client(own_server.target) as client:
        client.sessions.create()


KILLED = """
import chatledger.testing, time
with chatledger.testing.server() as server:
    print(server.target, flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_a_server_ends_when_the_tests_are_killed(how: str) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        host, port = tests.stdout.readline().strip().split(":")
        getattr(tests, how)()
    end = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection((host, int(port))).close()
        except ConnectionError:
            return
        assert time.monotonic() < end, "the server goes on"
        time.sleep(0.05)
