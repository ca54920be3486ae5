"""In a terminal: the painted frame, Ctrl-C that asks, logs that cannot move the cursor."""

import json
import os
import signal

from tests.integration.cli.conftest import Lay
from tests.integration.cli.program import Terminal
from tests.integration.conftest import Cli

QUESTION = "Detach or cancel? [d]etach, [c]ancel, Enter follows on: "
HANGING = {"IDF_DEMO_HANG": "1"}
RUNNING = " running ─┐"  # in the frame's title


def status_of(cli: Cli, number: int) -> str:
    return json.loads(cli("status", str(number), "--json").stdout)["build"]["status"]


def fits(terminal: Terminal) -> bool:
    """Whether no line of a frame is wider than the terminal."""
    lines = terminal.shown.replace("\r", "\n").split("\n")
    return all(len(line) <= terminal.width for line in lines if line.startswith(("┌", "│", "├", "└")))


def test_ctrl_c_asks_again_follows_on_and_detaching_leaves_the_build_running(cli: Cli, lay: Lay) -> None:
    """Ours. Closed input detaches; so does a second Ctrl-C, below, and a word, which is seen where a pipeline is left.

    A build that ends while it is asked gives its verdict.
    """
    with Terminal(("run", "--project", lay(mended=True)), environment=HANGING) as terminal:
        terminal.expect(RUNNING)
        terminal.press("\x03")
        terminal.expect(QUESTION)
        terminal.press("what?\n")
        terminal.expect(QUESTION, times=2)
        frames = terminal.shown.count("┌─ build 1 ")
        terminal.press("\n")
        terminal.expect("┌─ build 1 ", times=frames + 1)
        terminal.press("\x03")
        terminal.expect(QUESTION, times=3)
        terminal.press("\x04")
        code = terminal.end()

    assert code == 130
    assert "build 1 goes on without this terminal" in terminal.shown
    assert status_of(cli, 1) == "running"
    with Terminal(("run", "--project", lay("other", mended=True)), environment=HANGING) as terminal:
        terminal.expect(RUNNING)
        terminal.press("\x03")
        terminal.expect(QUESTION)
        cli("cancel", "2")

        assert terminal.end() == 1
    assert "build 2 cancelled" in terminal.shown
    assert f"{QUESTION}\n┌─ build 2 " in terminal.shown  # nothing was painted behind the question
    cli("cancel", "1")


def test_a_lost_terminal_and_a_second_ctrl_c_leave_the_build_running(cli: Cli, lay: Lay) -> None:
    folder = lay(mended=True)
    with Terminal(("run", "--project", folder), environment=HANGING) as terminal:
        terminal.expect(RUNNING)
        os.kill(terminal.process.pid, signal.SIGHUP)

        assert terminal.end() == 128 + signal.SIGHUP
    assert status_of(cli, 1) == "running"
    with Terminal(("run", "--project", lay("other", mended=True)), environment=HANGING) as terminal:
        terminal.expect(RUNNING)
        terminal.press("\x03")
        terminal.expect(QUESTION)
        terminal.press("\x03")

        assert terminal.end() == 130
    assert "build 2 goes on without this terminal" in terminal.shown
    assert status_of(cli, 2) == "running"
    cli("cancel", "1")
    cli("cancel", "2")


def test_what_a_terminal_cannot_do_is_not_done(lay: Lay) -> None:
    folder = lay()
    for environment in ({"TERM": "dumb"}, {"NO_COLOR": "1"}):
        with Terminal(("run", "--project", folder), environment=environment) as terminal:
            assert terminal.end() == 1

        assert "\x1b[3" not in terminal.raw  # no colours
        if environment.get("TERM") == "dumb":
            assert "\x1b" not in terminal.raw
            assert "stage build: failed after" in terminal.shown


def test_a_build_is_painted_within_the_terminal_and_left_standing_with_its_verdict(lay: Lay) -> None:
    """Ours. Wider lines would be broken in two and a repainted frame would climb up the screen."""
    folder = lay("넓은이름" * 5)
    for arguments in (("run", "--project", folder), ("builds",), ("status", "1"), ("doctor",)):
        with Terminal(arguments, width=40) as terminal:
            terminal.end()
        assert fits(terminal), arguments
        if arguments == ("builds",):
            assert all(len(line) <= 40 for line in terminal.shown.splitlines())
    with Terminal(("run", "--project", folder)) as terminal:
        assert terminal.end() == 1
    assert fits(terminal)
    last = terminal.shown.rpartition("┌─ ")[2]
    assert last.startswith("build 2 · ") and " failed ─┐\n" in last
    assert "│ Stage 1: build  local  [failed]" in last
    assert "main/thermostat.c:8:9 error: implicit declaration" in last
    assert "\x1b[?25h" in terminal.raw  # the cursor is shown again
    with Terminal(("status", "--watch")) as terminal:
        terminal.expect("Ctrl-C ends this; builds go on")
        terminal.press("\x03")

        assert terminal.end() == 130
    assert "greenhouse" in terminal.shown and "Traceback" not in terminal.shown
