"""The unit of systemd."""

import json
import re

from conftest import DEPLOY, run, tool

SYSTEMD = DEPLOY / "systemd"
# What `systemd-analyze security` says of the unit, at most, out of 10: 1.2 when this was written, and a service without any
# sandbox has 9.6.
EXPOSURE = 1.5


def unit(folder, program):
    """The unit with our program, which verify looks for."""
    path = folder / "chatledger.service"
    path.write_text((SYSTEMD / "chatledger.service").read_text().replace("/usr/bin/chatledger", str(program)))
    return path


def test_verify(tmp_path, program):
    analyze = tool("systemd-analyze")
    (tmp_path / "chatledger.service.d").mkdir()
    path = unit(tmp_path, program)
    run(analyze, "verify", "--man=no", path)
    (tmp_path / "chatledger.service.d/embedded.conf").write_text((SYSTEMD / "embedded.conf").read_text())
    run(analyze, "verify", "--man=no", path)


def test_the_sandbox(tmp_path, program):
    analyze = tool("systemd-analyze")
    path = unit(tmp_path, program)
    said = run(analyze, "security", "--offline=true", "--no-pager", "--json=short", path)
    assert any(check["set"] for check in json.loads(said))
    overall = re.search(r"exposure level for \S+: ([\d.]+)", run(analyze, "security", "--offline=true", "--no-pager", path))
    assert float(overall[1]) <= EXPOSURE


def test_it_has_the_time_to_stop(program):
    """More than --shutdown-grace."""
    grace = re.search(r"--shutdown-grace.*?\[default: (\d+)s\]", run(program, "serve", "--help"), re.S)
    stop = re.search(r"^TimeoutStopSec=(\d+)$", (SYSTEMD / "chatledger.service").read_text(), re.M)
    assert int(stop[1]) > int(grace[1])
