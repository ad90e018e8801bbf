"""deploy/compose.yaml and deploy/Containerfile, as far as they can be looked at without running them."""

import json
import pathlib
import re
import subprocess

import pytest
import yaml
from conftest import DEPLOY, ROOT, clean_env, tool

COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
CONTAINERFILE = (DEPLOY / "Containerfile").read_text()


def config(*files, **env):
    files = [word for file in (DEPLOY / "compose.yaml", *files) for word in ("-f", file)]
    command = [tool("docker-compose"), *files, "--profile", "grafana", "config", "--format", "json"]
    return subprocess.run(command, capture_output=True, text=True, env=clean_env(**env))


def test_docker_compose_config():
    """Compose's own opinion, with its variables filled in."""
    done = config(POSTGRES_PASSWORD="0f0f")
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    assert services["chatledger"]["environment"]["DATABASE_URL"] == "postgresql://chatledger:0f0f@postgres:5432/chatledger?sslmode=disable"
    assert services["chatledger"]["read_only"] is True and services["migrate"]["cap_drop"] == ["ALL"]
    # Without a password there is nothing.
    done = config()
    assert done.returncode != 0 and "POSTGRES_PASSWORD isn't set" in done.stderr


def test_the_example_of_the_documents(tmp_path):
    """The file that Compose reads after ours gives it TLS."""
    (block,) = re.findall(r"^```yaml\n(services:.*?)^```$", (ROOT / "docs/deploy.md").read_text(), re.M | re.S)
    (tmp_path / "tls.yaml").write_text(block)
    done = config(tmp_path / "tls.yaml", POSTGRES_PASSWORD="0f0f", PWD=str(tmp_path))
    assert done.returncode == 0, done.stderr
    server = json.loads(done.stdout)["services"]["chatledger"]
    assert server["environment"]["CHATLEDGER_INSECURE"] == "false" and server["environment"]["CHATLEDGER_TLS_KEY"]
    # Compose takes what is relative from the first file's folder, and not from where it is called.
    assert [volume["source"] for volume in server["volumes"]] == [f"{tmp_path}/tls"]
    assert [port.get("host_ip") for port in server["ports"]] == [None]


def test_what_it_names_is_there():
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), f"{name} mounts {source}"
            else:
                assert source in COMPOSE["volumes"], f"{name} mounts {source}"
        for other in service.get("depends_on", {}):
            assert other in SERVICES
        if "build" in service:
            assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).exists()
            assert f" AS {service['build']['target']}\n" in CONTAINERFILE


def test_ports_are_open_to_this_machine_only():
    for service in SERVICES.values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")


def test_the_order():
    """The schema before the servers, and both after the database."""
    assert SERVICES["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert SERVICES["chatledger"]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    assert SERVICES["chatledger"]["environment"]["CHATLEDGER_MIGRATE"] == "check"


def test_prometheus_scrapes_the_admin_port():
    (job,) = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    name, port = target.split(":")
    assert SERVICES[name]["environment"]["CHATLEDGER_ADMIN_LISTEN"] == f"0.0.0.0:{port}"


def test_versions_are_pinned():
    """No image without a tag, and none whose tag moves."""
    for name, service in SERVICES.items():
        if "build" not in service:
            assert re.search(r":v?\d[\w.-]*$", service["image"]), name


def test_the_context_of_the_image_is_what_cargo_reads():
    """Every folder of a crate and every file that the manifest names is let through by .containerignore."""
    lines = (ROOT / ".containerignore").read_text().splitlines()
    allowed = {line[2:] for line in lines if line.startswith("!/")}
    assert "*" in lines and (ROOT / ".dockerignore").resolve() == ROOT / ".containerignore"
    for path in allowed:
        assert (ROOT / path).exists(), path
    needed = {"Cargo.toml", "Cargo.lock", "build.rs", "src", "crates", "migrations", "proto"}
    assert needed <= allowed
    # A test's path that isn't there is an error of the manifest.
    for path in re.findall(r'^path = "\.\./\.\./(.+)"$', (ROOT / "crates/cli/Cargo.toml").read_text(), re.M):
        assert path in allowed


def test_what_the_program_is_made_of_is_in_the_context(program):
    """As Cargo wrote it down when it built the program, if that is here."""
    written = program.with_suffix(".d")
    if not written.exists():
        pytest.skip("skipped: the program wasn't built by Cargo here")
    made_of = re.split(r"(?<!\\) ", written.read_text().split(": ", 1)[1].strip())
    inside = [pathlib.Path(path).relative_to(ROOT) for path in made_of if pathlib.Path(path).is_relative_to(ROOT)]
    allowed = [line[2:] for line in (ROOT / ".containerignore").read_text().splitlines() if line.startswith("!/")]
    missing = [path for path in inside if not any(path.is_relative_to(each) for each in allowed) and "target" not in path.parts]
    assert inside and not missing


def test_the_versions_agree():
    """Of the image, the chart, the wheel, and the program."""
    version = re.search(r'^\[workspace.package\]\nversion = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    assert set(re.findall(r"^ARG VERSION=(.+)$", CONTAINERFILE, re.M)) == {version}
    chart = yaml.safe_load((DEPLOY / "helm/chatledger/Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == version
    assert f'\nversion = "{version}"\n' in (DEPLOY / "wheel/pyproject.toml").read_text()
    rust = re.search(r'^rust-version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    assert f"/rust:{rust}-" in CONTAINERFILE
