"""A real Prometheus, with deploy's own configuration and rules, that scrapes a real server under load, and notices its end."""

import json
import re
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request

import pytest
from conftest import DEPLOY, ROOT, clean_env, run, tool, wait_until_ready

PROMETHEUS = DEPLOY / "prometheus"
# Longer than anything here takes on a busy machine.
PATIENCE = 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def eventually(ask, what):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = ask()
        if found:
            return found
        time.sleep(0.1)
    pytest.fail(f"never happened: {what}")


class Prometheus:
    """Prometheus on a port of its own. It scrapes, and looks at the rules, every second, and rules look back 20 s and don't wait."""

    def __init__(self, folder, target):
        config = (PROMETHEUS / "prometheus.yml").read_text()
        config = re.sub(r"_interval: \d+s", "_interval: 1s", config).replace("chatledger:9464", target)
        rules = re.sub(r"\n +for: \w+", "", (PROMETHEUS / "rules.yaml").read_text())
        # What was a minute ago counts no more.
        rules = re.sub(r"\[\d+m\]", "[20s]", rules)
        (folder / "prometheus.yml").write_text(config)
        (folder / "rules.yaml").write_text(rules)
        self.port = free_port()
        self.process = subprocess.Popen(
            [tool("prometheus"), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{self.port}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )

    def get(self, path, **query):
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return json.load(answer)["data"]
        except OSError:
            return None

    def value(self, expression):
        """The sum of an expression's values now; None where it has none."""
        found = self.get("query", query=f"sum({expression})")
        return float(found["result"][0]["value"][1]) if found and found["result"] else None

    def firing(self):
        found = self.get("alerts") or {"alerts": []}
        return {alert["labels"]["alertname"] for alert in found["alerts"] if alert["state"] == "firing"}


@pytest.fixture
def folder():
    """One that the user who runs PostgreSQL can enter, too."""
    import pathlib

    with tempfile.TemporaryDirectory(prefix="chatledger-prometheus.") as path:
        pathlib.Path(path).chmod(0o755)
        yield pathlib.Path(path)


def test_prometheus_scrapes_a_server_under_load_and_notices_its_end(program, folder):
    tool("prometheus")
    admin = f"127.0.0.1:{free_port()}"
    command = [program, "serve", "--listen", "127.0.0.1:0", "--admin-listen", admin, "--data-dir", folder / "data-of-chatledger"]
    server = subprocess.Popen(command, env=clean_env(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    prometheus = Prometheus(folder, admin)
    try:
        target = f"127.0.0.1:{wait_until_ready(server)}"
        load = subprocess.Popen([program, "bench", "append", "--target", f"http://{target}", "--duration", "4s"], env=clean_env(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(lambda: (prometheus.value("rate(chatledger_append_messages_total[5s])") or 0) > 10, "a rate of appends")
        assert load.wait(timeout=PATIENCE) == 0
        for expression, at_least in [
            ("up", 1),
            ("chatledger_ready", 1),
            ('grpc_server_handled_total{grpc_code="OK",grpc_service="chatledger.v1.MessageService"}', 10),
            ("chatledger_append_batch_rows_count", 1),
            ("chatledger_disk_free_bytes", 1),
            ("process_resident_memory_bytes", 1_000_000),
        ]:
            assert eventually(lambda e=expression: prometheus.value(e), expression) >= at_least, expression
        # What it reads are the names, kinds and help of OpenMetrics, which it asks for.
        told = prometheus.get("metadata")
        documented = re.findall(r"^\| `(\w+)` \| (\w+) \|", (ROOT / "docs/metrics.md").read_text(), re.M)
        kinds = {name: kind for name, kind in documented if name.removesuffix("_total") in told or name in told}
        assert len(kinds) > 35
        for name, kind in kinds.items():
            (found,) = told.get(name) or told[name.removesuffix("_total")]
            assert found["type"] == kind and found["help"], name
        groups = prometheus.get("rules")["groups"]
        assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}
        with urllib.request.urlopen(f"http://{admin}/metrics") as scraped:
            run(tool("promtool"), "check", "metrics", input=scraped.read().decode())
        assert "ChatledgerDown" not in prometheus.firing()
        server.kill()
        eventually(lambda: "ChatledgerDown" in prometheus.firing(), "an alert that the server is down")
    finally:
        for process in (prometheus.process, server):
            process.kill()
            process.wait()
