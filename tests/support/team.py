"""Workers of several homes that share one PostgreSQL database, as processes; each home stands for a machine."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import sqlalchemy as sa

from mcp_server.engine.worker import take_lock
from tests.support.workers import all_have_left, end_everything

CONFIG = """\
queue: {{lost_after: {lost_after}, per_worker: 20}}
defaults: {{retry: 0}}
servers:
  far:
    exec: [sh, {channel}]
    workdir: {work}
    jobs_dir: {work}/jobs
    slots: 8
"""
CHANNEL = '[ -e "{cut}" ] && {{ echo cut off >&2; exit 255; }}\n"$@"\n'


class Team:
    """`home(n)` is a machine's; workers of them are started and killed by number.

    `ports`: where on loopback a machine reaches the database, if it has a way of its own. `variables`: what its worker
    has in its environment besides.
    """

    config = CONFIG

    def __init__(self, top: Path, url: str, lost_after: str = "1s") -> None:
        self.top, self.url, self.lost_after = top, url, lost_after
        self.ports: dict[int, int] = {}
        self.variables: dict[int, dict[str, str]] = {}
        self.work = top / "work"
        self.work.mkdir(parents=True, exist_ok=True)
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._locks: list[int] = []

    @property
    def database(self) -> str:
        """Its name."""
        return sa.make_url(self.url).database or ""

    def home(self, number: int) -> Path:
        """BUILD_ORCHESTRATOR_HOME of a machine, with its config.yaml and its way to the host."""
        home = self.top / f"machine{number}"
        home.mkdir(mode=0o700, exist_ok=True)
        channel = home / "channel.sh"
        channel.write_text(CHANNEL.format(cut=home / "cut"))
        text = self.config.format(channel=channel, work=self.work, lost_after=self.lost_after)
        (home / "config.yaml").write_text(text)
        return home

    def environment(self, number: int) -> dict[str, str]:
        """What a process on that machine has."""
        url = self.url
        if (port := self.ports.get(number)) is not None:
            url = f"postgresql+psycopg://postgres@127.0.0.1:{port}/{self.database}"
        return {
            **os.environ,
            "BUILD_ORCHESTRATOR_HOME": str(self.home(number)),
            "BUILD_ORCHESTRATOR_DATABASE_URL": sa.make_url(url)
            .update_query_dict({"application_name": f"machine{number}"})
            .render_as_string(hide_password=False),
            "BUILD_ORCHESTRATOR_WORKER_NAME": f"machine{number}",
            **self.variables.get(number, {}),
        }

    def start(self, *numbers: int) -> None:
        """Start the workers of these machines."""
        for number in numbers:
            with (self.top / f"worker{number}.log").open("ab") as log:
                command = [sys.executable, "-P", "-m", "mcp_server", "worker"]
                self._running[number] = subprocess.Popen(command, env=self.environment(number), stderr=log, cwd="/")

    def have_none(self, number: int) -> None:
        """No worker will run on this machine, whoever would start one there."""
        lock = take_lock(self.home(number), None)
        assert lock is not None
        self._locks.append(lock)

    def numbers(self) -> list[int]:
        """The machines whose workers run."""
        return list(self._running)

    def signal(self, number: int, what: signal.Signals) -> None:
        """Send a signal to one; after SIGKILL it is gone."""
        self._running[number].send_signal(what)
        if what in (signal.SIGKILL, signal.SIGTERM):
            self.left(number)

    def has_left(self, number: int) -> bool:
        """Whether a worker ended by itself."""
        return self._running[number].poll() is not None

    def left(self, number: int) -> int:
        """The exit code of a worker, once it is gone."""
        return self._running.pop(number).wait(20)

    def cut_hosts(self, number: int) -> None:
        """No channel of this machine to any host is left, and none can be made."""
        (self.home(number) / "cut").touch()
        channel = str(self.home(number) / "channel.sh").encode()
        links = {_answers_into(pid) for pid, words in _processes() if channel in words} - {""}
        for pid in [pid for pid, _ in _processes() if _answers_into(pid) in links]:  # all that it ever forked
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def mend_hosts(self, number: int) -> None:
        """Channels can be made again."""
        (self.home(number) / "cut").unlink(missing_ok=True)

    def log(self, number: int) -> str:
        """What a worker said."""
        return (self.top / f"worker{number}.log").read_text()

    def close(self) -> None:
        """End them all, what fronts have started in any of the homes, and every job; nothing is left."""
        for worker in self._running.values():
            worker.send_signal(signal.SIGCONT)
            worker.kill()
            worker.wait(20)
        while self._locks:
            os.close(self._locks.pop())
        for home in (*self.top.glob("machine*"), self.work):
            end_everything(home)
        all_have_left(str(self.top))

    def names(self, connection: "psycopg.Connection") -> dict[str, str]:
        """The machine of each worker, by the worker's id."""
        return {str(row[0]): str(row[1]) for row in connection.execute("SELECT id, name FROM workers").fetchall()}


def _processes() -> list[tuple[int, list[bytes]]]:
    found: list[tuple[int, list[bytes]]] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append((int(path.parent.name), path.read_bytes().split(b"\0")))
    return found


def _answers_into(pid: int) -> str:
    """The pipe that a process writes to."""
    with contextlib.suppress(OSError):
        return str(Path(f"/proc/{pid}/fd/1").readlink())
    return ""
