"""What docs/devices.md tells a reader without hardware to type, typed."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.cli.program import Terminal, run

PAGE = Path(__file__).parents[3] / "docs" / "devices.md"


def commands(folder: Path) -> list[list[str]]:
    """Those of the section, their files in `folder`."""
    section = PAGE.read_text(encoding="utf-8").partition("## Without a board\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("    ")]
    return [shlex.split(line.replace("/tmp/", f"{folder}/")) for line in lines]


@pytest.mark.timeout(120)
def test_a_reader_without_a_board_sees_one_flashed_and_hears_it(home: Path, tmp_path: Path) -> None:
    """Ours. As it is written, in the same order."""
    chip, *prepare, flash, monitor = commands(tmp_path)
    assert chip[0] == "python" and {line[0] for line in (*prepare, flash, monitor)} == {"build-orchestrator"}
    board = subprocess.Popen([sys.executable, *chip[1:]], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert board.stdout is not None
        board.stdout.readline()  # it is there
        for line in prepare:
            done = run(*line[1:])
            assert done.returncode == 0, done.stdout + done.stderr
        with Terminal(tuple(flash[1:])) as terminal:
            terminal.expect("?")
            terminal.press("y\n")
            assert terminal.end() == 0, terminal.shown
            assert "3 images of build 2, " in terminal.shown
        with Terminal(tuple(monitor[1:])) as terminal:
            terminal.expect("greenhouse: ")
            terminal.press("\x03")
            assert terminal.end() in (0, 130)
    finally:
        board.kill()
        board.communicate()
