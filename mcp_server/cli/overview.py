"""`status`: what runs, what waits, and what ended last."""

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.text import Text

from mcp_server import record
from mcp_server.cli import frame, listing
from mcp_server.cli.display import FRAME_LINES, display_for
from mcp_server.cli.follow import to_its_end
from mcp_server.cli.screen import Screen, err, out, print_json
from mcp_server.cli.verdict import show
from mcp_server.cli.words import typed
from mcp_server.errors import NotFound
from mcp_server.model import Build, BuildStatus, Project

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator
    from mcp_server.views import BuildView

MOST_OPEN = 20
LAST = 5
TICK_S = 0.5  # the clocks on the screen move even when nothing else does
LEAST_S = 0.2  # between two looks: a starting build changes many times in a blink
POKE_S = 3  # a look wakes the worker of an open build: a killed one has nobody else to start the next
MOST_WIDTH = 100


@dataclass(frozen=True, slots=True)
class Overview:
    """What a look shows."""

    views: Sequence["BuildView"]
    last: Sequence[Build]
    projects: Mapping[str, Project]


async def look(orchestrator: "Orchestrator") -> Overview:
    """Open builds with their stages, the running ones first, and the last ones that ended."""
    newest = await orchestrator.list(limit=LAST + MOST_OPEN)
    still = [
        *await orchestrator.list(status="running", limit=MOST_OPEN),
        *await orchestrator.list(status="pending", limit=MOST_OPEN),
    ]
    views = [await orchestrator.get(number) for number in dict.fromkeys(build.id for build in still)]
    last = [build for build in newest if not build.status.is_open][:LAST]
    return Overview([view for view in views if view.build.status.is_open], last, await orchestrator.projects_of(last))


async def print_once_json(orchestrator: "Orchestrator") -> None:
    """`open`: whole builds; `last`: rows."""
    seen = await look(orchestrator)
    rows = record.of_builds(seen.last, seen.projects)
    print_json({"open": [record.of_view(view) for view in seen.views], "last": rows})


async def print_once(orchestrator: "Orchestrator") -> None:
    """One look on stdout."""
    screen = out()
    seen = await look(orchestrator)
    if not seen.views and not seen.last:
        err().say(f"no builds: {typed()} run --project DIR starts one")
        return
    screen.say(*_lines(seen, orchestrator.clock.now(), screen))


async def print_build(orchestrator: "Orchestrator", build: str, *, watch: bool, json: bool) -> None:
    """One build, as it is or followed to its end; of one that is over the verdict, too."""
    screen = out()
    view = await orchestrator.get(build)
    if json:
        print_json(record.of_view(view))
    elif watch and view.build.status.is_open:
        display = display_for(screen, orchestrator.clock)
        try:
            view = await to_its_end(orchestrator, view.build.id, display)
        finally:
            display.pause()
    else:
        screen.say(*frame.framed(view, orchestrator.clock.now(), _style(screen)))
    if not json and not view.build.status.is_open:
        show(view, screen)


async def print_compared(orchestrator: "Orchestrator", build: str, other: str, *, json: bool) -> int:
    """What one build left and weighs against another."""
    from mcp_server import report_tables  # noqa: PLC0415 - seldom asked for
    from mcp_server.compared import compared  # noqa: PLC0415

    views = await orchestrator.get(build), await orchestrator.get(other)
    if json:
        print_json(compared(*views))
    else:
        out().say(report_tables.artifact_changes(*views), report_tables.size_table(*views))
    return 0


async def watch(orchestrator: "Orchestrator") -> None:
    """Looks painted over each other until Ctrl-C; where nothing can be painted, a look whenever something changed."""
    screen = out()
    if screen.lively:
        await _paint(orchestrator, screen)
    else:
        await _print_changes(orchestrator, screen)


async def _paint(orchestrator: "Orchestrator", screen: Screen) -> None:
    with Live(console=screen.console, auto_refresh=False, vertical_overflow="ellipsis") as live:

        def paint(seen: Overview) -> None:
            lines = _lines(seen, orchestrator.clock.now(), screen, room=screen.height - 2) or [Text("no builds yet")]
            live.update(Group(*lines, Text("Ctrl-C ends this; builds go on", "dim")), refresh=True)

        await _on_each_change(orchestrator, paint, tick_s=TICK_S)


async def _print_changes(orchestrator: "Orchestrator", screen: Screen) -> None:
    said: object = None

    def tell(seen: Overview) -> None:
        nonlocal said
        states = [
            [
                (view.build.id, view.build.status, view.build.round, [(r.stage, r.status) for r in view.stages])
                for view in seen.views
            ],
            [build.id for build in seen.last],
        ]
        if states != said:
            screen.say(*_lines(seen, orchestrator.clock.now(), screen), "")
            sys.stdout.flush()
            said = states

    await _on_each_change(orchestrator, tell, tick_s=POKE_S)


async def _on_each_change(orchestrator: "Orchestrator", show: Callable[[Overview], None], *, tick_s: float) -> None:
    """Look when a row may have changed, five times a second at most; show every `tick_s`, as the clocks move anyway."""
    async with orchestrator.changes() as changed:
        seen, poked = await look(orchestrator), orchestrator.clock.monotonic()
        while True:
            show(seen)
            try:
                await orchestrator.clock.within(tick_s, changed.wait())
            except TimeoutError:
                if orchestrator.clock.monotonic() < poked + POKE_S:
                    continue
            poked = orchestrator.clock.monotonic()
            seen = await look(orchestrator)
            await orchestrator.clock.sleep(LEAST_S)


def _style(screen: Screen) -> frame.Style:
    return frame.Style(min(screen.width, MOST_WIDTH), screen.ascii)


def _lines(seen: Overview, now: datetime, screen: Screen, room: int | None = None) -> list[Text]:
    """Open builds, running ones first, and the last that ended, in `room` lines; None: as many as it takes."""
    style = _style(screen)
    lines: list[Text] = []
    running = [view for view in seen.views if view.build.status is BuildStatus.RUNNING]
    last = listing.build_table(seen.last, seen.projects, now, style.width) if seen.last else []
    if room is not None and seen.views:
        each = (room - len(last)) // len(seen.views) - FRAME_LINES
        style = dataclasses.replace(style, rows=max(each, 3))
    for view in [*running, *(view for view in seen.views if view not in running)]:
        lines += frame.framed(view, now, style)
    return lines + last


async def print_junit(orchestrator: "Orchestrator", build: str) -> int:
    """The tests that the firmware of a build ran, a suite a stage. NotFound: it printed none."""
    from mcp_server.idf import junit  # noqa: PLC0415  # asked for seldom
    from mcp_server.idf.unity import TestResults  # noqa: PLC0415

    view = await orchestrator.get(build)
    found = {
        stage: TestResults.model_validate(verdict["details"]["tests"])
        for stage, verdict in (view.build.test_results or {}).items()
        if "tests" in verdict.get("details", {})
    }
    if not found:
        raise NotFound(f"build {view.build.id} has no test results: no firmware of it printed a test's result")
    sys.stdout.write(junit.document(found))
    return 0
