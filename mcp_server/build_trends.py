"""How a project's builds change from one to the next, as values: made by the store, shown by the fronts.

May import: nothing of this package.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

MOST_BUILDS = 100
MOST_FILES = 20
MOST_TESTS = 20
MOST_SLOW_TESTS = 10
NAME_CHARS = 300

Details = Mapping[str, Any]
"""The parts of a verdict's details that tell of figures: `sizes`, `compile`, `coverage`, `tests`."""


@dataclass(frozen=True, slots=True)
class Count:
    """How much of something was run by tests."""

    covered: int
    total: int

    @property
    def percent(self) -> float:
        """0 to 100; of nothing all is covered."""
        return round(100 * self.covered / self.total, 1) if self.total else 100.0


@dataclass(frozen=True, slots=True)
class Covered:
    """What the tests of a build ran, over all of its stages; None: nothing tells."""

    lines: Count
    branches: Count | None = None
    functions: Count | None = None


@dataclass(frozen=True, slots=True)
class Weight:
    """Bytes of the firmware in flash and in RAM, and how full its app partition is, in percent; None: not known."""

    flash: int | None
    ram: int | None
    app_percent: float | None


@dataclass(frozen=True, slots=True)
class Compiled:
    """What ninja ran: steps, seconds from its first step to its last, the sum of all; of that the compiled sources."""

    edges: int
    wall_s: float
    total_s: float
    objects: int
    objects_s: float


@dataclass(frozen=True, slots=True)
class CaseCounts:
    """Counts of tests."""

    passed: int
    failed: int
    skipped: int


@dataclass(frozen=True, slots=True)
class TrendPoint:
    """One build that is over. `duration` is in seconds, None where it never ran."""

    id: int
    name: str
    status: str
    reason: str | None
    target: str | None
    branch: str | None
    commit_sha: str
    created_at: datetime
    duration: float | None
    sizes: Weight | None = None
    compile: Compiled | None = None
    coverage: Covered | None = None
    tests: CaseCounts | None = None


@dataclass(frozen=True, slots=True)
class SlowFile:
    """A source that was among the slowest of `builds` builds: its median seconds there, and those of the newest."""

    file: str
    median_s: float
    last_s: float
    builds: int


@dataclass(frozen=True, slots=True)
class FailingTest:
    """A test that failed in `failed` of the `ran` builds whose records name it, last in `last_build`."""

    test: str
    stage: str
    failed: int
    ran: int
    last_build: int


@dataclass(frozen=True, slots=True)
class SlowTest:
    """A test's median seconds over the builds that say how long it took."""

    test: str
    stage: str
    median_s: float
    ran: int


@dataclass(frozen=True, slots=True)
class Trends:
    """A project's newest builds that are over, the oldest of them first, and what stands out in them."""

    project_id: str | None
    builds: tuple[TrendPoint, ...]
    slowest_files: tuple[SlowFile, ...] = ()
    failing_tests: tuple[FailingTest, ...] = ()
    slow_tests: tuple[SlowTest, ...] = ()


# -- from what is on record; another version may have written it, so nothing is taken for granted ----------------------


def figures(stages: Mapping[str, Details]) -> Mapping[str, Any]:
    """The fields `sizes`, `compile`, `coverage`, `tests` of a TrendPoint, from the details of its stages by name.

    Sizes are those of the first stage that has them, the rest is summed.
    """
    weights = (weight(part(stages[name], "sizes")) for name in sorted(stages))
    return {
        "sizes": next((one for one in weights if one is not None), None),
        "compile": _compiled([part(details, "compile") for details in stages.values()]),
        "coverage": covered([part(details, "coverage") for details in stages.values()]),
        "tests": _tested([part(details, "tests") for details in stages.values()]),
    }


def weight(sizes: Details) -> Weight | None:
    """The totals of a record of sizes: by memory where a chip's map told them, else by section."""
    if not sizes:
        return None
    sections, app = part(sizes, "sections"), part(sizes, "app")
    flash = number(sizes, "image") or sum(number(sections, name) for name in ("text", "rodata", "data"))
    memories = [one for one in listed(sizes, "memory") if "RAM" in str(one.get("name"))]
    ram = sum(number(one, "used") for one in memories) or sum(number(sections, name) for name in ("data", "bss"))
    size = number(app, "size")
    percent = round(100 * number(app, "used") / size, 1) if size else None
    return Weight(flash or None, ram or None, percent) if flash or ram or percent is not None else None


