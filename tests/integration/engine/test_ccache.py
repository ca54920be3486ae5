"""Builds with the machine's real ccache: what was compiled once is not compiled again."""

import shutil
import subprocess
from pathlib import Path

import pytest

from mcp_server.demo.place import fix_patch, lay_out
from mcp_server.idf.project import read_cache
from mcp_server.model import BuildStatus
from mcp_server.orchestrator import Orchestrator
from mcp_server.views import BuildView

WAIT_S = 40

pytestmark = [
    pytest.mark.worker_inside,
    pytest.mark.skipif(not all(shutil.which(tool) for tool in ("cc", "ccache")), reason="no C compiler or no ccache"),
]


async def build(orchestrator: Orchestrator, project: Path, *, clean: bool = False) -> BuildView:
    started = await orchestrator.start_build(str(project), clean=clean)
    view = await orchestrator.wait(started.build.id, WAIT_S)
    assert view.build.status is BuildStatus.SUCCESS
    return view


def told(view: BuildView) -> dict[str, int] | None:
    assert view.stages[0].verdict is not None
    return view.stages[0].verdict.details.get("ccache")


@pytest.fixture
def firmware(tmp_path: Path) -> Path:
    """The demo's firmware, its mistake mended."""
    folder = lay_out(tmp_path / "firmware")
    subprocess.run(["patch", "-p1", "-s"], input=fix_patch(), text=True, cwd=folder, check=True)
    return folder


async def test_a_clean_build_takes_everything_from_the_cache(orchestrator: Orchestrator, firmware: Path) -> None:
    """Issue: ccache switched on where installed; a build that nothing changed in stays ninja's and asks it nothing."""
    first = await build(orchestrator, firmware)
    again = await build(orchestrator, firmware)
    clean = await build(orchestrator, firmware, clean=True)

    counts = told(first)
    assert counts is not None
    assert (counts["hits"], counts["misses"] > 0) == (0, True)
    assert told(again) is None
    assert (again.stages[0].resolved or {})["uses_ninja"]
    assert told(clean) == {"hits": counts["misses"], "misses": 0}
    assert not list((firmware / "build").glob(".ccache*"))


async def test_a_directory_built_without_ccache_is_left_as_it_is(
    orchestrator: Orchestrator, firmware: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. Else everything would be compiled anew."""
    orchestrator.environment["IDF_CCACHE_ENABLE"] = "0"
    monkeypatch.setenv("IDF_CCACHE_ENABLE", "0")  # of the worker that the first build starts
    off = await build(orchestrator, firmware)

    assert told(off) is None
    assert read_cache(firmware / "build")["CCACHE_ENABLE"] == "False"
