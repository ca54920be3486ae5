"""Figures of builds as they go over the wire: times of files, coverage, and how both change."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from pydantic import BaseModel, ConfigDict

from mcp_server.build_trends import Count, Covered, Details, TrendPoint, Trends, listed, number, part, real
from mcp_server.model import BuildStatus, Stage

COUNT: dict[str, Any] = {"covered": 977, "total": 1204, "percent": 81.1}
POINT: dict[str, Any] = {
    "id": 42,
    "name": "workflow",
    "status": "success",
    "reason": "exit",
    "target": "esp32c3",
    "branch": "main",
    "commit_sha": "abc1234",
    "created_at": "2026-01-15T10:30:00Z",
    "duration": 38.2,
    "sizes": {"flash": 181232, "ram": 12840, "app_percent": 17.3},
    "compile": {"edges": 66, "wall_s": 3.21, "total_s": 5.9, "objects": 60, "objects_s": 5.1},
    "coverage": {"lines": COUNT, "branches": None, "functions": {"covered": 40, "total": 44, "percent": 90.9}},
    "tests": {"passed": 12, "failed": 1, "skipped": 0},
}


class CountShape(BaseModel):
    """How much of something tests ran; `percent` is 0 to 100."""

    covered: int
    total: int
    percent: float

    @classmethod
    def of(cls, count: Count | None) -> "CountShape | None":
        """None for nothing."""
        return None if count is None else cls(covered=count.covered, total=count.total, percent=count.percent)

    @classmethod
    def needed(cls, count: Count) -> "CountShape":
        """Of a count that is there."""
        return cls(covered=count.covered, total=count.total, percent=count.percent)


class CoverageShape(BaseModel):
    """What the tests ran; null where the reports do not tell."""

    lines: CountShape
    branches: CountShape | None
    functions: CountShape | None

    @classmethod
    def of(cls, found: Covered | None) -> "CoverageShape | None":
        """None where no report was read."""
        if found is None:
            return None
        branches, functions = CountShape.of(found.branches), CountShape.of(found.functions)
        return cls(lines=CountShape.needed(found.lines), branches=branches, functions=functions)


class FileCoverage(CoverageShape):
    """One source."""

    file: str


class StageCoverage(CoverageShape):
    """What a stage's reports tell: all files together, and those with the most lines that no test ran.

    `sources` are the reports that were read, `note` says what of them could not be.
    """

    stage: str
    files: list[FileCoverage]
    file_count: int
    sources: list[str]
    note: str


class SizesShape(BaseModel):
    """Bytes of the firmware in flash and RAM; how full its app partition is, in percent."""

    flash: int | None
    ram: int | None
    app_percent: float | None


class CompileShape(BaseModel):
    """What ninja ran in this build: `objects` of the `edges` compiled a source.

    `wall_s` is from the first step's start to the last one's end, `total_s` and `objects_s` are sums.
    """

    edges: int
    wall_s: float
    total_s: float
    objects: int
    objects_s: float


class FileSeconds(BaseModel):
    """How long a source was compiled, or another step took."""

    file: str
    seconds: float


class StageCompile(CompileShape):
    """Those of one stage, with the slowest sources and the slowest other steps.

    `longest_s` is the longest chain of steps that wait for each other: no number of cores makes it quicker.
    """

    stage: str
    longest_s: float | None
    files: list[FileSeconds]
    steps: list[FileSeconds]


class TestCounts(BaseModel):
    """Tests by result."""

    __test__ = False  # pytest would take the class for a test

    passed: int
    failed: int
    skipped: int


class TrendBuild(BaseModel):
    """A build that is over, in figures; null where it has none. `duration` is in seconds."""

    id: int
    name: str
    status: BuildStatus
    reason: str | None
    target: str | None
    branch: str | None
    commit_sha: str
    created_at: datetime
    duration: float | None
    sizes: SizesShape | None
    compile: CompileShape | None
    coverage: CoverageShape | None
    tests: TestCounts | None

    @classmethod
    def of(cls, point: TrendPoint) -> "TrendBuild":
        """One of a project's builds."""
        plain = ("id", "name", "status", "reason", "target", "branch", "commit_sha", "created_at", "duration")
        values: dict[str, Any] = {name: getattr(point, name) for name in plain}
        sizes, compiled, tests = point.sizes, point.compile, point.tests
        return cls(
            **values,
            sizes=sizes and SizesShape.model_validate(sizes, from_attributes=True),
            compile=compiled and CompileShape.model_validate(compiled, from_attributes=True),
            coverage=CoverageShape.of(point.coverage),
            tests=tests and TestCounts.model_validate(tests, from_attributes=True),
        )


