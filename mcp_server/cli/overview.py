"""`status`: what runs, what waits, and what ended last."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.text import Text

from mcp_server.cli import frame, listing, record
from mcp_server.cli.display import display_for
from mcp_server.cli.screen import Screen, err, out, print_json
from mcp_server.cli.verdict import verdict_lines
from mcp_server.model import Build, BuildStatus, Project

if TYPE_CHECKING:
    from mcp_server.orchestrator import BuildView, Orchestrator

MOST_OPEN = 20
LAST = 5
LOOK_S = 1  # between two looks: the orchestrator can wait for one build only, and the clocks move anyway
POKE_LOOKS = 3  # every so many looks the worker is woken: a killed one has nobody else to start the next
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
        err().say("no builds: build-orchestrator run --project DIR starts one")
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
            view = await orchestrator.wait(view.build.id, math.inf, display.update)
        finally:
            display.pause()
    else:
        screen.say(*frame.framed(view, orchestrator.clock.now(), _style(screen)))
    if not json and not view.build.status.is_open:
        screen.say_text(*verdict_lines(view))


async def watch(orchestrator: "Orchestrator") -> None:
    """Looks painted over each other until Ctrl-C; where nothing can be painted, a look whenever something changed."""
    screen = out()
    if screen.lively:
        await _paint(orchestrator, screen)
    else:
        await _print_changes(orchestrator, screen)


async def _paint(orchestrator: "Orchestrator", screen: Screen) -> None:
    with Live(console=screen.console, auto_refresh=False, vertical_overflow="ellipsis") as live:
        looks = 0
        while True:
            seen = await look(orchestrator)
            lines = _lines(seen, orchestrator.clock.now(), screen) or [Text("no builds yet")]
            live.update(Group(*lines, Text("Ctrl-C ends this; builds go on", "dim")), refresh=True)
            await _pause(orchestrator, seen, looks)
            looks += 1


async def _print_changes(orchestrator: "Orchestrator", screen: Screen) -> None:
    said: object = None
    looks = 0
    while True:
        seen = await look(orchestrator)
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
        await _pause(orchestrator, seen, looks)
        looks += 1


async def _pause(orchestrator: "Orchestrator", seen: Overview, looks: int) -> None:
    if seen.views and looks % POKE_LOOKS == 0:
        await orchestrator.poke()
    await orchestrator.clock.sleep(LOOK_S)


def _style(screen: Screen) -> frame.Style:
    return frame.Style(min(screen.width, MOST_WIDTH), screen.ascii)


def _lines(seen: Overview, now: datetime, screen: Screen) -> list[Text]:
    style = _style(screen)
    lines: list[Text] = []
    running = [view for view in seen.views if view.build.status is BuildStatus.RUNNING]
    for view in [*running, *(view for view in seen.views if view not in running)]:
        lines += frame.framed(view, now, style)
    if seen.last:
        lines += listing.build_table(seen.last, seen.projects, now, style.width)
    return lines
