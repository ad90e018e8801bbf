"""The images: built by the Containerfile around the program that is built already, and run as they are meant to be run."""

import os
import re
import shutil
import stat
import time

import pytest
from conftest import ROOT, TOOLS, first_append, run, tool
from containers import Container, images  # noqa: F401  a fixture
from postgresql import cluster

MEMORY = 128 << 20
# The smallest budget that a largest request fits into (eight times --max-request-bytes), half of what the container has.
BUDGET = {"CHATLEDGER_MEMORY_BUDGET": str(64 << 20)}
# From nothing to the first append, at most, in seconds.
PATIENCE = 60


def archive(name):
    """A base that .ci/deploy-tools has made."""
    path = TOOLS / f"{name}.tar"
    if not path.exists():
        pytest.skip(f"skipped: no {path.name}, which mmdebstrap makes")
    return path


@pytest.fixture(scope="module")
def context(stripped, tmp_path_factory):
    """What the stages around a program that is built already are made of: the program alone."""
    folder = tmp_path_factory.mktemp("context")
    shutil.copy(stripped, folder / "chatledger")
    return folder


@pytest.fixture(scope="module")
def server(images, context):  # noqa: F811
    images.from_archive(archive("base"), "localhost/base")
    return images.build(context, "server-prebuilt", "localhost/server", BASE="localhost/base")


@pytest.fixture(scope="module")
def trial_base(images):  # noqa: F811
    images.from_archive(archive("trial"), "localhost/trial-base")
    return "localhost/trial-base"


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    """A certificate and its key, which the user of the container can read."""
    folder = tmp_path_factory.mktemp("tls")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    names = ["-keyout", folder / "tls.key", "-out", folder / "tls.crt"]
    run(tool("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", *names, *subject)
    for path in (folder, folder / "tls.key"):
        os.chown(path, 65532, 65532)
    return folder


def test_what_the_image_says(server):
    config = server.config
    assert config["Entrypoint"] == ["/chatledger"] and config["Cmd"] == ["serve"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", config["User"]), "Kubernetes knows a user that isn't root by its number"
    version = re.search(r'^version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    assert labels["title"] == "chatledger" and labels["version"] == version and labels["licenses"]
    assert {"50051/tcp", "9464/tcp"} <= set(config["ExposedPorts"])
    assert not [entry for entry in config["Env"] if "INSECURE" in entry]


def test_what_is_in_the_image(server):
    files = server.files()
    # No shell, no package manager, nothing else that could be run.
    assert not [path for path in files if path.parent.name in ("bin", "sbin")]
    program = (server.root / "chatledger").lstat()
    assert (program.st_uid, program.st_gid, stat.S_IMODE(program.st_mode)) == (0, 0, 0o755)
    assert "BEGIN CERTIFICATE" in (server.root / "etc/ssl/certs/ca-certificates.crt").read_text()
    for path, file in files.items():
        mode = os.lstat(file).st_mode
        assert not (stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID)), path
    assert sum(os.lstat(file).st_size for file in files.values()) < 200 << 20


def test_it_refuses_to_serve_in_the_clear(server, tmp_path):
    """Its own addresses are beyond loopback."""
    container = Container(server, tmp_path, memory=MEMORY, env=BUDGET | {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x"})
    said, code = container.wait()
    assert code == 1 and said == "" and "--insecure" in container.log.read_text()


def test_from_nothing_to_the_first_append(server, secrets, tmp_path):
    """The schema, a key, a server with TLS and credentials, and a client: as a user that isn't root, with 128 MiB."""
    mounts = [(secrets, "/etc/chatledger", "ro")]
    with cluster() as url:
        began = time.monotonic()
        env = BUDGET | {"DATABASE_URL": url, "CHATLEDGER_LISTEN": "0.0.0.0:0"}
        env |= {"CHATLEDGER_TLS_CERT": "/etc/chatledger/tls.crt", "CHATLEDGER_TLS_KEY": "/etc/chatledger/tls.key"}
        migrated = Container(server, tmp_path, ["migrate", "up"], MEMORY, env)
        assert migrated.wait()[1] == 0, migrated.log.read_text()
        command = ["key", "create", "--name", "first", "--scopes", "write"]
        key, code = Container(server, tmp_path, command, MEMORY, env).wait()
        assert code == 0 and key.startswith("cl_")
        running = Container(server, tmp_path, ["serve"], MEMORY, env, mounts)
        try:
            import chatledger

            tls = chatledger.TLS(ca=str(secrets / "tls.crt"))
            first_append(f"localhost:{running.port()}", api_key=key.strip(), tls=tls)
            assert time.monotonic() - began < PATIENCE
            peak = running.peak_memory()
            assert peak is None or peak <= MEMORY
            print(f"{time.monotonic() - began:.1f} s to the first append, {(peak or 0) >> 20} MiB at most")
        finally:
            code = running.stop()
        assert code == 0


def test_the_stages_that_compile(images, server, trial_base, stripped, tmp_path):  # noqa: F811
    """With something in the place of Cargo that has the program already: all that they do besides, from the tree itself."""
    (tmp_path / "cargo").write_text(CARGO)
    (tmp_path / "strip").write_text("#!/bin/sh\n")
    shutil.copy(stripped, tmp_path / "built")
    for name in ("cargo", "strip", "built"):
        (tmp_path / name).chmod(0o755)
    container = images("from", "--pull-never", trial_base)
    images("add", "--quiet", container, tmp_path, "/usr/local/bin/")
    images("commit", "--quiet", container, "localhost/rust")
    image = images.build(ROOT, "server", "localhost/compiled", RUST="localhost/rust", BASE="localhost/base")
    assert (image.root / "chatledger").read_bytes() == stripped.read_bytes()
    # crun leaves behind in the other one where it mounted something.
    assert set(image.files()) <= set(server.files()) and image.config == server.config


# What is written there is what would be compiled.
CARGO = """#!/bin/sh
[ "$*" = "build --release --locked -p chatledger-cli" ] && [ -f Cargo.lock ] && [ -f crates/cli/src/main.rs ] || exit 1
[ ! -e deploy ] && [ ! -e .git ] && mkdir -p target/release && cp /usr/local/bin/built target/release/chatledger
"""


def test_the_trial(images, context, trial_base, tmp_path):  # noqa: F811
    """With a PostgreSQL inside, and what it stores in a volume: there again in the next container."""
    image = images.build(context, "trial-prebuilt", "localhost/trial", TRIAL_BASE=trial_base)
    assert "/data" in image.config["Volumes"]
    volume, temporary = tmp_path / "volume", tmp_path / "tmp"
    for folder, mode in ((volume, 0o700), (temporary, 0o777)):
        folder.mkdir()
        folder.chmod(mode)
    os.chown(volume, 65532, 65532)
    mounts = [(volume, "/data", "rw"), (temporary, "/tmp", "rw")]
    env = {"CHATLEDGER_LISTEN": "127.0.0.1:0"}
    for _ in range(2):
        began = time.monotonic()
        running = Container(image, tmp_path, None, 3 * MEMORY, env, mounts)
        try:
            first_append(f"127.0.0.1:{running.port()}")
            assert time.monotonic() - began < PATIENCE
            print(f"{time.monotonic() - began:.1f} s to the first append")
        finally:
            code = running.stop()
        assert code == 0
    assert (volume / "chatledger").is_dir()
