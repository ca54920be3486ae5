"""The scheduler on simulated hosts: order, limits, retries, failover. Hours pass in milliseconds."""

import asyncio
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from mcp_server.config import Server
from mcp_server.engine import results
from mcp_server.engine.build_run import BuildRun
from mcp_server.engine.together import Together
from mcp_server.errors import StoreError
from mcp_server.hosts.base import ExitReason
from mcp_server.model import BuildStatus, Ending, Plan, Retry, Stage, StageSpec, StageStatus
from mcp_server.store import builds, leases
from mcp_server.store.database import Statements
from tests.support.simulation import Outcome, simulation

T = TypeVar("T")

LOCAL = {"local": Server(slots=3)}
GCC = b"main.c:3:5: error: expected ';' before '}' token\n    3 |     x()\n"

Outcomes = Callable[[str, str, int], Outcome]


def stage(name: str, *after: str, **more: object) -> StageSpec:
    return StageSpec.model_validate(
        {"name": name, "kind": "command", "params": {"command": "x", "project": "/ws", "workdir": "/ws"}}
        | {"depends_on": after}
        | more
    )


def plan(*stages: StageSpec, **more: object) -> Plan:
    return Plan.model_validate({"stages": stages, **more})


def doing(**outcomes: Outcome | Sequence[Outcome]) -> Outcomes:
    """What each stage does, attempt by attempt; the last is repeated. Unnamed ones take a second."""

    def outcome(host: str, name: str, attempt: int) -> Outcome:
        given = outcomes.get(name, Outcome(1))
        return given if isinstance(given, Outcome) else given[min(attempt, len(given)) - 1]

    return outcome


def told(rows: Sequence[Stage]) -> Mapping[str, list[str]]:
    """Each stage's attempts: `success`, or status and reason."""
    found: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: row.attempt):
        text = "success" if row.status is StageStatus.SUCCESS else f"{row.status} {row.reason}"
        found.setdefault(row.stage, []).append(text)
    return found


async def test_a_stage_begins_when_all_that_it_needs_has_passed(home: Path) -> None:
    """Seed: depends_on."""
    async with simulation(home, LOCAL, doing(a=Outcome(5), b=Outcome(3))) as world:
        build, rows = await world.run(plan(stage("a"), stage("b"), stage("c", "a", "b")))

    began = {row.stage: row.started_at for row in rows}
    assert build.status is BuildStatus.SUCCESS
    assert began["a"] and began["b"] and began["c"]
    assert began["a"] == began["b"]
    assert (began["c"] - began["a"]).total_seconds() == pytest.approx(5)
    assert await world.services.store.read(leases.holders) == []


async def test_what_comes_after_a_failure_is_skipped_and_the_rest_goes_on(home: Path) -> None:
    """Issue. The build fails by its first failure; what does not depend on it is still worth knowing."""
    async with simulation(home, LOCAL, doing(a=Outcome(1, code=2))) as world:
        build, rows = await world.run(plan(stage("a"), stage("b", "a"), stage("c", "b"), stage("d")))

    assert (build.status, build.reason) == (BuildStatus.FAILED, "exit")
    assert told(rows) == {
        "a": ["failed exit"],
        "b": ["skipped dependency"],
        "c": ["skipped dependency"],
        "d": ["success"],
    }


async def test_a_failure_that_is_allowed_holds_nobody_up(home: Path) -> None:
    """Interfaces: allow_failure."""
    async with simulation(home, LOCAL, doing(lint=Outcome(1, code=1))) as world:
        build, rows = await world.run(plan(stage("lint", allow_failure=True), stage("build", "lint")))

    assert build.status is BuildStatus.SUCCESS
    assert told(rows) == {"lint": ["failed exit"], "build": ["success"]}


async def test_a_stage_whose_condition_is_false_is_passed_by(home: Path) -> None:
    """Interfaces: when. It had nothing to do, so what comes after it runs."""
    async with simulation(home, LOCAL) as world:
        build, rows = await world.run(plan(stage("flash", skip="when: params.board is false"), stage("test", "flash")))

    assert build.status is BuildStatus.SUCCESS
    assert told(rows) == {"flash": ["skipped when"], "test": ["success"]}


