"""The demo in a pipe: red, mended, green, verified, and all of it on record."""

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.integration.cli.program import Terminal, run


def test_the_loop_goes_all_the_way_and_says_what_is_simulated(home: Path) -> None:
    done = run("demo")

    assert (done.returncode, done.stderr) == (0, "")
    out = done.stdout
    assert "✗ round 1  build failed · " in out
    assert "main/thermostat.c:8:9 error: implicit declaration of function 'valve_opne'" in out
    assert "    -        valve_opne();\n    +        valve_open();\n" in out
    assert "✓ round 2  build success · " in out and "✓ round 2  run   success · " in out
    assert "SELF TEST PASSED" in out and "red → mended → green → verified" in out
    for line in out.splitlines():
        if line.startswith(("✗", "✓", "  board", "  emulator", "  developer", "  ESP-IDF")):
            assert "simulated" in line or "virtual" in line
    assert len(out.splitlines()) <= 46
    assert max(len(line) for line in out.splitlines() if str(home) not in line) <= 80


def test_the_record_is_what_was_told(home: Path) -> None:
    run("demo")

    with closing(sqlite3.connect(home / "orchestrator.db")) as database:
        query = "select round, stage, status from stages where status != 'skipped' order by round, started_at"
        rows = database.execute(query).fetchall()
    assert rows[:3] == [(1, "build", "failed"), (1, "fix", "success"), (2, "build", "success")]
    assert set(rows[3:]) == {(2, stage, "success") for stage in ("run", "image", "flash", "boot")}
    assert len(list(home.glob("jobs/*/*-1-*/log"))) == 7


def test_it_can_be_run_again_and_elsewhere(tmp_path: Path) -> None:
    for folder in (tmp_path / "a b", tmp_path / "a b", tmp_path / "$(reboot)"):
        done = run("demo", "--dir", str(folder))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "valve_open();" in (folder / "main" / "thermostat.c").read_text()
    assert len(json.loads(run("builds", "--json").stdout)) == 3


def test_json_is_one_object_and_the_story_goes_to_stderr() -> None:
    done = run("demo", "--json")

    assert done.returncode == 0
    assert json.loads(done.stdout)["build"]["round"] == 2
    assert "red → mended → green → verified" in done.stderr


def test_a_folder_with_other_things_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").touch()

    done = run("demo", "--dir", str(tmp_path / "mine"))

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["precious"]


def test_without_a_compiler_it_says_what_to_install_and_starts_nothing(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "git", "ninja"):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)

    done = run("demo", PATH=str(tools))

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "the demo needs a C compiler" in done.stderr and "install" in done.stderr
    assert run("builds").stdout == ""


def test_in_a_terminal_it_ends_the_same() -> None:
    with Terminal(("demo",), height=40) as terminal:
        assert terminal.end() == 0

    assert "red → mended → green → verified" in terminal.shown
    assert all(
        len(line) <= 80 for line in terminal.shown.splitlines() if os.environ["HOME"] not in line and "/" not in line
    )
