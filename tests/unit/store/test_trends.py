"""Figures of a project's builds: what is taken from their stages' verdicts, in which order, how much of it."""

from typing import Any

import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.build_trends import Count, Weight, figures, slowest_files, weight
from mcp_server.store import builds
from mcp_server.store.database import Store
from mcp_server.store.trends import build_trends, newest_points
from tests.support.figures import add, compiled, ran


async def test_the_newest_builds_that_are_over_come_oldest_first_with_their_figures(store: Store) -> None:
    """Issue. Trends: duration, result, sizes, time of compiling, coverage."""
    lines = {"covered": 9, "total": 12}

    def fill(c: sa.Connection) -> tuple[str, list[int]]:
        numbers = [
            add(c, {"compile": compiled(9)}),
            add(
                c, {"compile": compiled(1)}, {"compile": compiled(0.5)}, {"stage": "test", "coverage": {"lines": lines}}
            ),
            add(c, {"sizes": {"elf": "x", "image": 1000, "memory": [{"name": "DIRAM", "used": 70}]}}, status="failed"),
            add(c, {}, status="running"),
            add(c, {}, path="/src/other"),
        ]
        return builds.find_projects(c, "valve")[0].id, numbers

    project, numbers = await store.write(fill)
    found = await store.read(lambda c: build_trends(c, 2, project))

    assert [point.id for point in found.builds] == numbers[1:3]
    first, second = found.builds
    assert (first.status, first.duration, second.status) == ("success", 9, "failed")
    assert first.coverage is not None
    assert (first.coverage.lines, first.coverage.branches) == (Count(9, 12), None)
    assert first.coverage.lines.percent == 75
    assert first.compile is not None
    assert (first.compile.edges, first.compile.objects_s) == (3, 3.0)
    assert second.sizes == Weight(flash=1000, ram=70, app_percent=None)
    assert [(slow.file, slow.median_s, slow.builds) for slow in found.slowest_files] == [("main/a.c", 0.5, 1)]


async def test_tests_that_fail_are_counted_over_builds_most_often_first(store: Store) -> None:
    """Ours. Which test fails most is what a team looks for; a skipped one did not run."""

    def fill(c: sa.Connection) -> list[int]:
        return [
            add(c, {"tests": ran(level="fail", pull="pass", odd="skip")}),
            add(c, {"tests": ran(level="fail", pull="fail")}),
            add(c, {"tests": ran(level="pass", pull="pass")}),
        ]

    numbers = await store.write(fill)
    found = await store.read(lambda c: build_trends(c, 50))

    assert [(one.test, one.failed, one.ran, one.last_build) for one in found.failing_tests] == [
        ("gpio.level", 2, 3, numbers[1]),
        ("gpio.pull", 1, 3, numbers[1]),
    ]
    assert [(one.test, one.median_s, one.ran) for one in found.slow_tests] == [
        ("gpio.level", 0.5, 3),
        ("gpio.pull", 0.5, 3),
    ]
    assert [point.tests and point.tests.failed for point in found.builds] == [1, 2, 0]


async def test_of_each_project_there_is_the_newest_build_for_so_many_projects(store: Store) -> None:
    """Ours. What is scraped must not grow with the number of projects."""

    def fill(c: sa.Connection) -> None:
        for name in ("a", "b", "c", "a"):
            add(c, {"compile": compiled(1)}, path=f"/src/{name}")

    await store.write(fill)
    found = await store.read(lambda c: newest_points(c, 2))

    assert [(project.name, point.id) for project, point in found] == [("a", 4), ("c", 3)]


def test_a_program_of_this_machine_weighs_what_its_sections_do() -> None:
    """Ours. The linux target has no memory map."""
    found = weight({"elf": "x", "sections": {"text": 100, "rodata": 20, "data": 3, "bss": 7}})

    assert found == Weight(flash=123, ram=10, app_percent=None)


def test_a_files_time_is_its_median_and_the_newest() -> None:
    """Ours. One slow day of a machine is no slow file."""
    found = slowest_files([[compiled(9)], [compiled(1)], [compiled(2), compiled(4, "main/b.c")]])

    assert [(slow.file, slow.median_s, slow.last_s, slow.builds) for slow in found] == [
        ("main/b.c", 4, 4, 1),
        ("main/a.c", 2, 9, 3),
    ]


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["lines", "covered", "total", "edges", "files", "cases", "memory", "name", "used"]), inner
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["sizes", "compile", "coverage", "tests"]), junk))
def test_details_of_another_version_cost_figures_and_nothing_else(details: dict[str, Any]) -> None:
    """Ours. What is on record may be older or newer than this program."""
    found = figures({"build": {name: value for name, value in details.items() if isinstance(value, dict)}})

    assert set(found) == {"sizes", "compile", "coverage", "tests"}