@pytest.mark.parametrize(
    ("retry", "outcome", "attempts"),
    [
        (Retry(times=2), Outcome(code=1), 3),
        (Retry(times=2), Outcome(reason=ExitReason.LOST), 3),
        (Retry(times=2), Outcome(code=124, reason=ExitReason.TIMEOUT), 3),
        (Retry(times=2), Outcome(code=1, log=GCC), 1),
        (Retry(times=2, on=("compile",)), Outcome(code=1, log=GCC), 3),
        (Retry(times=2, on=("1",)), Outcome(code=1, log=GCC), 3),
        (Retry(times=2, on=("75",)), Outcome(code=75), 3),
        (Retry(times=2, on=("75",)), Outcome(code=1), 1),
        (Retry(times=2, on=("lost", "timeout")), Outcome(code=1), 1),
        (Retry(times=2, on=("exit",)), Outcome(code=1), 3),
        (Retry(times=2, on=("exit",)), Outcome(code=1, log=GCC), 1),
        (Retry(), Outcome(code=1), 1),
    ],
)
async def test_attempts_are_made_again_by_cause_and_exit_code(
    home: Path, retry: Retry, outcome: Outcome, attempts: int
) -> None:
    """Interfaces: a named exit code decides first; a diagnosed compile error comes again, so it is not tried again."""
    async with simulation(home, LOCAL, doing(a=outcome)) as world:
        build, rows = await world.run(plan(stage("a", retry=retry)))

    assert build.status is BuildStatus.FAILED
    assert len(rows) == attempts


async def test_an_attempt_that_passes_ends_the_retries_and_pauses_double(home: Path) -> None:
    """Interfaces: backoff. The rows tell when each attempt was made."""
    outcomes = [Outcome(code=75), Outcome(code=75), Outcome(code=75), Outcome()]
    async with simulation(home, LOCAL, doing(a=outcomes)) as world:
        build, rows = await world.run(plan(stage("a", retry=Retry(times=5, backoff_s=10))))

    began = [row.started_at for row in sorted(rows, key=lambda row: row.attempt) if row.started_at]
    assert build.status is BuildStatus.SUCCESS
    gaps = [(later - earlier).total_seconds() for earlier, later in itertools.pairwise(began)]
    assert gaps == pytest.approx([10, 20, 40])


async def test_failed_stages_run_once_more_when_all_else_is_over(home: Path) -> None:
    """Seed: on_failure: retry: 1. What was skipped for them runs then; what passed is not repeated."""
    outcomes = doing(a=[Outcome(1, code=1), Outcome(1)], slow=Outcome(60))
    async with simulation(home, LOCAL, outcomes) as world:
        graph = (stage("a"), stage("b", "a"), stage("slow"))
        build, rows = await world.run(plan(*graph, on_failure=Ending(retry=1)))

    assert build.status is BuildStatus.SUCCESS
    assert told(rows) == {"a": ["failed exit", "success"], "b": ["skipped dependency", "success"], "slow": ["success"]}
    again = next(row for row in rows if (row.stage, row.attempt) == ("a", 2))
    first = next(row for row in rows if (row.stage, row.attempt) == ("a", 1))
    assert again.started_at and first.started_at
    assert (again.started_at - first.started_at).total_seconds() >= 60


async def test_no_more_stages_run_than_the_limit_of_the_pipeline(home: Path) -> None:
    """Seed: parallel_limit."""
    async with simulation(home, {"local": Server(slots=10)}) as world:
        await world.run(plan(*(stage(f"s{n}") for n in range(9)), parallel_limit=2))

        assert world.hosts["local"].most_at_once == 2


async def test_the_longest_way_to_the_end_goes_first(home: Path) -> None:
    """Design. Its length is known from earlier builds of the pipeline."""
    outcomes = doing(short=Outcome(1), long=Outcome(1), tail=Outcome(50))
    graph = (stage("short"), stage("other"), stage("long"), stage("tail", "long"))
    async with simulation(home, {"local": Server(slots=1)}, outcomes) as world:
        await world.run(plan(*graph))
        _, rows = await world.run(plan(*graph))

    order = [row.stage for row in sorted(rows, key=lambda row: (row.started_at is None, row.started_at))]
    assert order[0] == "long"


@pytest.mark.parametrize(
    ("stages", "order"),
    [
        ([stage("a"), stage("tail", "a"), stage("short")], "a tail short"),
        ([stage("a"), stage("z"), stage("short", "a"), stage("tail", "z", "a")], "a z tail short"),
    ],
)
async def test_who_waited_for_a_stage_comes_before_those_with_a_shorter_way(
    home: Path, stages: Sequence[StageSpec], order: str
) -> None:
    """Ours. The slot of what ended is not gone before they could ask for it, whoever is told of the end first."""
    outcomes = doing(a=Outcome(20), z=Outcome(10), short=Outcome(5), tail=Outcome(50))
    async with simulation(home, {"local": Server(slots=1)}, outcomes) as world:
        await world.run(plan(*stages))
        _, rows = await world.run(plan(*stages))

    assert " ".join(row.stage for row in sorted(rows, key=lambda row: str(row.started_at))) == order


