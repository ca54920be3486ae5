"""What a build's tests ran and what ninja took, as lines; and how a project's builds change, as a picture of text.

May import: build_trends, model, text and other reports. Never: store, engine, hosts, a front.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from mcp_server import report_parts as parts
from mcp_server.build_trends import Count, Covered, Details, TrendPoint, Trends, covered, listed, number, part, real
from mcp_server.text import duration, one_line

if TYPE_CHECKING:  # views are only read here; the orchestrator brings a database along
    from mcp_server.views import BuildView

MOST_FILES = 6  # of a build's lines; they are for a model that pays for each
MOST_NAMED = 3  # of a project's
BARS = "▁▂▃▄▅▆▇█"
ASCII_BARS = "_.-=+*%#"
RESULTS = {"success": "·", "failed": "F", "cancelled": "c"}
NAME_COLUMNS, SAID_COLUMNS = 10, 26
PICTURE_COLUMNS = 80 - NAME_COLUMNS - SAID_COLUMNS - 2

Rows = Sequence[Sequence[str]]
Said = Callable[[float], str]
"""How a value is told in a few columns."""


# -- of one build ------------------------------------------------------------------------------------------------------


def coverage_line(view: "BuildView") -> str:
    """`coverage 81.2 % of 1,204 lines (-0.4)`; "" where no report tells."""
    found = coverage_of(view)
    return f"coverage {_share(found.lines, 'line')}{_since(found.lines, view.coverage_before)}" if found else ""


def coverage_of(view: "BuildView") -> Covered | None:
    """What the tests of a build ran, over its stages."""
    return covered(part(details, "coverage") for _, details in _details(view))


def figure_lines(view: "BuildView", other: "BuildView | None") -> Iterator[str]:
    """Coverage and times of each stage that has them; beside another build's with the differences."""
    found, before = coverage_of(view), coverage_of(other) if other else None
    if found is not None:
        then = before.lines if before else view.coverage_before if other is None else None
        ways = ((found.branches, "branch"), (found.functions, "function"))
        more = "".join(f" · {_share(count, word)}" for count, word in ways if count)
        yield f"coverage {_share(found.lines, 'line')}{_since(found.lines, then)}{more}"
        yield from _uncovered(view)
    elif before is not None:
        yield f"coverage gone, was {_share(before.lines, 'line')}"
    for stage, details in _details(view):
        if times := part(details, "compile"):
            yield from _times(stage, times)


def _details(view: "BuildView") -> list[tuple[str, Details]]:
    return [(row.stage, row.verdict.details) for row in parts.newest(view).values() if row.verdict]


def _uncovered(view: "BuildView") -> Iterator[str]:
    """The files with most lines that were not run."""
    files = [one for _, details in _details(view) for one in listed(part(details, "coverage"), "files")]
    counted = [(part(one, "lines"), str(one.get("file"))) for one in files]
    missed = sorted(((number(c, "total") - number(c, "covered"), number(c, "total"), name) for c, name in counted))
    worst = [f"{name} {lines:,} of {total:,}" for lines, total, name in reversed(missed) if lines > 0]
    if worst:
        yield f"  lines not run: {_few(worst)}"


def _times(stage: str, times: Details) -> Iterator[str]:
    compiled = parts.plural(number(times, "objects"), "file")
    took, wall = duration(real(times, "objects_s")), duration(real(times, "wall_s"))
    steps, longest = f"{number(times, 'edges'):,} steps", real(times, "longest_s")
    chain = f", the longest chain of them {duration(longest)}" if longest else ""
    yield f"{one_line(stage, 60)} compiled {compiled} in {took}, all of its {steps} ran within {wall}{chain}"
    for name, what in (("files", "slowest"), ("steps", "other steps")):
        found = [f"{one.get('file')} {duration(real(one, 'seconds'))}" for one in listed(times, name)]
        if found:
            yield f"  {what}: {_few(found)}"


def _few(found: Sequence[str]) -> str:
    more = f" · and {len(found) - MOST_FILES} more" if len(found) > MOST_FILES else ""
    return " · ".join(one_line(one, 80) for one in found[:MOST_FILES]) + more


def _share(count: Count, word: str) -> str:
    many = word if count.total == 1 else "branches" if word == "branch" else f"{word}s"
    return f"{count.percent:.1f} % of {count.total:,} {many}"


def _since(now: Count, then: Count | None) -> str:
    change = round(now.percent - then.percent, 1) if then else 0.0
    return f" ({change:+.1f})" if change else ""


# -- of a project ------------------------------------------------------------------------------------------------------


