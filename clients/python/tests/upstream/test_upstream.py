"""The tests that the frameworks publish, run against the adapters.

They are fetched from PyPI, in the version that is installed (of langchain-postgres: a fixed one), and never kept. What
can't apply is left out by name, each with the reason.
"""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import re
import subprocess
import sys
import tarfile

import pytest

HERE = pathlib.Path(__file__).parent

LANGCHAIN_POSTGRES = "0.0.19"
"""The package needn't be installed: only its tests are run."""

AGENTS_TESTS = [
    "tests/memory/test_session.py",
    "tests/memory/test_session_limit.py",
    "tests/memory/test_session_context_wrapper.py",
    "tests/memory/test_session_persistence_sanitize.py",
    "tests/test_agent_runner.py",
    "tests/test_agent_runner_streamed.py",
    "tests/test_max_turns.py",
    "tests/test_native_tool_failure_history.py",
    "tests/test_programmatic_tool_calling.py",
    "tests/test_run_impl_resume_paths.py",
    "tests/test_soft_cancel.py",
    "tests/test_tool_batch_failure_history.py",
    "tests/test_tool_failure_boundaries.py",
]

# The tests of how the SDK's class uses SQLite, by parts of their names.
AGENTS_LEFT_OUT = [
    # SQLite's connections and threads.
    "close_closes_worker_thread_connections",
    "reaps_connections_from_exited_worker_threads",
    "closes_retired_connections_before_the_next_allocation",
    "keeps_connections_of_live_worker_threads",
    "close_retries_quarantined_connection",
    "closed_rejects_empty_add_items",
    # SQLite's locks, and a failure that a trigger or a connection of SQLite's makes.
    "file_lock_is_shared_across_instances",
    "failed_add_items_releases_write_lock",
    "failed_clear_session_rolls_back",
    "failed_pop_item_releases_write_lock",
    "rollback_failure_evicts_connection",
    "post_commit_cancellation_propagates_after_known_outcome",
    # Rows that the test makes unreadable by SQL.
    "pop_item_skips_corrupt_most_recent",
    "pop_item_returns_none_after_dropping_only_corrupt_rows",
    "get_items_limit_skips_corrupt_newest_rows",
    "get_items_session_settings_limit_skips_corrupt_rows",
    # A private hook by which the SDK's own stores replace what they compact.
    "handoff_resume_after_cancelled_compaction_commits",
]


def fetch(package: str, version: str, folder: pathlib.Path) -> pathlib.Path:
    """The source distribution, unpacked."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-build-isolation", "--no-binary", ":all:", "--dest", str(folder), f"{package}=={version}"]
    subprocess.run(command, check=True, timeout=300)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return next(path for path in folder.iterdir() if path.is_dir())


def run(tests: list[str], folder: pathlib.Path, plugin: str, target: str, *arguments: str) -> int:
    """Runs tests in a process of their own; how many have passed."""
    env = os.environ | {"CHATLEDGER_TARGET": target, "PYTHONPATH": str(HERE), "OPENAI_API_KEY": "none"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", plugin, "-p", "no:cacheprovider", "--tb=short"]
    ran = subprocess.run(
        [*command, *arguments, *tests], cwd=folder, env=env, capture_output=True, text=True, timeout=900
    )
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-2000:]
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed is not None
    return int(passed[1])


def test_openai_agents(chatledger_target: str, tmp_path: pathlib.Path) -> None:
    pytest.importorskip("agents")
    pytest.importorskip("inline_snapshot", reason="the SDK's tests need it")
    folder = fetch("openai-agents", importlib.metadata.version("openai-agents"), tmp_path)
    left_out = " and ".join(f"not {name}" for name in AGENTS_LEFT_OUT)
    assert run(AGENTS_TESTS, folder, "openai_agents_plugin", chatledger_target, "-k", left_out) > 1000


def test_langchain_postgres(chatledger_target: str, tmp_path: pathlib.Path) -> None:
    pytest.importorskip("langchain_core")
    folder = fetch("langchain-postgres", LANGCHAIN_POSTGRES, tmp_path)
    tests = ["tests/unit_tests/v1/test_chat_histories.py"]
    # The package's own configuration isn't used: it is for plugins that needn't be here.
    options = ["-c", os.devnull, "--rootdir", str(folder), "-o", "asyncio_mode=auto"]
    assert run(tests, folder, "langchain_postgres_plugin", chatledger_target, *options) == 2
