"""In a terminal: the painted frame, Ctrl-C that asks, logs that cannot move the cursor."""

import json
import os
import signal

import pytest

from tests.integration.cli.conftest import Lay
from tests.integration.cli.program import Terminal
from tests.integration.conftest import Cli

QUESTION = "Detach or cancel? [d]etach, [c]ancel, Enter follows on: "
HANGING = {"IDF_DEMO_HANG": "1"}
RUNNING = " running ─┐"  # in the frame's title


def status_of(cli: Cli, number: int) -> str:
    return json.loads(cli("status", str(number), "--json").stdout)["build"]["status"]


def test_a_build_is_painted_and_left_standing_with_its_verdict(lay: Lay) -> None:
    with Terminal(("run", "--project", lay())) as terminal:
        code = terminal.end()

    assert code == 1
    last = terminal.shown.rpartition("┌─ ")[2]
    assert last.startswith("build 1 · greenhouse · linux ") and " failed ─┐\n" in last
    assert "│ Stage 1: build  local  [failed]" in last
    assert "main/thermostat.c:8:9 error: implicit declaration" in last
    assert "\x1b[?25h" in terminal.raw  # the cursor is shown again


@pytest.mark.parametrize("answer", ["\x03", "\x04"])
def test_ctrl_c_asks_and_detaching_leaves_the_build_running(cli: Cli, lay: Lay, answer: str) -> None:
    """Ours. A second Ctrl-C and a closed input detach, too; detaching by a word is seen where a pipeline is left."""
    with Terminal(("run", "--project", lay(mended=True)), environment=HANGING) as terminal:
        terminal.expect(RUNNING)
        terminal.press("\x03")
        terminal.expect(QUESTION)
        terminal.press(answer)
        code = terminal.end()

    assert code == 130
    assert "build 1 goes on without this terminal" in terminal.shown
    assert status_of(cli, 1) == "running"
    cli("cancel", "1")


def test_anything_else_asks_again_and_enter_follows_on(cli: Cli, lay: Lay) -> None:
    with Terminal(("run", "--project", lay(mended=True)), environment=HANGING) as terminal:
        terminal.expect(RUNNING)
        terminal.press("\x03")
        terminal.expect(QUESTION)
        terminal.press("what?\n")
        terminal.expect(QUESTION, times=2)
        frames = terminal.shown.count("┌─ build 1 ")
        terminal.press("\n")
        terminal.expect("┌─ build 1 ", times=frames + 1)
        cli("cancel", "1")

        assert terminal.end() == 1


def test_a_build_that_ends_while_it_is_asked_gives_its_verdict(cli: Cli, lay: Lay) -> None:
    with Terminal(("run", "--project", lay(mended=True)), environment=HANGING) as terminal:
        terminal.expect(RUNNING)
        terminal.press("\x03")
        terminal.expect(QUESTION)
        cli("cancel", "1")

        assert terminal.end() == 1
    assert "build 1 cancelled" in terminal.shown
    assert f"{QUESTION}\n┌─ build 1 " in terminal.shown  # nothing was painted behind the question


def test_a_lost_terminal_leaves_the_build_running(cli: Cli, lay: Lay) -> None:
    with Terminal(("run", "--project", lay(mended=True)), environment=HANGING) as terminal:
        terminal.expect(RUNNING)
        os.kill(terminal.process.pid, signal.SIGHUP)

        assert terminal.end() == 128 + signal.SIGHUP
    assert status_of(cli, 1) == "running"
    cli("cancel", "1")


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_what_a_terminal_cannot_do_is_not_done(lay: Lay, environment: dict[str, str]) -> None:
    with Terminal(("run", "--project", lay()), environment=environment) as terminal:
        assert terminal.end() == 1

    assert "\x1b[3" not in terminal.raw  # no colours
    if environment.get("TERM") == "dumb":
        assert "\x1b" not in terminal.raw
        assert "stage build: failed after" in terminal.shown


def test_no_line_of_any_command_is_wider_than_the_terminal(lay: Lay) -> None:
    """Ours. Wider ones would be broken in two and a repainted frame would climb up the screen."""
    folder = lay("넓은이름" * 5)
    commands = (("run", "--project", folder), ("builds",), ("status",), ("status", "1"), ("doctor",))
    for width, arguments in (*((40, arguments) for arguments in commands), (80, commands[0])):
        with Terminal(arguments, width=width) as terminal:
            terminal.end()
        framed = [
            line for line in terminal.shown.replace("\r", "\n").split("\n") if line.startswith(("┌", "│", "├", "└"))
        ]
        assert all(len(line) <= width for line in framed), (width, arguments)
        if arguments == ("builds",):
            assert all(len(line) <= width for line in terminal.shown.splitlines()), width


def test_status_watched_is_painted_until_ctrl_c(cli: Cli, lay: Lay) -> None:
    cli("run", "--project", lay())
    with Terminal(("status", "--watch")) as terminal:
        terminal.expect("Ctrl-C ends this; builds go on")
        terminal.press("\x03")

        assert terminal.end() == 130
    assert "greenhouse" in terminal.shown and "Traceback" not in terminal.shown
