"""What the demo tells: each stage when its row says that it is over, then the timeline and where the record is."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from mcp_server.cli.frame import COLOURS
from mcp_server.cli.screen import Screen
from mcp_server.cli.table import Column, table_lines
from mcp_server.cli.verdict import coloured
from mcp_server.cli.words import one_line, typed
from mcp_server.config import Config
from mcp_server.idf.diagnostics import render
from mcp_server.model import BuildStatus, Stage, StageStatus
from mcp_server.report import duration

if TYPE_CHECKING:
    from mcp_server.views import BuildView

ERROR_BYTES = 420  # of the failed build's verdict: the cause and its line
AXIS, LEAST_AXIS = 30, 14  # columns of the timeline's common axis; a shorter one tells nothing
TIMELINE_HEAD = 36  # columns in front of it
INDENT = "    "
BOARD = "simulated: a virtual ESP32-C3 on a pty, flashed by the real esptool"
BRIEF = ("setup", "doctor", "qa")  # kinds of which one line says all
MOST_DIFF = 12  # lines of what an agent changed
NO_BOARD = "none: esptool is missing (pip install 'build-orchestrator[demo]')"


class Story:
    """Prints the demo's course on a screen; nothing is told that no row says."""

    def __init__(
        self, screen: Screen, config: Config, agent: str | None, *, simulated: bool, board: bool = False
    ) -> None:
        self._screen, self._config, self._agent, self._simulated = screen, config, agent, simulated
        self._board = board
        self._told: set[tuple[str, int, int]] = set()

    def begin(self, project: Path, version: str) -> None:
        """What is going to happen, and which parts of it are not real."""
        idf = f"{version}, simulated: no ESP-IDF was found here" if self._simulated else version
        self._screen.fold(Text("A firmware with a planted mistake: build, fail, mend, build again, run.", "bold"))
        self._facts(
            ("firmware", self._short(project)),
            ("ESP-IDF", idf),
            ("emulator", "simulated: the firmware runs as a process of this machine"),
            ("board", BOARD if self._board else NO_BOARD),
            ("developer", self._agent or "simulated: a diff that comes with the demo"),
        )
        self._screen.say("")

    async def update(self, view: "BuildView") -> None:
        for row in view.stages:
            key = (row.stage, row.round, row.attempt)
            if row.status.is_open or row.status is StageStatus.SKIPPED or key in self._told:
                continue
            self._told.add(key)
            self._tell(row)

    def pause(self) -> None:
        """Nothing here is ever painted over."""

    def end(self, view: "BuildView") -> None:
        """The timeline, the conclusion and the record."""
        self._screen.say("", *timeline(view, self._screen), "")
        self._screen.fold(conclusion(view))
        number = view.build.id
        self._facts(
            ("record", self._short(self._config.home / "orchestrator.db")),
            ("logs", f"{self._jobs(view)}/*-{number}-*/log"),
            ("look", f"{typed()} status {number}, or {typed()} logs {number} qemu"),
            ("your own", f"{typed()} run --project DIR"),
        )

    def _tell(self, row: Stage) -> None:
        good = row.status is StageStatus.SUCCESS
        mark = ("ok" if good else "X") if self._screen.ascii else ("✓" if good else "✗")
        head = f"round {row.round}  {row.stage:<6} {self._how(row)}"
        self._screen.fold(Text.assemble((f"{mark} ", "green" if good else "red"), (head, "bold")))
        for line in () if row.kind in BRIEF else self._evidence(row):
            self._screen.fold(line, INDENT)

    def _how(self, row: Stage) -> str:
        took = duration((row.ended_at - row.started_at).total_seconds()) if row.ended_at and row.started_at else ""
        simulated = {
            "idf.build": "simulated ESP-IDF",
            "idf.run": "simulated emulator",
            "command": "simulated chip image",
            "idf.flash": "real esptool, virtual board",
            "idf.boot": "virtual board",
            "agent.fix": self._agent or "simulated developer",
        }
        if row.kind in BRIEF and row.verdict:
            return one_line(f"{row.status} · {row.verdict.summary}", 140)
        label = simulated.get(row.kind, "") if self._simulated or row.kind != "idf.build" else "ESP-IDF"
        return " · ".join(part for part in (str(row.status), took, label) if part)

    def _evidence(self, row: Stage) -> list[Text]:
        verdict = row.verdict
        if verdict is None:
            return []
        if verdict.diagnosis and verdict.diagnosis.errors:
            lines = coloured(render(verdict.diagnosis, ERROR_BYTES))
        elif row.kind == "agent.fix" and row.status is StageStatus.SUCCESS:
            lines = _diff_lines(str(verdict.details.get("diff", "")))[:MOST_DIFF]
        elif row.kind == "idf.build" and row.status is StageStatus.SUCCESS:
            return []
        else:
            lines = [Text(one_line(line)) for line in verdict.summary.strip().splitlines()[:3]]
        return lines

    def _facts(self, *facts: tuple[str, str]) -> None:
        for name, value in facts:
            if " " in value:
                self._screen.fold(Text(f"{name:<10}{value}"), "  ", hang=10)
            else:  # a path is to be copied, so it stays in one piece
                self._screen.say(f"  {name:<10}{value}")

    def _jobs(self, view: "BuildView") -> str:
        """The folder that holds the build's jobs."""
        ids = [row.job_id for row in view.stages if row.job_id]
        found = next(self._config.jobs_dir.glob(f"*/{ids[-1]}/log"), None) if ids else None
        return self._short(found.parent.parent if found else self._config.jobs_dir)

    @staticmethod
    def _short(path: Path) -> str:
        """The path with ~ for the user's home."""
        try:
            return one_line(f"~/{path.relative_to(Path.home())}")
        except (ValueError, RuntimeError):
            return one_line(str(path))


