"""A store that has something of everything that the page shows, and a service over it, as a process."""

import contextlib
import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Callable, Generator
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa

from mcp_server.clock import SystemClock
from mcp_server.config import load_config
from mcp_server.engine.start import LOCK
from mcp_server.model import (
    Artifact,
    Build,
    BuildStatus,
    Diagnosis,
    Diagnostic,
    Lease,
    Plan,
    Progress,
    Project,
    Stage,
    StageSpec,
    StageStatus,
    Verdict,
)
from mcp_server.orchestrator import Orchestrator
from mcp_server.store import artifacts, builds, leases, projects
from mcp_server.store.tables import PROJECTS

Word = Callable[[str], str]
"""A name as it is to be shown, of the plain one: an attack writes something else."""


class Shown:
    """Builds 1 to 5: failed by its compiler and its tests, succeeded, running, waiting for a board, cancelled."""

    def __init__(self, home: Path, word: Word = str) -> None:
        self._home, self._word = home, word
        self._now = SystemClock().now() - timedelta(hours=2)

    async def fill(self) -> None:
        """Write all of it."""
        (self._home / "config.yaml").write_text('servers: {pod: {exec: [sh, -c, "echo gone >&2; exit 1"], slots: 2}}\n')
        orchestrator = Orchestrator(load_config())
        jobs = Path(await orchestrator.host("local").directory())
        await (await orchestrator.store()).write(self._statements)
        await orchestrator.aclose()
        word = self._word
        said = [f"step {number} of 3000: {word('compiling')}" for number in range(1, 3001)]
        said[1999] = f"main/valve.c:8:9: error: {word('unknown name')}"
        said[2499] = "main/pump.c:3:1: error: another one"
        for job, text in (("j1", "\n".join(said)), ("j4", "one\ntwo")):
            (jobs / job).mkdir(parents=True)
            (jobs / job / "log").write_text(text + "\n")

    def _statements(self, c: sa.Connection) -> None:
        word, now = self._word, self._now
        folder = self._home / "greenhouse"
        folder.mkdir()
        project = builds.ensure_project(c, str(folder), word("greenhouse"), now, target="esp32c3")
        url = "https://git.example.org/team/lamp.git"
        lamp = projects.import_project(
            c, path=f"{folder}-lamp", name="lamp", source=url, status="error", target=None, branch="main", now=now
        )
        c.execute(sa.update(PROJECTS).where(PROJECTS.c.id == lamp.id).values(reason=word("no such repository")))
        self._failed(c, project)
        self._build(c, project, "success")
        self._build(c, project, "running")
        self._build(c, project, "pending")
        self._build(c, project, "cancelled")
        for resource, build in (("host:local", 3), ("port:local:lamp-board", 3)):
            lease = Lease(resource=resource, slot=0, build=build, stage="build", reason="stage build", taken_at=now)
            leases.add(c, lease, now)

    def _build(self, c: sa.Connection, project: Project, status: str) -> Build:
        word, now = self._word, self._now
        plan = Plan(
            stages=(
                StageSpec(name="build", kind="command"),
                StageSpec(name="qemu", kind="command", depends_on=("build",)),
                StageSpec(name="flash", kind="command", depends_on=("build",)),
            )
        )
        made, _ = builds.insert_build(c, project, plan, name=word("nightly"), args_key=status, now=now)
        message = word("Valves: open them slowly")
        branch, author = word("feature/valve"), word("Anna")
        builds.set_facts(
            c, made.id, branch=branch, commit_sha="abc1234" * 5, commit_message=message, commit_author=author
        )
        if status == "pending":
            return made
        builds.set_running(c, made.id, now)
        running = status == "running"
        row = Stage(
            build=made.id,
            stage="build",
            kind="command",
            host="local",
            job_id=f"j{made.id}",
            status=StageStatus.RUNNING if running else StageStatus.SUCCESS,
            started_at=now,
            ended_at=None if running else now + timedelta(seconds=40),
            progress=Progress(done=12, total=66, message=word("main/app_main.c")) if running else None,
        )
        builds.put_stage(c, row, now)
        if status in ("success", "cancelled"):
            builds.end_build(c, made.id, BuildStatus(status), "exit", now + timedelta(seconds=42))
        return made

    def _failed(self, c: sa.Connection, project: Project) -> None:
        word, now, later = self._word, self._now, self._now + timedelta(seconds=9)
        made = self._build(c, project, "failed")
        error = Diagnostic(severity="error", kind="compile", message=word("unknown name"), file="main/valve.c", line=8)
        found = Diagnosis(errors=(error,), error_count=2, hints=(word("look for a misspelt name"),))
        cases = [{"name": word("opens"), "suite": "valve", "result": "fail", "file": "main/t.c", "line": 4}]
        tests = {"passed": 3, "failed": 1, "skipped": 0, "complete": True, "cases": cases}
        verdict = Verdict(result="fail", summary=word("it failed"), diagnosis=found, details={"tests": tests})
        row = Stage(
            build=made.id,
            stage="build",
            kind="command",
            host="local",
            job_id="j1",
            status=StageStatus.FAILED,
            reason="exit",
            exit_code=1,
            started_at=now,
            ended_at=later,
            verdict=verdict,
        )
        builds.put_stage(c, row, now)
        skipped = Stage(
            build=made.id, stage="qemu", kind="command", host="local", status=StageStatus.SKIPPED, reason="dependency"
        )
        builds.put_stage(c, skipped, now)
        left = Artifact(
            path=f"out/{word('greenhouse').replace('/', '_')}.elf", size=123_456, sha256="0" * 64, kind="elf"
        )
        artifacts.put_artifacts(c, made.id, "build", [left], now)
        builds.end_build(c, made.id, BuildStatus.FAILED, "exit", later)


@contextlib.contextmanager
def no_worker(home: Path) -> Generator[None]:
    """What is in the store stays as it is: a worker would end builds that have no jobs."""
    with (home / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


@contextlib.contextmanager
def served(port: int = 0) -> Generator[str]:
    """A service of this test's home, as a process; its address."""
    command = [sys.executable, "-m", "mcp_server", "serve", "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.match(r"(http://127\.0\.0\.1:\d+) is open", line)
        assert found, line
        yield found[1]
    finally:
        process.kill()
        process.communicate()


AXE = os.environ.get("BO_TEST_AXE", "")  # axe.min.js of the npm package axe-core; read before tests are closed off


def axe_script() -> str:
    """What makes `axe` known on a page and tells its violations, one line each."""
    run = (
        "axe.run(document, {resultTypes: ['violations']}).then((r) => r.violations.flatMap((v) =>"
        " v.nodes.map((n) => `${v.id}: ${n.target} ${n.failureSummary}`.slice(0, 400))))"
    )
    return f"(async () => {{ const module = undefined; {Path(AXE).read_text()}; return {run} }})()"
