"""Images, by buildah, and containers of them, by crun: without a registry, a daemon or a network of their own."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import uuid

import pytest
from conftest import DEPLOY, clean_env, run, tool, wait_until_ready


class Images:
    """A store of images that is gone afterwards."""

    def __init__(self, folder):
        self.buildah = tool("buildah")
        for driver in ("overlay", "vfs"):
            self.global_flags = ["--root", folder / driver, "--runroot", folder / "run", "--storage-driver", driver]
            # Not every file system can have an overlay; a driver without one copies each layer.
            with contextlib.suppress(AssertionError):
                self("info")
                return
        pytest.skip("skipped: buildah has no place for images here")

    def __call__(self, *words, **more):
        return run(self.buildah, *self.global_flags, *words, **more).strip()

    def from_archive(self, archive, name):
        """An image that is what an archive has."""
        container = self("from", "scratch")
        self("add", "--quiet", container, archive, "/")
        self("commit", "--quiet", container, name)
        self("rm", container)

    def build(self, context, target, name, **arguments):
        """By the Containerfile; RUN has the network and the devices of this machine."""
        given = [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
        file = DEPLOY / "Containerfile"
        self("bud", "--quiet", "--isolation", "chroot", "-f", file, "--target", target, *given, "-t", name, context)
        return Image(self, name)


class Image:
    def __init__(self, images, name):
        said = json.loads(images("inspect", "--type", "image", name))
        self.config = said["OCIv1"]["config"]
        self.container = images("from", "--pull-never", name)
        self.root = pathlib.Path(images("mount", self.container))

    def files(self):
        """All that is in it, by its path, without following links."""
        return {path.relative_to(self.root): path for path in self.root.rglob("*")}


class Container:
    """One that runs, as the image says: with a root that can't be written to, no capabilities, and so much memory."""

    def __init__(self, image, folder, arguments=None, memory=None, env=None, mounts=()):
        self.crun = tool("crun")
        self.id = f"chatledger-{uuid.uuid4().hex[:12]}"
        self.bundle = folder / self.id
        self.bundle.mkdir()
        self.state = folder / "crun"
        words = [*image.config["Entrypoint"], *(arguments or image.config["Cmd"])]
        variables = dict(entry.split("=", 1) for entry in image.config["Env"]) | (env or {})
        spec = specification(image, words, variables, memory, mounts, self.id)
        (self.bundle / "config.json").write_text(json.dumps(spec))
        # crun refuses machines that have both generations of cgroups mounted: in a mount namespace, one is taken away.
        alone = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\""
        command = [self.crun, "--root", self.state, "--cgroup-manager=cgroupfs", "run", "--bundle", self.bundle, self.id]
        self.log = self.bundle / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", alone, "sh", *map(str, command)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=clean_env(),
            )

    def wait(self, seconds=60):
        """What it said on stdout, once it has ended by itself, and its exit code."""
        said, _ = self.process.communicate(timeout=seconds)
        return said, self.process.returncode

    def port(self):
        """That of its server, once it is ready."""
        try:
            return wait_until_ready(self.process)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.log.read_text()}") from None

    def peak_memory(self):
        """The most memory that it has had, in bytes, where this machine says it."""
        for path in (f"memory/{self.id}/memory.max_usage_in_bytes", f"{self.id}/memory.peak"):
            with contextlib.suppress(OSError):
                return int(pathlib.Path("/sys/fs/cgroup", path).read_text())
        return None

    def stop(self):
        """Its exit code after SIGTERM."""
        if self.process.poll() is None:
            run(self.crun, "--root", self.state, "kill", self.id, "TERM")
        return self.process.wait(30)


def specification(image, words, variables, memory, mounts, name):
    """What the OCI's runtimes are told."""
    uid, gid = (int(number) for number in image.config["User"].split(":"))
    nothing = {"bounding": [], "effective": [], "inheritable": [], "permitted": [], "ambient": []}
    bound = [{"destination": to, "type": "bind", "source": str(of), "options": ["rbind", mode]} for of, to, mode in mounts]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": uid, "gid": gid},
            "args": words,
            "env": [f"{key}={value}" for key, value in variables.items()],
            "cwd": image.config.get("WorkingDir") or "/",
            "capabilities": nothing,
            "noNewPrivileges": True,
        },
        "root": {"path": str(image.root), "readonly": True},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "size=64m"]},
            *bound,
        ],
        "linux": {
            # The network is this machine's, so that a database of this machine is reached.
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")],
            "cgroupsPath": f"/{name}",
            "resources": {"memory": {"limit": memory, "swap": memory}} if memory else {},
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list"],
            "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"],
        },
    }


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("skipped: images are built as root here")
    tool("crun")
    folder = tmp_path_factory.mktemp("images")
    made = Images(folder)
    yield made
    with contextlib.suppress(AssertionError):
        made("rm", "--all")
        made("rmi", "--all", "--force")
    shutil.rmtree(folder, ignore_errors=True)
