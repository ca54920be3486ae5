"""Firmware older than its sources is recognised, by what the project wrote, not by what its build did."""

import os
import time
from pathlib import Path

import pytest

from mcp_server.idf.newer import changed_since


def lamp(folder: Path) -> Path:
    """A project, all of it as old as now."""
    for name in ("CMakeLists.txt", "main/CMakeLists.txt", "main/lamp.c", "components/led/include/led.h", "sdkconfig"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("once")
    return folder


def later(folder: Path) -> float:
    """A moment after everything below `folder`: file systems count in ticks of a clock of their own."""
    return max(path.stat().st_ctime for path in folder.rglob("*")) + 0.001


def rewrite(path: Path, after: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 2
    while not path.exists() or path.stat().st_ctime <= after:
        assert time.monotonic() < end
        path.write_text("again")


@pytest.mark.parametrize(
    "name",
    [
        "main/lamp.c",
        "main/new.cpp",
        "components/led/include/led.h",
        "main/Kconfig.projbuild",
        "partitions.csv",
        "sdkconfig.defaults.esp32c3",
        "CMakeLists.txt",
    ],
)
def test_a_changed_or_new_source_is_named(name: str, tmp_path: Path) -> None:
    """Ours."""
    built_at = later(lamp(tmp_path))
    assert changed_since(tmp_path, tmp_path / "build", built_at) is None

    rewrite(tmp_path / name, built_at)

    assert changed_since(tmp_path, tmp_path / "build", built_at) == name


@pytest.mark.parametrize("name", ["sdkconfig", "build/lamp.c", "README.md", "main/build/gen.c", "main/.cache/x.c"])
def test_what_a_build_writes_itself_does_not_count(name: str, tmp_path: Path) -> None:
    """Ours."""
    built_at = later(lamp(tmp_path))

    rewrite(tmp_path / name, built_at)

    assert changed_since(tmp_path, tmp_path / "build", built_at) is None


def test_a_file_moved_here_with_an_old_date_counts(tmp_path: Path) -> None:
    """Ours. `mv` keeps the time at which a file was written."""
    built_at = later(lamp(tmp_path))
    rewrite(tmp_path / "lamp.c", built_at)
    os.utime(tmp_path / "lamp.c", (1, 1))
    (tmp_path / "lamp.c").rename(tmp_path / "main" / "moved.c")

    assert changed_since(tmp_path, tmp_path / "build", built_at) == "main/moved.c"
