"""The demo's story: told only from rows, and the loop is closed only where they prove it."""

import io
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from mcp_server.cli.loop import check_tools
from mcp_server.cli.screen import Screen
from mcp_server.cli.story import Story, conclusion, timeline, went_the_whole_way
from mcp_server.config import load_config
from mcp_server.errors import EnvironmentMissing
from mcp_server.model import Plan, Stage, Verdict
from mcp_server.views import BuildView
from tests.unit.cli.builders import NOW, build, failed_stage, spec, stage, view

PLAN = Plan(stages=(spec("build"), spec("qemu", "idf.run", "build")), fix=spec("fix", "agent.fix"), max_rounds=2)
PASSED = Verdict(result="pass", summary="SELF TEST PASSED")


def rows() -> dict[str, Stage]:
    """The four rows of a loop that closed, a second each."""
    made = {
        "red": failed_stage(),
        "fix": stage("fix", "success", kind="agent.fix", verdict=Verdict(result="pass", summary="changed")),
        "green": stage("build", "success", round=2, verdict=Verdict(result="pass")),
        "run": stage("qemu", "success", round=2, kind="idf.run", verdict=PASSED),
    }
    times = {name: NOW + timedelta(seconds=number) for number, name in enumerate(made)}
    return {
        name: row.model_copy(update={"started_at": times[name], "ended_at": times[name] + timedelta(seconds=1)})
        for name, row in made.items()
    }


def whole(status: str = "success", **changed: Stage | None) -> BuildView:
    found = [row for row in {**rows(), **changed}.values() if row is not None]
    return view(build(status=status, round=2, plan=PLAN), *found)


def screen(monkeypatch: pytest.MonkeyPatch, width: int = 80) -> tuple[Screen, io.StringIO]:
    monkeypatch.setenv("COLUMNS", str(width))
    file = io.StringIO()
    return Screen(file), file


def test_the_loop_is_closed_where_all_four_rows_say_so() -> None:
    assert went_the_whole_way(whole())
    assert "red → mended → green → verified" in conclusion(whole()).plain


@pytest.mark.parametrize(
    "broken",
    [
        whole(red=rows()["green"].model_copy(update={"round": 1})),
        whole(red=stage("build", "failed", verdict=Verdict(result="fail"))),
        whole(fix=None),
        whole(fix=stage("fix", "failed")),
        whole(green=None),
        whole(run=None),
        whole(run=stage("qemu", "failed", round=2)),
        whole(status="failed"),
    ],
    ids=[
        "never red",
        "red without a cause",
        "no fix",
        "fix failed",
        "never green",
        "not run",
        "run failed",
        "build failed",
    ],
)
def test_anything_less_is_said_to_be_less(broken: BuildView) -> None:
    assert not went_the_whole_way(broken)
    assert "did not close" in conclusion(broken).plain


async def test_each_row_is_told_once_and_each_simulated_one_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    target, file = screen(monkeypatch)
    story = Story(target, load_config(), None, simulated=True)
    for shown in (whole(run=stage("qemu", "running", round=2)), whole(), whole()):
        await story.update(shown)

    told = [line for line in file.getvalue().splitlines() if line.startswith(("✓", "✗", "ok", "X"))]
    assert [line.split()[3] for line in told] == ["build", "fix", "build", "qemu"]
    assert all("simulated" in line for line in told)


@pytest.mark.parametrize("width", [30, 40, 60, 80])
def test_the_timeline_fits_and_its_bars_follow_each_other(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    target, _ = screen(monkeypatch, width)

    lines = [line.plain for line in timeline(whole(), target)]

    assert len(lines) == 5
    assert max(len(line) for line in lines) <= max(width, 32)
    if width == 80:
        assert lines[0].endswith("0 s                      4.0 s")
        bar = "#" if target.ascii else "█"
        starts = [line.index(bar) for line in lines[1:]]
        assert starts == sorted(set(starts))


async def test_with_a_real_esp_idf_only_board_and_developer_are_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    target, file = screen(monkeypatch)
    story = Story(target, load_config(), None, simulated=False)
    story.begin(Path("/p"), "5.4.1")
    await story.update(whole())

    for line in file.getvalue().splitlines():
        if "build" in line.split()[:4] and line.startswith(("✓", "✗", "ok", "X")):
            assert "simulated" not in line
    assert "ESP-IDF   5.4.1\n" in file.getvalue()


def test_what_the_simulation_needs_is_named_with_what_brings_it(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentMissing, match="C compiler"):
        check_tools({"PATH": str(tmp_path)})

    compiler = shutil.which("true")
    assert compiler is not None
    (tmp_path / "cc").symlink_to(compiler)
    check_tools({"PATH": str(tmp_path)})  # ninja lies beside Python here
