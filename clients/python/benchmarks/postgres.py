"""A PostgreSQL for the benchmarks: of our own, on a socket, with its defaults (fsync is on)."""

from __future__ import annotations

import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile
import time


class Postgres:
    """A running PostgreSQL; its folder is gone after :meth:`stop`."""

    def __init__(self, bin_dir: str) -> None:
        self._bin = bin_dir
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="chatledger-bench-"))
        user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        self._as = {"user": user} if os.geteuid() == 0 else {}
        shutil.chown(self.folder, user)
        data = self.folder / "data"
        subprocess.run(
            [f"{bin_dir}/initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8"],
            check=True, stdout=subprocess.DEVNULL, cwd=self.folder, **self._as,
        )  # fmt: skip
        command = [f"{bin_dir}/postgres", "-D", data, "-k", self.folder, "-c", "listen_addresses="]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=self.folder, **self._as)
        self.arguments = {"host": str(self.folder), "user": "postgres"}
        """The arguments of a driver's connect, without the database."""

    def create(self, *databases: str) -> None:
        """Waits until it answers, and creates databases."""
        for _ in range(200):
            if subprocess.run([f"{self._bin}/pg_isready", "-q", "-h", self.folder], check=False).returncode == 0:
                break
            time.sleep(0.05)
        for name in databases:
            subprocess.run([f"{self._bin}/createdb", "-h", self.folder, "-U", "postgres", name], check=True)

    def url(self, database: str, kind: str = "postgresql") -> str:
        """The URL of a database; ``kind`` may name a driver, as SQLAlchemy has it."""
        return f"{kind}://postgres@/{database}?host={self.folder}"

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.folder)
