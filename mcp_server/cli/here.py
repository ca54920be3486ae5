"""Follows a started build on this process's streams and gives its exit code."""

import sys
from typing import TYPE_CHECKING

from mcp_server import record
from mcp_server.cli import screen, verdict
from mcp_server.cli.display import display_for
from mcp_server.cli.follow import Signals, follow
from mcp_server.cli.words import typed
from mcp_server.model import BuildStatus
from mcp_server.report import was_refused

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator
    from mcp_server.views import Started

REFUSED = 2
SIGNAL_BASE = 128  # a shell's way to say that a signal ended a command


async def follow_here(orchestrator: "Orchestrator", started: "Started", heard: Signals, *, json: bool) -> int:
    """0 for a success, 1 for another end, 2 for a refusal, 128 and the signal's number where the build was left."""
    err = screen.err()
    number = started.build.id
    err.say(f"build {number} is pending already: following it" if started.joined else f"build {number} started")
    asks = err if sys.stdin.isatty() and err.lively else None
    followed = await follow(orchestrator, number, display_for(err, orchestrator.clock), heard, asks)
    if followed.left_by is not None:
        say_how_to_go_on(err, number)
        return SIGNAL_BASE + followed.left_by
    if json:
        screen.print_json(record.of_view(followed.view))
    else:
        verdict.show(followed.view, screen.out())
    if was_refused(followed.view):
        return REFUSED
    return 0 if followed.view.build.status is BuildStatus.SUCCESS else 1


def say_how_to_go_on(err: screen.Screen, number: int) -> None:
    """After a detach: the build goes on, and these commands reach it."""
    err.say(
        f"build {number} goes on without this terminal",
        f"to see it: {typed()} status {number} --watch, or {typed()} logs {number} -f",
        f"to end it: {typed()} cancel {number}",
    )
