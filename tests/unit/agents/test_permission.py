"""Where a task's policy lets files be changed, and where only looked at."""

from pathlib import Path

import pytest

from mcp_server.agents.permission import Policy


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    """Of a project that builds in `build` and, by a link, in `out/far`."""
    folder = tmp_path / "task"
    for name in ("build/main", "main", "elsewhere"):
        (folder / name).mkdir(parents=True)
    (folder / "main" / "sly").symlink_to("../build")
    (folder / "out").symlink_to("elsewhere")
    return Policy(folder, closed=("build", "out/far"))


@pytest.mark.parametrize(
    "path",
    [
        *("build/app.elf", "build", "./main/../build/main/new.o", "main/sly/app.elf", "BUILD/app.elf"),
        *("{}/build/app.elf", "out/far/app.elf", "elsewhere/far/app.elf"),
    ],
)
def test_what_builds_make_is_read_and_not_changed(policy: Policy, path: str) -> None:
    """Issue: the real compile is the only judge. By whatever way the path leads there."""
    path = path.format(policy.folder)

    assert policy.may_touch(path) is None
    assert (policy.may_change(path) or "").endswith("where only the build itself writes")


@pytest.mark.parametrize("path", ["main/main.c", "builder/a.c", "main/build/a.c", "build.txt", "elsewhere/near.c"])
def test_all_else_of_the_project_may_be_changed(policy: Policy, path: str) -> None:
    """Ours. A name that only begins alike is another."""
    assert policy.may_change(path) is None


@pytest.mark.parametrize("path", ["", "../a", "/etc/passwd", ".git/config", "a\0b"])
def test_what_may_not_be_looked_at_is_not_changed(policy: Policy, path: str) -> None:
    """Ours."""
    assert policy.may_change(path) == policy.may_touch(path) is not None


def test_a_listed_command_is_not_made_one_that_reaches_a_board(tmp_path: Path) -> None:
    """Ours. A board is asked for: an agent that only may build flashes by habit, and a file may hold the words."""
    policy = Policy(tmp_path, ("idf.py build", "make", "idf.py size flash"))

    for more in ("flash", "-p /dev/ttyUSB0 app-flash monitor", "erase-flash", "@words", "efuse-summary"):
        assert "listed whole" in (policy.may_run(f"idf.py build {more}") or "")
    assert "listed whole" in (policy.may_run("make flash") or "")
    for command in ("idf.py build -v", "make test_flash.o", "make -C main/flash", "idf.py size flash"):
        assert policy.may_run(command) is None
