"""Forked processes: what they inherit says so, and nothing there waits for threads that are gone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

BEGIN = """
import os, signal, sys, chatledger
client = chatledger.Client(sys.argv[1])
session = client.sessions.create()
writer = client.messages.writer()

def in_child(use):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        # Whoever hangs is ended by this.
        signal.alarm(20)
        use()
        sys.stdout.flush()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

def refused(use):
    try:
        use()
    except chatledger.ForkedError as error:
        assert "after the fork" in str(error)
        return error
    raise AssertionError("not refused")
"""


def run(program: str, target: str) -> subprocess.CompletedProcess[str]:
    """Runs the program in a process of its own."""
    command = [sys.executable, "-c", BEGIN + program, target]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return result


CLOSE = """
futures = [writer.append(session.id, "user", str(n)) for n in range(3000)]
watch = client.messages.watch(session.id)
next(watch)

def child():
    for use in (writer.close, writer.flush, writer.pending, lambda: next(watch)):
        refused(use)

    def leave():
        with writer:
            pass

    def leave_by(error):
        with writer:
            raise error

    refused(leave)
    mine = chatledger.ForkedError("after the fork, said inside")
    assert refused(lambda: leave_by(mine)) is mine and mine.__context__ is None
    try:
        leave_by(KeyError("mine"))
    except KeyError:
        pass
    watch.close()
    client.close()
    client.close()

in_child(child)
writer.close()
assert [future.result().seq for future in futures] == list(range(1, 3001))
watch.close()
client.close()
"""


def test_closing_what_is_inherited_does_not_hang(chatledger_target: str) -> None:
    run(CLOSE, chatledger_target)


EXIT = r"""
import atexit, logging
logging.basicConfig()
# A server that never answers: all that was appended stays pending, in both processes.
writer = chatledger.Client("127.0.0.1:9").messages.writer()
writer.append(session.id, "user", "?")
# Marks are written whole: the writer's thread logs beside them, and print writes a line's end on its own.
sys.stderr.write("forking\n")
in_child(atexit._run_exitfuncs)
sys.stderr.write("forked\n")
"""


def test_a_forked_process_claims_no_loss_at_its_end(chatledger_target: str) -> None:
    _, forking = run(EXIT, chatledger_target).stderr.split("forking\n")
    child, parent = forking.split("forked\n")
    assert "may not be stored" not in child
    assert "1 messages may not be stored" in parent


READ = """
client.messages.append(session.id, "user", "text")
reading = iter(client.messages.list(session.id))
assert next(reading).content == "text"

def child():
    refused(lambda: next(reading))
    refused(lambda: list(client.messages.list(session.id)))

in_child(child)
assert list(reading) == [] and len(list(client.messages.list(session.id))) == 1
writer.close()
client.close()
"""


def test_a_history_is_not_read_on_in_a_forked_process(chatledger_target: str) -> None:
    run(READ, chatledger_target)