def went_the_whole_way(view: "BuildView") -> bool:
    """Whether the rows say: red with a diagnosed error, mended, then green, and the program's own word for it."""
    rows = {(row.round, row.stage): row for row in sorted(view.stages, key=lambda row: row.attempt)}
    red, fix, green, run = (rows.get(key) for key in ((1, "build"), (1, "fix"), (2, "build"), (2, "qemu")))
    if not (red and fix and green and run) or view.build.status is not BuildStatus.SUCCESS:
        return False
    diagnosed = red.verdict is not None and red.verdict.diagnosis is not None and bool(red.verdict.diagnosis.errors)
    passed = all(row.status is StageStatus.SUCCESS for row in (fix, green, run))
    return red.status is StageStatus.FAILED and diagnosed and passed and run.verdict is not None


def conclusion(view: "BuildView") -> Text:
    """One line: what the rows prove, or that they do not."""
    if went_the_whole_way(view):
        took = duration(view.elapsed_s)
        return Text.assemble(
            ("red → mended → green → verified", "bold green"), f" in {took}; build {view.build.id} has the record:"
        )
    state = f"the loop did not close: build {view.build.id} is {view.build.status} after round {view.build.round}"
    return Text(state, "bold red")


def timeline(view: "BuildView", screen: Screen) -> list[Text]:
    """Every attempt as a line, its bar on a time axis that all share."""
    rows = [row for row in view.stages if row.started_at and row.ended_at]
    if not rows:
        return []
    began = min(row.started_at for row in rows if row.started_at)
    whole = max((row.ended_at - began).total_seconds() for row in rows if row.ended_at) or 1.0
    wide = min(AXIS, screen.width - TIMELINE_HEAD)
    columns = [
        Column("ROUND", right=True),
        Column("STAGE"),
        Column("RESULT"),
        Column("TOOK", right=True),
        *([Column(f"0 s{duration(whole):>{wide - 3}}")] if wide >= LEAST_AXIS else []),
    ]
    cells: list[list[Text]] = []
    for row in rows:
        assert row.started_at is not None and row.ended_at is not None
        start, seconds = (row.started_at - began).total_seconds(), (row.ended_at - row.started_at).total_seconds()
        colour = COLOURS.get(row.status, "")
        bar = Text(_bar(start / whole, seconds / whole, max(wide, 1), "#" if screen.ascii else "█"), colour)
        cells.append([Text(str(row.round)), Text(row.stage), Text(row.status, colour), Text(duration(seconds)), bar])
    return [Text.assemble("  ", line) for line in table_lines(columns, cells, None)]


def _bar(start: float, length: float, wide: int, letter: str) -> str:
    """A part of the axis, as fractions of it; at least one letter long."""
    left = min(int(wide * start), wide - 1)
    return " " * left + letter * max(1, min(round(wide * length), wide - left))


def _diff_lines(diff: str) -> list[Text]:
    """The lines that a diff takes and gives, under the name of their file."""
    lines: list[Text] = []
    for line in diff.splitlines():
        if line.startswith("+++ "):
            lines.append(Text(one_line(line.removeprefix("+++ b/")), "bold"))
        elif line.startswith(("-", "+")) and not line.startswith("--- "):
            lines.append(Text(one_line(line), "red" if line.startswith("-") else "green"))
    return lines