async def test_stages_of_one_group_never_run_together_in_any_build(home: Path) -> None:
    """Issue: concurrency groups."""
    async with simulation(home, {"local": Server(slots=10)}, doing(flash=Outcome(5))) as world:
        numbers = [await world.add(plan(stage("flash", group="bench")), name=f"p{n}") for n in range(3)]
        await asyncio.gather(*(BuildRun(world.services, number).run() for number in numbers))

        assert world.hosts["local"].most_at_once == 1


TWO = {"fast": Server(host="fast", fallback="slow"), "slow": Server(host="slow")}


async def test_a_host_that_cannot_be_reached_hands_its_stage_to_its_fallback(home: Path) -> None:
    """Seed: server down → use the fallback. Nothing was started, so nothing can run twice."""
    async with simulation(home, TWO) as world:
        world.hosts["fast"].reachable = False
        build, rows = await world.run(plan(stage("a", host="fast")))

    assert build.status is BuildStatus.SUCCESS
    assert [row.host for row in rows] == ["slow"]


async def test_without_a_fallback_the_stage_says_that_its_host_was_unreachable(home: Path) -> None:
    """Seed: after three dials the failure is told."""
    async with simulation(home, TWO) as world:
        world.hosts["slow"].reachable = False
        build, rows = await world.run(plan(stage("a", host="slow")))

    assert (build.status, build.reason) == (BuildStatus.FAILED, "unreachable")
    assert rows[0].verdict
    assert rows[0].verdict.summary == "host slow: connection refused"


async def test_silence_of_a_host_with_a_running_job_starts_nothing_elsewhere(home: Path) -> None:
    """Issue. The row says since when nothing is known; when the host is back its job is found, once."""
    async with simulation(home, TWO, doing(a=Outcome(100))) as world:
        number = await world.add(plan(stage("a", host="fast")))
        run = asyncio.create_task(BuildRun(world.services, number).run())
        await world.clock.sleep(10)
        world.hosts["fast"].reachable = False
        await world.clock.sleep(200)
        _, (away,) = await world.rows(number)
        world.hosts["fast"].reachable = True
        await run
        build, (row,) = await world.rows(number)

    assert (away.status, away.unreachable_since is not None) == (StageStatus.RUNNING, True)
    assert (build.status, row.host, row.unreachable_since) == (BuildStatus.SUCCESS, "fast", None)
    assert world.hosts["slow"].jobs == {}


async def test_a_job_that_is_known_lost_is_retried_on_the_fallback_where_its_host_stays_away(home: Path) -> None:
    """Issue: failover only when the job is known absent or lost."""
    async with simulation(home, TWO, doing(a=[Outcome(5, reason=ExitReason.LOST), Outcome(5)])) as world:
        number = await world.add(plan(stage("a", host="fast", retry=Retry(times=1, backoff_s=60))))
        run = asyncio.create_task(BuildRun(world.services, number).run())
        await world.clock.sleep(30)
        world.hosts["fast"].reachable = False
        await run
        build, rows = await world.rows(number)

    assert build.status is BuildStatus.SUCCESS
    assert [(row.host, row.reason) for row in rows] == [("fast", "lost"), ("slow", "exit")]


async def test_a_cancel_waits_for_a_host_that_is_away_and_says_so(home: Path) -> None:
    """Ours. Cancelled is said when the job is gone, not before."""
    async with simulation(home, TWO, doing(a=Outcome(1000))) as world:
        number = await world.add(plan(stage("a", host="slow")))
        run = BuildRun(world.services, number)
        task = asyncio.create_task(run.run())
        await world.clock.sleep(10)
        world.hosts["slow"].reachable = False
        run.stop.set()
        await world.clock.sleep(30)
        before, (away,) = await world.rows(number)
        world.hosts["slow"].reachable = True
        await task
        build, (row,) = await world.rows(number)

    assert before.status is BuildStatus.RUNNING
    assert away.unreachable_since is not None
    assert (build.status, row.status) == (BuildStatus.CANCELLED, StageStatus.CANCELLED)


async def test_stages_for_a_tag_spread_over_its_hosts(home: Path) -> None:
    """Issue: tags, least loaded first."""
    servers = {
        "big": Server(host="big", tags=("linux",), slots=2),
        "small": Server(host="small", tags=("linux",), slots=1),
    }
    async with simulation(home, servers) as world:
        _, rows = await world.run(plan(*(stage(f"s{n}", host="linux") for n in range(3))))

    assert sorted(row.host for row in rows) == ["big", "big", "small"]


