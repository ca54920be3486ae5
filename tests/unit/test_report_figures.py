"""Coverage, times of files and trends as text: short enough for a model, and a picture that a pipe keeps."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mcp_server.build_trends import (
    CaseCounts,
    Compiled,
    Count,
    Covered,
    FailingTest,
    SlowFile,
    TrendPoint,
    Trends,
    Weight,
)
from mcp_server.model import StageStatus, Verdict
from mcp_server.report import build_report
from mcp_server.report_figures import PICTURE_COLUMNS, coverage_line, picture, trend_text
from mcp_server.report_tables import size_table
from mcp_server.views import BuildView
from tests.unit.cli.builders import build, stage, view

COVERAGE: Mapping[str, Any] = {
    "lines": {"covered": 977, "total": 1204},
    "functions": {"covered": 40, "total": 44},
    "files": [
        {"file": "src/a.c", "lines": {"covered": 10, "total": 160}},
        {"file": "src/b\x1b[2J.c", "lines": {"covered": 23, "total": 100}},
        {"file": "src/whole.c", "lines": {"covered": 9, "total": 9}},
    ],
}
TIMES: Mapping[str, Any] = {
    "edges": 66,
    "wall_s": 3.21,
    "total_s": 5.9,
    "longest_s": 1.4,
    "objects": 60,
    "objects_s": 5.1,
    "files": [{"file": f"main/file{n}.c", "seconds": 0.8} for n in range(20)],
    "steps": [{"file": "app.elf", "seconds": 0.4}],
}


def seen(before: Count | None = None, **details: Any) -> BuildView:
    """A build that passed, with these details of its stage."""
    row = stage().model_copy(
        update={"status": StageStatus.SUCCESS, "verdict": Verdict(result="pass", details=details), "progress": None}
    )
    return view(build(42, "success"), row, coverage_before=before)


def point(number: int, **values: Any) -> TrendPoint:
    """A build that is over."""
    at = datetime(2026, 11, 20, tzinfo=UTC)
    given: dict[str, Any] = {"status": "success", "duration": 38.0, **values}
    return TrendPoint(
        id=number, name="b", reason=None, target="esp32", branch=None, commit_sha="", created_at=at, **given
    )


def test_a_success_says_its_coverage_in_one_line_with_the_change() -> None:
    """Issue. An agent pays for every byte."""
    report = build_report(seen(Count(815, 1000), coverage=COVERAGE))

    assert "\ncoverage 81.1 % of 1,204 lines (-0.4)\n" in f"{report}\n"
    assert coverage_line(seen(coverage=COVERAGE)) == "coverage 81.1 % of 1,204 lines"
    assert coverage_line(seen(Count(1, 1))) == ""


def test_sizes_of_a_build_come_with_coverage_and_times_and_their_change() -> None:
    """Issue. build_get(detail="sizes"); names from a build are one line without control characters."""
    other = seen(coverage={"lines": {"covered": 900, "total": 1200}})
    text = size_table(seen(coverage=COVERAGE, compile=TIMES), other)

    assert text.splitlines() == [
        "build 42:",
        "coverage 81.1 % of 1,204 lines (+6.1) · 90.9 % of 44 functions",
        "  lines not run: src/a.c 150 of 160 · src/b.c 77 of 100",
        "build compiled 60 files in 5.1 s, all of its 66 steps ran within 3.2 s, the longest chain of them 1.4 s",
        "  slowest: main/file0.c 0.80 s · main/file1.c 0.80 s · main/file2.c 0.80 s · main/file3.c 0.80 s"
        " · main/file4.c 0.80 s · main/file5.c 0.80 s · and 14 more",
        "  other steps: app.elf 0.40 s",
    ]


def test_statistics_tell_a_model_what_changed_in_four_lines() -> None:
    """Ours. Coverage, flash, slow files, red tests."""
    builds = (
        point(1, coverage=Covered(Count(9, 10)), sizes=Weight(1000, None, None)),
        point(2, sizes=Weight(1200, None, None)),
        point(3, coverage=Covered(Count(8, 10))),
    )
    slow = tuple(SlowFile(f"main/f{n}.c", 1.5, 1.5, 3) for n in range(9))
    found = trend_text(Trends("p", builds, slow, (FailingTest("gpio.level", "qemu", 3, 9, 41),)))

    assert found == [
        "coverage 80.0 % of 10 lines in build 3 (-10.0) over 2 builds",
        "flash 1,200 B, +200 over 2 builds",
        "slowest to compile: main/f0.c 1.5 s, main/f1.c 1.5 s, main/f2.c 1.5 s",
        "tests that fail most: gpio.level 3 of 9",
    ]


def test_the_picture_has_a_column_a_build_and_a_row_a_figure() -> None:
    """Issue. The newest build is right; what a build does not tell is a gap."""
    builds = (
        point(1, duration=10.0, sizes=Weight(100_000, None, None), tests=CaseCounts(3, 1, 0)),
        point(2, duration=None, status="cancelled"),
        point(3, duration=40.0, status="failed", sizes=Weight(100_700, None, None), tests=CaseCounts(4, 0, 0)),
    )

    assert picture(Trends("p", builds)) == [
        "last 3 builds, the newest right; F failed, c cancelled",
        "result     ·cF",
        "duration   ▃ █ 40s (10s-40s)",
        "flash      ▁ █ 100.7kB (100.0kB-100.7kB)",
        "red tests  █ ▁ 0 (0-1)",
    ]
    assert picture(Trends("p", builds), ascii_only=True)[1:3] == ["result     .cF", "duration   - # 40s (10s-40s)"]
    assert picture(Trends("p", builds[:1])) == []


figure = st.none() | st.integers(0, 10**9)


@given(st.lists(st.tuples(figure, figure, st.floats(0, 1e6)), max_size=130))
def test_the_picture_never_passes_80_columns(rows: list[tuple[int | None, int | None, float]]) -> None:
    """Ours. In a pipe nobody cuts it."""
    builds = tuple(
        point(
            n,
            duration=seconds,
            sizes=Weight(flash, ram, None),
            compile=Compiled(1, seconds, seconds, 1, seconds),
            coverage=Covered(Count(min(flash or 0, 100), 100)),
        )
        for n, (flash, ram, seconds) in enumerate(rows)
    )
    found = picture(Trends("p", builds))

    assert all(len(line) <= 80 and "\n" not in line for line in found)
    assert not found or len(found[1]) <= 11 + PICTURE_COLUMNS
