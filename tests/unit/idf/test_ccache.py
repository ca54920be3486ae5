"""When ccache is switched on, and what it notes of a job."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mcp_server.idf.ccache import STATS, count_in, counted, switch_on

ON = {"IDF_CCACHE_ENABLE": "1"}


@pytest.fixture
def env(tmp_path: Path, programs: Callable[..., Path]) -> dict[str, str]:
    """A job's environment with a ccache on its PATH and a HOME it can write to."""
    return {"PATH": str(programs("ccache")), "HOME": str(tmp_path)}


def configured(build_dir: Path, with_ccache: str) -> None:
    (build_dir / "CMakeCache.txt").write_text(f"CMAKE_GENERATOR:INTERNAL=Ninja\n{with_ccache}\n")


def test_a_new_build_directory_is_configured_with_ccache(tmp_path: Path, env: dict[str, str]) -> None:
    """Issue: on where it is installed."""
    assert switch_on(env, tmp_path) == ON
    assert switch_on(env, tmp_path / "not made yet") == ON
    assert switch_on({**env, "PATH": "/usr/nowhere"}, tmp_path) == {}


@pytest.mark.parametrize("value", ["CCACHE_ENABLE:UNINITIALIZED=True", "CCACHE_ENABLE:UNINITIALIZED=1"])
def test_a_directory_configured_with_it_keeps_it(tmp_path: Path, env: dict[str, str], value: str) -> None:
    """Ours. ESP-IDF 5 writes 1, 6 writes True."""
    configured(tmp_path, value)

    assert switch_on(env, tmp_path) == ON


@pytest.mark.parametrize("value", ["CCACHE_ENABLE:UNINITIALIZED=False", "CCACHE_ENABLE:UNINITIALIZED=0", ""])
def test_a_directory_configured_without_it_is_not_compiled_anew_for_it(
    tmp_path: Path, env: dict[str, str], value: str
) -> None:
    """Ours. Each change of it compiles everything again, here and by hand in turns; a clean build does so anyway."""
    configured(tmp_path, value)

    assert switch_on(env, tmp_path) == {}
    assert switch_on(env, tmp_path, clean=True) == ON


@pytest.mark.parametrize("name", ["IDF_CCACHE_ENABLE", "CCACHE_DISABLE"])
@pytest.mark.parametrize("value", ["0", "1", ""])
def test_the_user_decides(tmp_path: Path, env: dict[str, str], name: str, value: str) -> None:
    """Issue: unless the user set it."""
    assert switch_on({**env, name: value}, tmp_path) == {}


def test_it_stays_off_where_it_can_keep_nothing(tmp_path: Path, env: dict[str, str]) -> None:
    """Ours. With a cache that cannot be made every compile would fail."""
    (tmp_path / "file").write_text("")

    assert switch_on({**env, "CCACHE_DIR": "/proc/none/such"}, tmp_path) == {}
    assert switch_on({**env, "CCACHE_DIR": str(tmp_path / "file" / "x")}, tmp_path) == {}
    assert switch_on({**env, "CCACHE_DIR": str(tmp_path / "new")}, tmp_path) == ON
    assert switch_on({"PATH": env["PATH"]}, tmp_path) == {}


def test_hits_of_one_job_are_counted_once(tmp_path: Path, env: dict[str, str]) -> None:
    """Issue: the hit rate, only if it is exact. ccache's own statistics are of all builds together."""
    (tmp_path / STATS).write_text("of a job that was killed\n")
    noted = count_in(env | ON, tmp_path)
    assert noted == {"CCACHE_STATSLOG": str(tmp_path / STATS)}
    assert counted(tmp_path) == {}
    lines = ["# a.c", "cache_miss", "direct_cache_miss", "# b.c", "direct_cache_hit", "# c.c", "preprocessed_cache_hit"]
    (tmp_path / STATS).write_text("\n".join(lines))

    assert counted(tmp_path) == {"hits": 2, "misses": 1}
    assert counted(tmp_path) == {}


def test_nothing_is_noted_without_it_or_where_the_user_notes_it(tmp_path: Path, env: dict[str, str]) -> None:
    """Ours."""
    assert count_in(env, tmp_path) == {}
    assert count_in(env | {"IDF_CCACHE_ENABLE": "0"}, tmp_path) == {}
    assert count_in(env | ON | {"PATH": "/nowhere"}, tmp_path) == {}
    assert count_in(env | ON | {"CCACHE_STATSLOG": "/mine"}, tmp_path) == {}
