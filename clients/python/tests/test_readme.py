"""The README, held to the package: every block of code in it is run, and its tables and links are compared."""

from __future__ import annotations

import ast
import inspect
import os
import pathlib
import re
import subprocess
import sys
from typing import Any

import pytest

import chatledger
from chatledger._rpc import AsyncResource, Resource

README = pathlib.Path(__file__).parents[1] / "README.md"
TEXT = README.read_text()
FENCES: list[tuple[str, str]] = re.findall(r"^```([^\n]*)\n(.*?)^```$", TEXT, re.M | re.S)
"""The blocks of code, each with its language."""


def kind_of(language: str, block: str) -> str:
    """How a block is run; a block of which no test knows that is refused."""
    if language == "python":
        for start, kind in (
            ("import chatledger\n", "program"),
            ("def test_", "test"),
            ("with client.messages.watch(", "watch"),
            ("from agents import ", "agents"),
        ):
            if block.startswith(start):
                return kind
    raise AssertionError(f"no test runs this block of {language or 'no language'}:\n{block}")


def blocks_of(kind: str) -> list[str]:
    return [block for language, block in FENCES if kind_of(language, block) == kind]


def test_every_block_is_run() -> None:
    kinds = [kind_of(language, block) for language, block in FENCES]
    assert [kinds.count(kind) for kind in ("program", "watch", "agents", "test")] == [5, 1, 1, 1]
    # No fence is written in another way, which the pattern above would pass over.
    assert TEXT.count("```") == 2 * len(FENCES) and "~~~" not in TEXT
    for other in [("sh", "ls\n"), ("python", "client.close()\n")]:
        with pytest.raises(AssertionError, match="no test runs"):
            kind_of(*other)


@pytest.mark.parametrize("program", blocks_of("program"))
def test_programs(chatledger_target: str, program: str) -> None:
    """A reader who copies them runs them as they are."""
    subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"CHATLEDGER_TARGET": chatledger_target},
        check=True,
        timeout=60,
    )


@pytest.mark.parametrize("block", blocks_of("watch"))
def test_the_watch(client: chatledger.Client, block: str) -> None:
    session = client.sessions.create()
    receipt, *_ = client.messages.append_batch(
        session.id, [chatledger.NewMessage("user", text) for text in ("seen", "stored")]
    )
    lines: list[tuple[int, str]] = []

    class Enough(Exception):
        """Ends the block, which goes on for ever by itself."""

    def print_line(seq: int, content: str) -> None:
        lines.append((seq, content))
        if content == "live":
            raise Enough
        client.messages.append(session.id, "assistant", "live")

    with pytest.raises(Enough):
        exec(block, {"client": client, "session": session, "receipt": receipt, "print": print_line})
    assert lines == [(2, "stored"), (3, "live")]


@pytest.mark.parametrize("block", blocks_of("agents"))
async def test_the_agent(
    client: chatledger.Client, chatledger_target: str, monkeypatch: pytest.MonkeyPatch, block: str
) -> None:
    agents = pytest.importorskip("agents")
    testing = pytest.importorskip("agents.testing")
    responses = pytest.importorskip("openai.types.responses")
    monkeypatch.setenv("CHATLEDGER_TARGET", chatledger_target)
    text = responses.ResponseOutputText(text="It means DDS.", type="output_text", annotations=[])
    answer = responses.ResponseOutputMessage(
        id="1", type="message", role="assistant", status="completed", content=[text]
    )
    names: dict[str, Any] = {"agent": agents.Agent(name="a", model=testing.ScriptedModel([[answer]]))}
    await eval(compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
    assert names["result"].final_output == "It means DDS."
    messages = client.messages.last(chatledger.session_id_of("user-123"), 2)
    assert [message.content for message in messages] == ["What does this mean?", "It means DDS."]


@pytest.mark.parametrize("block", blocks_of("test"))
def test_the_fixture(tmp_path: pathlib.Path, block: str) -> None:
    file = tmp_path / "test_bot.py"
    file.write_text(f"import chatledger\n\n{block}")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0 and "1 passed" in result.stdout, result.stdout + result.stderr


def test_the_table_of_methods() -> None:
    rows: list[tuple[str, str]] = re.findall(r"^\| `client\.(\w+)` \| (.*) \|$", TEXT, re.M)
    documented = {group: sorted(re.findall(r"`(\w+)`", names)) for group, names in rows}
    for client, base in (
        (chatledger.Client("127.0.0.1:9"), Resource),
        (chatledger.AsyncClient("127.0.0.1:9"), AsyncResource),
    ):
        groups = {name: group for name, group in vars(client).items() if isinstance(group, base)}
        assert documented == {
            name: sorted(method for method, _ in inspect.getmembers(group, callable) if not method.startswith("_"))
            for name, group in groups.items()
        }


def test_the_table_of_errors() -> None:
    _, _, section = TEXT.partition("## Errors, retries, deadlines\n")
    documented = set(re.findall(r"`(\w+Error)`", section.partition("\n## ")[0]))
    ours = {name for name in chatledger.__all__ if name.endswith("Error")}
    assert documented - {"ValueError", "TypeError"} == ours


def test_links() -> None:
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", TEXT) if "://" not in target]
    assert len(targets) >= 4
    for target in targets:
        assert (README.parent / target.partition("#")[0]).exists(), target