def trend_text(trends: Trends) -> list[str]:
    """At most four lines for a model: coverage, sizes, what compiles slowly, which tests fail."""
    lines = [*_change(trends)]
    if trends.slowest_files:
        found = [f"{one.file} {duration(one.median_s)}" for one in trends.slowest_files[:MOST_NAMED]]
        lines.append(f"slowest to compile: {', '.join(one_line(one, 80) for one in found)}")
    if trends.failing_tests:
        found = [f"{one.test} {one.failed} of {one.ran}" for one in trends.failing_tests[:MOST_NAMED]]
        lines.append(f"tests that fail most: {', '.join(one_line(one, 80) for one in found)}")
    return lines


def _change(trends: Trends) -> Iterator[str]:
    with_coverage = [(point.id, point.coverage.lines) for point in trends.builds if point.coverage]
    if with_coverage:
        (_, first), (newest, last) = with_coverage[0], with_coverage[-1]
        over = f" over {len(with_coverage)} builds" if (since := _since(last, first)) else ""
        yield f"coverage {_share(last, 'line')} in build {newest}{since}{over}"
    weights = [(point.target, point.sizes.flash) for point in trends.builds if point.sizes and point.sizes.flash]
    of_target = [flash for target, flash in weights if target == weights[-1][0]]
    if len(of_target) > 1 and (change := of_target[-1] - of_target[0]):
        yield f"flash {of_target[-1]:,} B, {change:+,} over {len(of_target)} builds"


def picture(trends: Trends, *, ascii_only: bool = False) -> list[str]:
    """A row a figure, a column a build, the newest right: at most 80 columns, letters and blocks alone.

    Times and what may be nothing stand on zero; sizes and coverage, which change little, show their span.
    """
    points = trends.builds[-PICTURE_COLUMNS:]
    if len(points) < 2:
        return []
    results = "".join(RESULTS.get(point.status, "?") for point in points)
    head = f"last {len(points)} builds, the newest right; F failed, c cancelled"
    rows = [head, _row("result", results.replace("·", ".") if ascii_only else results, "")]
    for name, values, said, from_zero in _series(points):
        known = [value for value in values if value is not None]
        if len(known) < 2:
            continue
        low, high = min(known), max(known)
        bars = _bars(values, 0.0 if from_zero else low, high, ASCII_BARS if ascii_only else BARS)
        span = f"{said(known[-1])}" + (f" ({said(low)}-{said(high)})" if low != high else "")
        rows.append(_row(name, bars, span))
    return rows


def _series(points: Sequence[TrendPoint]) -> Iterator[tuple[str, list[float | None], Said, bool]]:
    """Name, value of each build, how one is told, and whether its bars stand on zero."""
    yield "duration", [point.duration for point in points], _short, True
    yield "compiling", [point.compile.wall_s if point.compile else None for point in points], _short, True
    yield "flash", [point.sizes.flash if point.sizes else None for point in points], _bytes, False
    yield "RAM", [point.sizes.ram if point.sizes else None for point in points], _bytes, False
    yield "coverage", [point.coverage.lines.percent if point.coverage else None for point in points], _percent, False
    yield "red tests", [float(point.tests.failed) if point.tests else None for point in points], _plain, True


def _row(name: str, bars: str, said: str) -> str:
    return f"{name:<{NAME_COLUMNS}} {bars} {said[:SAID_COLUMNS]}".rstrip()


def _bars(values: Sequence[float | None], low: float, high: float, bars: str) -> str:
    top = len(bars) - 1
    return "".join(
        " " if value is None else bars[round((value - low) / (high - low) * top) if high > low else 0]
        for value in values
    )


def slow_file_rows(trends: Trends) -> Rows:
    """File, median and newest seconds, builds; slowest first."""
    return [(one.file, duration(one.median_s), duration(one.last_s), str(one.builds)) for one in trends.slowest_files]


def failing_test_rows(trends: Trends) -> Rows:
    """Test, stage, failures of how many runs, last build; most often first."""
    return [(t.test, t.stage, f"{t.failed} of {t.ran}", str(t.last_build)) for t in trends.failing_tests]


def slow_test_rows(trends: Trends) -> Rows:
    """Test, stage, median seconds, runs; slowest first."""
    return [(one.test, one.stage, duration(one.median_s), str(one.ran)) for one in trends.slow_tests]


def _short(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds:.2f}s"
    if seconds < 100:
        return f"{seconds:.1f}s" if seconds < 10 else f"{seconds:.0f}s"
    return f"{seconds / 60:.0f}min" if seconds < 6000 else f"{seconds / 3600:.1f}h"


def _bytes(count: float) -> str:
    if count < 10_000:
        return f"{count:.0f}B"
    return f"{count / 1000:.1f}kB" if count < 1_000_000 else f"{count / 1_000_000:.2f}MB"


def _percent(value: float) -> str:
    return f"{value:.1f}%"


def _plain(value: float) -> str:
    return f"{value:.0f}"