class SlowFileShape(BaseModel):
    """A source that was among the slowest of `builds` builds."""

    file: str
    median_s: float
    last_s: float
    builds: int


class FailingTestShape(BaseModel):
    """A test that failed in `failed` of the `ran` builds whose records name it."""

    test: str
    stage: str
    failed: int
    ran: int
    last_build: int


class SlowTestShape(BaseModel):
    """A test's median seconds."""

    test: str
    stage: str
    median_s: float
    ran: int


class TrendsShape(BaseModel):
    """The newest builds that are over, the oldest of them first; the slowest files, and the tests that stand out."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "project_id": "9b1f",
                    "builds": [POINT],
                    "slowest_files": [{"file": "main/app_main.c", "median_s": 0.81, "last_s": 0.9, "builds": 7}],
                    "failing_tests": [
                        {"test": "gpio.set level", "stage": "qemu", "failed": 3, "ran": 9, "last_build": 42}
                    ],
                    "slow_tests": [{"test": "wifi.connect", "stage": "qemu", "median_s": 4.2, "ran": 9}],
                }
            ]
        }
    )

    project_id: str
    builds: list[TrendBuild]
    slowest_files: list[SlowFileShape]
    failing_tests: list[FailingTestShape]
    slow_tests: list[SlowTestShape]

    @classmethod
    def of(cls, found: Trends) -> "TrendsShape":
        """Those of one project."""
        return cls(
            project_id=found.project_id or "",
            builds=[TrendBuild.of(point) for point in found.builds],
            slowest_files=[SlowFileShape.model_validate(one, from_attributes=True) for one in found.slowest_files],
            failing_tests=[FailingTestShape.model_validate(one, from_attributes=True) for one in found.failing_tests],
            slow_tests=[SlowTestShape.model_validate(one, from_attributes=True) for one in found.slow_tests],
        )


def coverage_of(rows: Sequence[Stage]) -> list[StageCoverage]:
    """What the last attempt at each stage has on record."""
    found: list[StageCoverage] = []
    for stage, details in _last(rows, "coverage"):
        if (whole := _covered(details)) is None:
            continue
        files = [(str(one.get("file")), one) for one in listed(details, "files")]
        sources: Any = details.get("sources")
        found.append(
            StageCoverage(
                stage=stage,
                **dict(whole),
                files=[FileCoverage(file=name, **dict(c)) for name, one in files if (c := _covered(one)) is not None],
                file_count=number(details, "file_count"),
                sources=[str(one) for one in cast("list[Any]", sources)] if isinstance(sources, list) else [],
                note=str(details.get("note") or ""),
            )
        )
    return found


def compile_of(rows: Sequence[Stage]) -> list[StageCompile]:
    """What the last attempt at each stage has on record."""
    return [
        StageCompile(
            stage=stage,
            edges=number(details, "edges"),
            objects=number(details, "objects"),
            wall_s=real(details, "wall_s"),
            total_s=real(details, "total_s"),
            objects_s=real(details, "objects_s"),
            longest_s=real(details, "longest_s") or None,
            files=_seconds(details, "files"),
            steps=_seconds(details, "steps"),
        )
        for stage, details in _last(rows, "compile")
    ]


def _last(rows: Sequence[Stage], name: str) -> list[tuple[str, Details]]:
    ordered = sorted((row for row in rows if row.verdict), key=lambda row: (row.round, row.attempt))
    last = {row.stage: part(row.verdict.details, name) for row in ordered if row.verdict}
    return [(stage, details) for stage, details in sorted(last.items()) if details]


def _covered(details: Details) -> CoverageShape | None:
    counts = {name: _count(part(details, name)) for name in ("lines", "branches", "functions")}
    lines = counts["lines"]
    return lines and CoverageShape(lines=lines, branches=counts["branches"], functions=counts["functions"])


def _count(details: Details) -> CountShape | None:
    return CountShape.of(Count(number(details, "covered"), number(details, "total"))) if details else None


def _seconds(details: Details, name: str) -> list[FileSeconds]:
    return [FileSeconds(file=str(one.get("file")), seconds=real(one, "seconds")) for one in listed(details, name)]