def covered(found: Iterable[Details]) -> Covered | None:
    """The sum of several records of coverage."""
    kept = [one for one in found if number(part(one, "lines"), "total")]
    lines = _count(kept, "lines")
    return None if lines is None else Covered(lines, _count(kept, "branches"), _count(kept, "functions"))


def _count(found: Sequence[Details], what: str) -> Count | None:
    parts = [part(one, what) for one in found]
    total = sum(number(one, "total") for one in parts)
    return Count(sum(number(one, "covered") for one in parts), total) if total else None


def _compiled(found: Iterable[Details]) -> Compiled | None:
    kept = [one for one in found if number(one, "edges")]
    if not kept:
        return None
    edges, objects = (sum(number(one, name) for one in kept) for name in ("edges", "objects"))
    wall, whole, compiling = (sum(real(one, name) for one in kept) for name in ("wall_s", "total_s", "objects_s"))
    return Compiled(edges, round(wall, 3), round(whole, 3), objects, round(compiling, 3))


def _tested(found: Iterable[Details]) -> CaseCounts | None:
    kept = [one for one in found if one]
    counts = {name: sum(number(one, name) for one in kept) for name in ("passed", "failed", "skipped")}
    return CaseCounts(**counts) if any(counts.values()) else None


def slowest_files(builds: Iterable[Iterable[Details]]) -> tuple[SlowFile, ...]:
    """From records of `compile`, a group a build, the newest first."""
    times: dict[str, list[float]] = {}
    for records in builds:
        found: dict[str, float] = {}
        for one in (entry for record in records for entry in listed(record, "files")):
            name = str(one.get("file"))[:NAME_CHARS]
            found[name] = max(found.get(name, 0.0), real(one, "seconds"))
        for name, seconds in found.items():
            times.setdefault(name, []).append(seconds)
    slow = (SlowFile(name, round(statistics.median(s), 3), s[0], len(s)) for name, s in times.items())
    return tuple(sorted(slow, key=lambda one: (-one.median_s, one.file))[:MOST_FILES])


class TestHistory:
    """Which tests fail, and which are slow. Fed with the newest build first."""

    __test__ = False  # pytest would take the class for a test

    def __init__(self) -> None:
        self._ran: dict[tuple[str, str], int] = {}
        self._failed: dict[tuple[str, str], list[int]] = {}
        self._seconds: dict[tuple[str, str], list[float]] = {}
        self.cases = 0

    def add(self, build: int, stage: str, cases: Sequence[Any]) -> None:
        """The tests of one stage, as a verdict has them."""
        for case in (cast("Details", one) for one in cases if isinstance(one, dict)):
            self.cases += 1
            suite, name, result = str(case.get("suite") or ""), str(case.get("name") or ""), case.get("result")
            key = stage, (f"{suite}.{name}" if suite else name)[:NAME_CHARS]
            if result == "skip":
                continue
            self._ran[key] = self._ran.get(key, 0) + 1
            if result == "fail":
                self._failed.setdefault(key, []).append(build)
            if (seconds := real(case, "seconds")) > 0:
                self._seconds.setdefault(key, []).append(seconds)

    @property
    def failing(self) -> tuple[FailingTest, ...]:
        found = (
            FailingTest(test, stage, len(builds), self._ran[stage, test], builds[0])
            for (stage, test), builds in self._failed.items()
        )
        return tuple(sorted(found, key=lambda one: (-one.failed, -one.last_build, one.test))[:MOST_TESTS])

    @property
    def slow(self) -> tuple[SlowTest, ...]:
        found = (
            SlowTest(test, stage, round(statistics.median(seconds), 3), len(seconds))
            for (stage, test), seconds in self._seconds.items()
        )
        return tuple(sorted(found, key=lambda one: (-one.median_s, one.test))[:MOST_SLOW_TESTS])


def part(details: Details, name: str) -> Details:
    """An inner object; {} where it is none."""
    found: Any = details.get(name)
    return cast("Details", found) if isinstance(found, dict) else {}


def listed(details: Details, name: str) -> Sequence[Details]:
    """The objects of an inner list."""
    found: Any = details.get(name)
    entries = cast("Sequence[Any]", found) if isinstance(found, list | tuple) else ()
    return [cast("Details", one) for one in entries if isinstance(one, dict)]


def number(details: Details, name: str) -> int:
    """A count that is not negative; 0 where it is none."""
    found: Any = details.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else 0


def real(details: Details, name: str) -> float:
    """Seconds that are not negative; 0.0 where there are none."""
    found: Any = details.get(name)
    return float(found) if isinstance(found, int | float) and 0 < found < 1e9 else 0.0
