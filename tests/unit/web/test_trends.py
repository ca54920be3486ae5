"""Trends, times of files and coverage over REST, as a page draws them."""

import re
from pathlib import Path

import pytest
import sqlalchemy as sa

from mcp_server.model import BuildStatus, Plan, StageSpec
from mcp_server.store import builds
from mcp_server.web.shapes import MOST_PROMPT_BYTES
from mcp_server.web.trend_shapes import POINT
from tests.support.figures import NOW, add, compiled, ran
from tests.support.web_service import web_service

pytestmark = pytest.mark.timeout(30)


async def test_trends_of_a_project_and_of_each_of_its_builds_are_told(home: Path) -> None:
    """Issue. What the page draws: a line a figure over the builds, then where the time goes."""
    count = {"covered": 3, "total": 4}
    coverage = {
        "lines": count,
        "functions": count,
        "files": [{"file": "<b>.c", "lines": count}],
        "file_count": 1,
        "sources": ["c.info"],
        "note": "",
    }

    def fill(c: sa.Connection) -> int:
        add(c, {"compile": compiled(1), "sizes": {"image": 900}})
        return add(c, {"compile": compiled(2), "coverage": coverage, "tests": ran(level="fail")})

    async with web_service() as service:
        number = await (await service.orchestrator.store()).write(fill)
        trends = await service.ask("GET", "/api/projects/valve/trends?limit=2")
        stats = await service.ask("GET", "/api/projects/valve/stats")
        build = await service.ask("GET", f"/api/builds/{number}")
        refused = [await service.ask("GET", f"/api/projects/{path}") for path in ("valve/trends?limit=101", "x/trends")]

    assert stats.json()["sizes"] == {"build": number - 1, "flash": 900, "ram": None, "app_percent": None}
    told = trends.json()
    assert trends.status_code == 200
    assert [one["id"] for one in told["builds"]] == [number - 1, number]
    assert set(told["builds"][1]) == set(POINT)
    assert told["builds"][1]["coverage"]["lines"] == {**count, "percent": 75.0}
    assert told["builds"][1]["coverage"]["branches"] is None
    assert told["slowest_files"][0] == {"file": "main/a.c", "median_s": 1.5, "last_s": 2.0, "builds": 2}
    assert told["failing_tests"][0]["test"] == "gpio.level"
    whole = build.json()
    assert whole["compile"][0]["files"] == [{"file": "main/a.c", "seconds": 2.0}]
    assert whole["coverage"][0]["files"][0]["file"] == "<b>.c"
    assert whole["coverage"][0]["functions"]["percent"] == 75.0
    assert [answer.status_code for answer in refused] == [422, 404]
    assert refused[1].headers["content-type"].startswith("application/problem+json")


async def test_a_build_tells_what_its_agent_was_asked_for(home: Path) -> None:
    """Ours. The beginning of a long one; what is called a prompt elsewhere is none."""
    no_agent = StageSpec(name="ask", kind="command", params={"prompt": "password:"})
    silent = StageSpec(name="fix", kind="agent.fix", params={"prompt": ""})

    def fill(c: sa.Connection) -> list[int]:
        project = builds.ensure_project(c, "/src/valve", "valve", NOW)

        def add(prompt: str) -> int:
            work = StageSpec(name="work", kind="agent.work", params={"prompt": prompt})
            plan = Plan(stages=(no_agent, work), fix=silent)
            made = builds.insert_build(c, project, plan, name="bot", args_key=prompt[:9], now=NOW)[0].id
            builds.end_build(c, made, BuildStatus.CANCELLED, "user", NOW)  # so that no worker is wanted
            return made

        return [add("Open the valve\nslowly <b>"), add("ü" * 100_000), add("")]

    async with web_service() as service:
        numbers = await (await service.orchestrator.store()).write(fill)
        told = [(await service.ask("GET", f"/api/builds/{number}")).json()["prompt"] for number in numbers]
    assert told[0] == "Open the valve\nslowly <b>" and told[2] is None
    assert told[1].endswith("ü…") and MOST_PROMPT_BYTES - 3 <= len(told[1].encode()) <= MOST_PROMPT_BYTES


async def test_what_is_scraped_has_the_last_build_of_each_project(home: Path) -> None:
    """Issue. A line a figure that it tells; names from outside are quoted."""

    def fill(c: sa.Connection) -> None:
        add(c, {"compile": compiled(1), "tests": ran(level="fail")}, status="failed")
        coverage = {"lines": {"covered": 3, "total": 4}}
        add(c, {"coverage": coverage, "sizes": {"image": 181_232_000, "app": {"used": 1, "size": 4}}})
        add(c, {}, path='/src/o"d\nd', status="cancelled")

    async with web_service() as service:
        await (await service.orchestrator.store()).write(fill)
        text = (await service.ask("GET", "/metrics")).text

    assert "\nbuild_orchestrator_home_free_bytes " in text
    found = [line for line in text.splitlines() if line.startswith("build_orchestrator_last_build_")]
    of_valve = {
        line.partition("{")[0].removeprefix("build_orchestrator_last_build_"): line.rpartition(" ")[2]
        for line in found
        if 'project="valve"' in line
    }
    assert of_valve == {
        "success": "1",
        "number": "2",
        "duration_seconds": "9",
        "flash_bytes": "181232000",
        "app_partition_ratio": "0.25",
        "coverage_lines_ratio": "0.75",
    }
    assert "last_build_ram_bytes" not in text
    assert any(r'project="o\"d\nd"' in line for line in found)
    families = {re.split(r"[{ ]", line)[0] for line in text.splitlines() if not line.startswith("#")}
    assert all(text.count(f"# HELP {name} ") == text.count(f"# TYPE {name} ") == 1 for name in families), families


async def test_an_import_or_sync_is_no_build_among_the_figures(home: Path) -> None:
    """Ours. A sync of half a second made an alert on the last build's failure go away."""

    def fill(c: sa.Connection) -> None:
        add(c, {"compile": compiled(1)}, status="failed")
        add(c, {}, priority=-1)

    async with web_service() as service:
        await (await service.orchestrator.store()).write(fill)
        text = (await service.ask("GET", "/metrics")).text
        trends = (await service.ask("GET", "/api/projects/valve/trends")).json()

    assert 'last_build_success{project="valve"' in text
    assert {line.rpartition(" ")[2] for line in text.splitlines() if "last_build_success{" in line} == {"0"}
    assert [point["id"] for point in trends["builds"]] == [1]
