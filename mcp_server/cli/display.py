"""The two ways to show a build that runs: painted in place on a terminal, a line a change elsewhere."""

import asyncio
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.text import Text

from mcp_server.cli import frame
from mcp_server.cli.words import one_line
from mcp_server.model import Stage, StageStatus
from mcp_server.report import duration, held_up, waits_for
from mcp_server.report_parts import errors_and_warnings, running, spec_of

if TYPE_CHECKING:
    from mcp_server.cli.screen import Screen
    from mcp_server.clock import Clock
    from mcp_server.views import BuildView

FRAME_LINES = 5  # a title, two rules, a foot, and the line where the cursor rests
TICK_S = 0.5  # the clocks on the screen move even when the build does not
STEP_PERCENT = 25  # a line elsewhere than on a terminal for each quarter of a stage


class Painted:
    """A frame that is painted over while the build runs and left standing when it is over."""

    def __init__(self, screen: "Screen", clock: "Clock") -> None:
        self._screen, self._clock = screen, clock
        self._view: BuildView | None = None
        self._live: Live | None = None
        self._ticking: asyncio.Task[None] | None = None

    async def update(self, view: "BuildView") -> None:
        self._view = view
        if self._live is None:
            self._live = Live(console=self._screen.console, auto_refresh=False, vertical_overflow="crop")
            self._live.start()
            self._ticking = asyncio.create_task(self._tick())
        self._paint()

    def pause(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None
        if self._live is not None:
            self._paint(resting=False)
            self._live.stop()
            self._live = None

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(TICK_S)
            self._paint()

    def _paint(self, *, resting: bool = True) -> None:
        """Paint the frame; `resting` with an empty line below it for the cursor.

        A terminal echoes `^C` where the cursor is. At the end of a line as wide as the terminal that would begin a new
        line, of which nobody here knows, and the next frame would leave the old one's title standing.
        """
        if self._live is not None and self._view is not None:
            rows = max(self._screen.height - FRAME_LINES, 3)
            style = frame.Style(min(self._screen.width, 100), self._screen.ascii, rows)
            lines = frame.framed(self._view, self._clock.now(), style)
            self._live.update(Group(*lines, *([Text()] if resting else [])), refresh=True)


class Lines:
    """A plain line for each change: for files, pipes and terminals that cannot paint."""

    def __init__(self, screen: "Screen") -> None:
        self._screen = screen
        self._said: set[tuple[object, ...]] = set()
        self._silent: set[str] = set()

    async def update(self, view: "BuildView") -> None:
        build = view.build
        if view.blocked_by or view.idle or held_up(view):
            sentence = waits_for(view)
            self._once(
                sentence,
                f"build {build.id}: {sentence}" if view.idle or held_up(view) else f"build {build.id} {sentence}",
            )
        for row in view.stages:
            self._stage(row, view)

    def pause(self) -> None:
        pass

    def _stage(self, row: Stage, view: "BuildView") -> None:
        label = f"stage {row.stage}" + (f", round {row.round}" if view.build.plan.max_rounds > 1 else "")
        label += f", attempt {row.attempt}" if row.attempt > 1 and row.status is not StageStatus.SKIPPED else ""
        key = (row.stage, row.round, row.attempt)
        if row.status is StageStatus.RUNNING:
            self._once((*key, "running"), f"{label}: running on {row.host}")
            self._reach(row, label)
            self._progress(row, label, key)
        elif not row.status.is_open:
            took = frame.stage_s(row, row.ended_at) if row.ended_at else None
            words = [str(row.status), *([f"after {duration(took)}"] if took is not None else [])]
            evidence = frame.evidence(view, row) if _goes_on(view, row) else ""
            line = f"{label}: {' '.join(words)}" + (f"; {evidence}" if evidence else "")
            # Failed stages may be tried once more at the end, and what waits for them is skipped a second time.
            self._once(line if row.status is StageStatus.SKIPPED else (*key, "over"), line)

    def _reach(self, row: Stage, label: str) -> None:
        """Tell when a host falls silent, and when it is heard again."""
        since = row.unreachable_since
        if since is not None:
            words = f"host {row.host} is unreachable since {since.astimezone():%H:%M:%S}; its job may run on"
            self._once((row.stage, row.round, row.attempt, since), f"{label}: {words}")
            self._silent.add(row.stage)
        elif row.stage in self._silent:
            self._silent.remove(row.stage)
            self._screen.say(f"{label}: host {row.host} answers again")

    def _progress(self, row: Stage, label: str, key: tuple[object, ...]) -> None:
        if row.progress is None or row.progress.total <= 0:
            return
        quarter = 100 * row.progress.done // row.progress.total // STEP_PERCENT
        if quarter:
            steps = f"{row.progress.done}/{row.progress.total} {one_line(row.progress.message, 100)}".rstrip()
            seen = errors_and_warnings(row.progress.errors, row.progress.warnings)
            steps = f"{steps}; {seen} so far" if seen else steps
            self._once((*key, quarter), f"{label}: {steps}")

    def _once(self, key: object, line: str) -> None:
        if (key,) not in self._said:
            self._said.add((key,))
            self._screen.say(line)


def _goes_on(view: "BuildView", row: Stage) -> bool:
    """Whether a build may go on behind a stage's end. Else the report follows at once, and says what it came to."""
    plan = view.build.plan
    spec = spec_of(view, row.stage)
    again = plan.max_rounds > 1 or plan.on_failure.retry or (spec is not None and spec.retry.times)
    repeated = row.status is StageStatus.FAILED and bool(again)
    return row.status is StageStatus.SKIPPED or repeated or bool(running(view))


def display_for(screen: "Screen", clock: "Clock") -> Painted | Lines:
    """What suits the stream."""
    return Painted(screen, clock) if screen.lively else Lines(screen)
