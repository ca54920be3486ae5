"""What stands on the screen while a build is followed: a frame painted over itself, or a line a change."""

import asyncio
import io
import re

import pytest
from rich.text import Text

from mcp_server.cli import frame
from mcp_server.cli.display import Lines, Painted
from mcp_server.cli.screen import Screen
from mcp_server.model import Ending, Plan
from tests.unit.cli.builders import NOW, StoppedClock, build, half_done, spec, stage, view

_PIECES = re.compile(r"\x1b\[(\d*)([A-Za-z])|\x1b\[\?\d+[hl]|(.)", re.DOTALL)


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


class Waiting(StoppedClock):
    """Nothing is painted between two updates."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()


def on_screen(written: str, width: int) -> list[str]:
    """The lines that a terminal of `width` columns shows, the last column's wrap put off as terminals do."""
    lines, row, column = [[" "] * width], 0, 0
    for number, what, letter in (found.groups() for found in _PIECES.finditer(written)):
        if what == "A":
            row = max(row - int(number or 1), 0)
        elif what == "K":
            lines[row] = [" "] * width
        elif letter == "\r":
            column = 0
        elif letter == "\n" or (letter and column == width):
            row, column = row + 1, 0
            lines += [[" "] * width] if row == len(lines) else []
        if letter and letter not in "\r\n":
            lines[row][column] = letter
            column += 1
    return ["".join(line).rstrip() for line in lines]


@pytest.fixture
def tty(monkeypatch: pytest.MonkeyPatch) -> Tty:
    for name, value in (("TERM", "xterm"), ("COLUMNS", "80"), ("LINES", "24"), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)
    return Tty()


async def test_a_typed_ctrl_c_leaves_no_part_of_a_frame_behind(tty: Tty) -> None:
    """Ours. The terminal echoes it where the cursor rests; a frame that is as wide as the terminal must not shift."""
    display = Painted(Screen(tty), Waiting())  # pyright: ignore[reportArgumentType]
    await display.update(view(build(), half_done()))
    tty.write("^C")  # by the terminal, not by us
    await display.update(view(build(), half_done()))
    display.pause()
    lines = on_screen(tty.getvalue(), 80)

    assert sum(line.startswith("┌─ build 42") for line in lines) == 1
    assert "^C" not in "".join(lines)
    assert lines[0].startswith("┌─") and lines[5].startswith("└─")
    assert lines[6:] == [""]


async def test_lines_in_a_pipe_name_the_attempt_and_never_repeat_themselves() -> None:
    """Ours. A stage that is skipped a second time, because what failed was tried again, is the same news."""
    file = io.StringIO()
    lines = Lines(Screen(file))
    first, second = stage("build", "failed", exit_code=1), stage("build", "running", attempt=2)
    skipped = stage("after", "skipped", reason="dependency")
    tried = build(plan=Plan(stages=(spec("build"), spec("after", "command", "build")), on_failure=Ending(retry=1)))
    await lines.update(view(tried, first, skipped))
    await lines.update(view(tried, first, skipped, second))
    await lines.update(view(tried, first, skipped, second, skipped.model_copy(update={"attempt": 2})))
    await lines.update(view(tried, first, stage("build", "success", attempt=2)))

    assert file.getvalue().splitlines() == [
        "stage build: failed after 12 s; exit code 1",
        "stage after: skipped; not run: build failed",
        "stage build, attempt 2: running on local",
        "stage build, attempt 2: success after 12 s",
    ]


async def test_lines_tell_what_failed_while_other_stages_run() -> None:
    """Ours. The report that says so may be hours away."""
    file = io.StringIO()
    await Lines(Screen(file)).update(view(build(), stage("build", "failed", exit_code=1), stage("run", "running")))

    assert file.getvalue().splitlines()[0] == "stage build: failed after 12 s; exit code 1"


@pytest.mark.parametrize("width", [40, 80])
def test_nothing_waits_in_a_build_that_is_over(width: int) -> None:
    """Ours. A cancelled build's stages that were never begun will not begin."""
    over = build(status="cancelled", plan=Plan(stages=(spec("build"), spec("run", "idf.run", "build"))))
    made: list[Text] = frame.framed(view(over, stage("build", "cancelled")), NOW, frame.Style(width))
    shown = "\n".join(line.plain for line in made)

    assert "waiting" not in shown and "after build" not in shown
    assert "[not begun]" in shown


def test_the_frame_says_which_attempt_passed() -> None:
    """Ours."""
    made = frame.framed(view(build(), stage("build", "success", attempt=2)), NOW, frame.Style(80))

    assert "passed on attempt 2" in made[1].plain