async def test_another_worker_goes_on_where_the_last_one_was_killed(home: Path) -> None:
    """Design. Attempts that are over are read, a running job is found again, nothing is started twice."""
    outcomes = doing(a=[Outcome(1, code=9), Outcome(1)], b=Outcome(100))
    graph = plan(stage("a", retry=Retry(times=1)), stage("b", "a"), stage("c", "b"))
    async with simulation(home, LOCAL, outcomes) as world:
        number = await world.add(graph)
        killed = asyncio.create_task(BuildRun(world.services, number).run())
        await world.clock.sleep(50)
        killed.cancel()
        await asyncio.wait({killed})
        await BuildRun(world.services, number).run()
        build, rows = await world.rows(number)

    assert build.status is BuildStatus.SUCCESS
    assert told(rows) == {"a": ["failed exit", "success"], "b": ["success"], "c": ["success"]}
    assert len(world.hosts["local"].jobs) == 4


@pytest.mark.parametrize("after", range(1, 16))
async def test_a_store_that_fails_once_at_any_moment_costs_nothing(
    home: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. The build begins again from the top and has the slots and the directory that it held already."""
    async with simulation(home, {"local": Server(slots=1)}) as world:
        number = await world.add(plan(stage("a", directory="/ws/build"), stage("b", "a")))
        writes = world.services.store.write
        left = iter(range(after, -1000, -1))

        async def write(statements: Statements[T]) -> T:
            if next(left) == 1:
                raise StoreError("the disk is full")
            return await writes(statements)

        monkeypatch.setattr(world.services.store, "write", write)
        await asyncio.wait_for(BuildRun(world.services, number).run(), 20)
        build, rows = await world.rows(number)

        assert build.status is BuildStatus.SUCCESS
        assert told(rows) == {"a": ["success"], "b": ["success"]}
        assert len(world.hosts["local"].jobs) == 2
        assert await world.services.store.read(leases.holders) == []


@pytest.mark.parametrize("answer_lost", [True, False])
async def test_a_job_that_was_found_again_is_confirmed_as_one_that_was_started(home: Path, answer_lost: bool) -> None:
    """Ours. Should its record vanish after that, it is lost, and not started a second time."""
    async with simulation(home, LOCAL, doing(a=Outcome(100))) as world:
        host, number = world.hosts["local"], await world.add(plan(stage("a")))
        host.loses_answers = answer_lost
        run = asyncio.create_task(BuildRun(world.services, number).run())
        await world.clock.sleep(5 if answer_lost else 0.1)  # or the worker dies before it has confirmed the start
        if not answer_lost:
            run.cancel()
            await asyncio.wait({run})
            run = asyncio.create_task(BuildRun(world.services, number).run())
            await world.clock.sleep(5)
        _, (row,) = await world.rows(number)
        run.cancel()
        await asyncio.wait({run})

    assert (row.resolved or {})["started"] is True
    assert len(host.jobs) == 1


async def test_a_build_that_is_taken_up_again_is_of_the_commit_it_began_with(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. The folder may have gone on since, and on another machine be none."""
    asked: list[str] = []

    async def look(folder: str) -> dict[str, str | None]:
        asked.append(folder)
        return {"commit_sha": "of now"}

    async def folder_of(project_id: str) -> str:
        return f"/{project_id}"

    async with simulation(home, LOCAL) as world:
        monkeypatch.setattr(world.services, "commits", Together(look))
        monkeypatch.setattr(world.services, "folder_of", folder_of)
        begun, new = [await world.add(plan(stage("a")), name=name) for name in ("begun", "new")]
        await world.services.store.write(lambda c: builds.set_facts(c, begun, commit_sha="of then"))
        for number in (begun, new):
            await BuildRun(world.services, number).run()
        commits = [(await world.rows(number))[0].commit_sha for number in (begun, new)]

    assert commits == ["of then", "of now"]
    assert len(asked) == 1


async def test_a_host_that_is_away_is_asked_once_for_the_logs_of_an_archive(home: Path) -> None:
    """Ours. Each question may last until the connection's patience ends; the build has its end meanwhile."""
    async with simulation(home, TWO) as world:
        host = world.hosts["slow"]
        build, rows = await world.run(plan(*(stage(f"s{n}", host="slow") for n in range(5))))
        host.reachable = False
        kept = await results.archive(world.services, build, build.status, rows)

    manifest = json.loads((Path(kept or "") / "manifest.json").read_text())
    assert sorted(manifest["missing"]) == [f"s{n}-1-1.log" for n in range(5)]
    assert host.asked_in_vain == 1
