"""Workers of several homes that share one PostgreSQL database, as processes; each home stands for a machine."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg

from tests.support.workers import all_have_left, end_everything

CONFIG = """\
queue: {{lost_after: {lost_after}, per_worker: 20}}
servers:
  far:
    exec: [sh, -c, 'exec "$@"', sh]
    workdir: {work}
    jobs_dir: {work}/jobs
    slots: 8
"""


class Team:
    """`home(n)` is a machine's; workers of them are started and killed by number."""

    def __init__(self, top: Path, url: str, lost_after: str = "1s") -> None:
        self.top, self.url, self.lost_after = top, url, lost_after
        self.config = CONFIG
        self.work = top / "work"
        self.work.mkdir(parents=True, exist_ok=True)
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def home(self, number: int) -> Path:
        """BUILD_ORCHESTRATOR_HOME of a machine, with its config.yaml."""
        home = self.top / f"machine{number}"
        home.mkdir(mode=0o700, exist_ok=True)
        (home / "config.yaml").write_text(self.config.format(work=self.work, lost_after=self.lost_after))
        return home

    def environment(self, number: int) -> dict[str, str]:
        """What a process on that machine has."""
        return {
            **os.environ,
            "BUILD_ORCHESTRATOR_HOME": str(self.home(number)),
            "BUILD_ORCHESTRATOR_DATABASE_URL": self.url,
            "BUILD_ORCHESTRATOR_WORKER_NAME": f"machine{number}",
        }

    def start(self, *numbers: int) -> None:
        """Start the workers of these machines."""
        for number in numbers:
            with (self.top / f"worker{number}.log").open("ab") as log:
                command = [sys.executable, "-P", "-m", "mcp_server", "worker"]
                self._running[number] = subprocess.Popen(command, env=self.environment(number), stderr=log, cwd="/")

    def numbers(self) -> list[int]:
        """The machines whose workers run."""
        return list(self._running)

    def signal(self, number: int, what: signal.Signals) -> None:
        """Send a signal to one; after SIGKILL it is gone."""
        self._running[number].send_signal(what)
        if what in (signal.SIGKILL, signal.SIGTERM):
            self._running.pop(number).wait(20)

    def wait(self, number: int) -> int:
        """Its exit code, once it has left by itself."""
        return self._running.pop(number).wait(20)

    def log(self, number: int) -> str:
        """What a worker said."""
        return (self.top / f"worker{number}.log").read_text()

    def close(self) -> None:
        """End them all, what fronts have started in any of the homes, and every job; nothing is left."""
        for worker in self._running.values():
            worker.send_signal(signal.SIGCONT)
            worker.kill()
            worker.wait(20)
        for home in (*self.top.glob("machine*"), self.work):
            end_everything(home)
        all_have_left(str(self.top))

    def names(self, connection: "psycopg.Connection") -> dict[str, str]:
        """The machine of each worker, by the worker's id."""
        return {str(row[0]): str(row[1]) for row in connection.execute("SELECT id, name FROM workers").fetchall()}
