"""The settings: where a client connects, with what, and in which process."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

import chatledger
from chatledger import TLS, Client
from chatledger._settings import Settings, settings
from chatledger.errors import TRANSIENT


def made(target: str | None = None, **arguments: object) -> Settings:
    defaults: dict[str, object] = dict.fromkeys(
        ["api_key", "token", "tls", "root_certificates", "private_key", "certificate_chain"]
    )
    return settings(target, **(defaults | {"timeout": 1.0} | arguments))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "target", "secure"),
    [
        (None, "127.0.0.1:50051", False),
        ("example.com:1", "example.com:1", False),
        ("http://example.com:1/", "example.com:1", False),
        ("https://example.com", "example.com:443", True),
        ("https://[::1]", "[::1]:443", True),
        ("https://example.com:8443", "example.com:8443", True),
        ("HTTPS://example.com/", "example.com:443", True),
        ("http://127.0.0.1", "127.0.0.1:50051", False),
        ("127.0.0.1", "127.0.0.1:50051", False),
        ("localhost", "localhost:50051", False),
        ("::1", "[::1]:50051", False),
        ("[::1]", "[::1]:50051", False),
        ("[fe80::1%eth0]:1", "[fe80::1%eth0]:1", False),
        ("my_service.default:1", "my_service.default:1", False),
        ("dns:example.com:1", "dns:example.com:1", False),
        ("dns:///example.com:1", "dns:///example.com:1", False),
        ("ipv4:10.0.0.1:1,10.0.0.2:1", "ipv4:10.0.0.1:1,10.0.0.2:1", False),
        ("unix:///tmp/x", "unix:///tmp/x", False),
    ],
)
def test_targets(given: str | None, target: str, secure: bool) -> None:
    found = made(given)
    assert (found.target, found.credentials is not None) == (target, secure)


@pytest.mark.parametrize(
    "given",
    ["grpc://x:1", "http://x:1/path", "https://x/?a=b", "http://me@x:1", "x/y", "x:1/", "x:", ":1", "x:y", "x:0"]
    + ["x:65536", "x:1\n", "http://", "a b:1", "1:2:3", "http://https://x"],
)
def test_what_is_no_target_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="target must be host:port"):
        made(given)


@pytest.mark.parametrize("given", ["secret\n", " secret", "se\tcret", "se\x00cret", "sécret", "secret\r"])
def test_a_key_that_cannot_be_sent_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="api_key") as caught:
        made(api_key=given)
    assert "cret" not in str(caught.value)


def test_what_grpc_refuses_itself_is_not_tried_again() -> None:
    """No call gets so far; if one did, a watch would go on for ever."""
    broken = dataclasses.replace(made(), api_key="secret\n")
    # An older grpc raises a ValueError.
    with Client.of_settings(broken) as client, pytest.raises((chatledger.UnauthenticatedError, ValueError)) as caught:
        client.sessions.create()
    assert getattr(caught.value, "code", "") not in TRANSIENT


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATLEDGER_TARGET", "localhost:1")
    monkeypatch.setenv("CHATLEDGER_API_KEY", "secret")
    found = made()
    assert found.target == "localhost:1"
    assert list(found.metadata or ()) == [("authorization", "Bearer secret")]
    assert "secret" not in repr(found)
    assert made("other:1", api_key="mine", insecure=True).api_key == "mine"
    given = made("other:1", token="mine", insecure=True)
    assert given.api_key is None and given.tokens is not None and given.tokens.get() == "mine"
    monkeypatch.setenv("CHATLEDGER_TOKEN", "a-token")
    with pytest.raises(ValueError, match="CHATLEDGER_API_KEY and CHATLEDGER_TOKEN are both given") as caught:
        made()
    assert "secret" not in str(caught.value) and "a-token" not in str(caught.value)
    monkeypatch.delenv("CHATLEDGER_API_KEY")
    found = made()
    assert list(found.bearer().metadata() or ()) == [("authorization", "Bearer a-token")]
    assert "a-token" not in repr(found)


def test_a_key_is_not_sent_in_clear_text() -> None:
    for credentials in ({"api_key": "secret"}, {"token": "secret"}, {"token": lambda: "secret"}):
        named = next(iter(credentials))
        for tls in (None, False):
            with pytest.raises(ValueError, match=f"refusing to send {named} to example.com:1 in clear text") as caught:
                made("example.com:1", tls=tls, **credentials)
            assert "secret" not in str(caught.value)
        assert made("example.com:1", insecure=True, **credentials).credentials is None
    assert made("https://example.com", api_key="secret").credentials is not None
    for local in ("127.0.0.1:1", "[::1]:1", "localhost:1", "unix:/tmp/x"):
        assert made(local, api_key="secret").api_key == "secret"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"timeout": 0}, "timeout"),
        ({"target": "https://x", "tls": False}, "tls"),
        ({"root_certificates": b"x", "tls": False}, "tls"),
        ({"private_key": b"x"}, "certificate_chain"),
        ({"root_certificates": b"x", "tls": TLS()}, "tls"),
        ({"api_key": "x", "token": "y"}, "api_key and token"),
    ],
)
def test_contradictions_are_refused(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        made(**arguments)


def test_a_closed_client_says_so(chatledger_target: str) -> None:
    client = Client(chatledger_target)
    view = client.with_timeout(1.0)
    client.close()
    client.close()
    for closed in (client, view):
        with pytest.raises(chatledger.ClosedError, match="client is closed"):
            closed.sessions.create()


def test_closing_ends_the_calls_of_other_threads() -> None:
    with socket.create_server(("127.0.0.1", 0)) as hangs, ThreadPoolExecutor(1) as pool:
        client = Client(f"127.0.0.1:{hangs.getsockname()[1]}")
        call = pool.submit(client.sessions.create)
        # The client has connected, and gets no answer.
        hangs.accept()[0].close()
        client.close()
        assert isinstance(call.exception(60), chatledger.ClosedError)


FORK = """
import os, sys, chatledger
client = chatledger.Client(sys.argv[1])
writer = client.messages.writer()
session = client.sessions.create()
writer.append(session.id, "user", "before").result()
read, pipe = os.pipe()
if os.fork() == 0:
    for use in (client.sessions.create, lambda: writer.append(session.id, "user", "forked")):
        try:
            use()
        except chatledger.ForkedError as error:
            assert "after the fork" in str(error)
        else:
            os._exit(1)
    mine = chatledger.Client(sys.argv[1])
    os.write(pipe, chatledger.uuid7().encode())
    os._exit(0 if mine.sessions.get(session.id).last_seq == 1 else 2)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
assert os.read(read, 36).decode()[19:] not in {chatledger.uuid7()[19:] for _ in range(100)}
assert writer.append(session.id, "user", "after").result().seq == 2
writer.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_needs_its_own(chatledger_target: str) -> None:
    env = os.environ | {"GRPC_ENABLE_FORK_SUPPORT": "1"}
    result = subprocess.run(
        [sys.executable, "-c", FORK, chatledger_target], capture_output=True, text=True, timeout=60, env=env
    )
    assert result.returncode == 0, result.stderr
