"""The examples are run as a reader runs them."""

from __future__ import annotations

import json
import os
import pathlib
import re
import runpy
import subprocess
import sys
import threading
import time

import httpx
import pytest
import uvicorn

import chatledger

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"


def run(target: str, name: str, *arguments: str, lines: str = "") -> str:
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        env=os.environ | {"CHATLEDGER_TARGET": target},
        input=lines,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_chatbot_cites_its_sources(chatledger_target: str) -> None:
    out = run(chatledger_target, "rag_chatbot.py", "How do nodes talk?", "--selected", "ROS 2 uses DDS")
    assert "> ROS 2 uses DDS" in out
    assert "assistant: ROS 2 uses DDS for communication." in out
    assert re.search(r"\[1\] Module 1: ROS 2, chunk_002 \(\d", out)


@pytest.mark.parametrize("end", ["", "\n", "\nnot asked\n"])
def test_the_chatbot_asks_until_the_end(chatledger_target: str, end: str) -> None:
    out = run(chatledger_target, "rag_chatbot.py", lines=f"How do nodes talk?\nWhat is Gazebo?\n{end}")
    assert out.count("? ") == 3 and "DDS delivers messages" in out and "Gazebo simulates robots" in out


def test_the_worker_pool_stores_all(chatledger_target: str) -> None:
    out = run(chatledger_target, "worker_pool.py", "--messages", "2001", "--workers", "4")
    assert out == "stored 2,001 messages\n"


def test_the_page_follows_a_session(
    client: chatledger.Client, session_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATLEDGER_TARGET", client.target)
    app = runpy.run_path(str(EXAMPLES / "live_page.py"))["app"]
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        end = time.monotonic() + 30
        while not server.started:
            assert time.monotonic() < end and thread.is_alive(), "the page did not start"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        assert "EventSource" in httpx.get(f"{url}/{session_id}").text
        assert httpx.get(f"{url}/{chatledger.uuid7()}/events").status_code == 404
        client.messages.append(session_id, "user", "first")
        client.messages.append(session_id, "user", "second")
        with httpx.stream("GET", f"{url}/{session_id}/events", headers={"Last-Event-ID": "1"}, timeout=30) as answer:
            lines = (line for line in answer.iter_lines() if line)
            assert next(lines) == "id: 2"
            assert json.loads(next(lines).removeprefix("data: "))["content"] == "second"
            client.messages.append(session_id, "assistant", "live")
            assert next(lines) == "id: 3"
            assert json.loads(next(lines).removeprefix("data: "))["role"] == "assistant"
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


def test_the_page_ends_while_one_is_open(client: chatledger.Client, session_id: str) -> None:
    """The page is started by the command in the example's first lines."""
    source = (EXAMPLES / "live_page.py").read_text()
    command = re.search(r"(uvicorn\b.*) --app-dir examples live_page:app", source)
    assert command is not None
    arguments = [*command[1].split(), "--app-dir", str(EXAMPLES), "--port", "0", "live_page:app"]
    env = os.environ | {"CHATLEDGER_TARGET": client.target}
    client.messages.append(session_id, "user", "first")
    with subprocess.Popen([sys.executable, "-m", *arguments], env=env, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            url = next(found[0] for line in server.stderr if (found := re.search(r"http://[\d.]+:\d+", line)))
            with httpx.stream("GET", f"{url}/{session_id}/events", timeout=30) as answer:
                # The iterator is kept: the connection is closed with it.
                lines = answer.iter_lines()
                assert next(lines) == "id: 1"
                server.terminate()
                server.communicate(timeout=30)
        finally:
            server.kill()
