"""A worker ends while doctor and quality look at a round: the next one goes on in that round, and repeats no job."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from mcp_server.engine.build_run import BuildRun
from mcp_server.engine.services import Services
from mcp_server.engine.stages.base import StageContext
from mcp_server.engine.stages.doctor import Doctor
from mcp_server.engine.stages.qa import Qa
from mcp_server.model import BuildStatus, Verdict
from tests.support.simulation import Outcome, simulation
from tests.unit.engine.test_walk import GCC, LOCAL, doing, plan, stage

Run = Callable[[Any, StageContext], Awaitable[Verdict]]


async def _never(*_: object) -> NoReturn:
    await asyncio.Event().wait()
    raise AssertionError


async def _healthy(_: object, context: StageContext) -> Verdict:
    return Verdict(result="pass", summary="nothing is missing")


@pytest.mark.parametrize("ended_before", [None, "doctor", "qa"])
async def test_a_kill_while_a_round_is_judged_costs_no_round(
    home: Path, monkeypatch: pytest.MonkeyPatch, ended_before: str | None
) -> None:
    """Issue: kill tests in every phase. Killed where both still look, or where only one has written its verdict."""
    reached, ran = {name: asyncio.Event() for name in ("doctor", "qa")}, list[str]()

    def held_once(name: str, run: Run) -> Run:
        async def held(kind: object, context: StageContext) -> Verdict:
            ran.append(f"{context.stage.round} {name}")
            if not reached[name].is_set():
                reached[name].set()
                if name != ended_before:
                    await _never()
            return await run(kind, context)

        return held

    monkeypatch.setattr(Doctor, "run", held_once("doctor", _healthy))
    monkeypatch.setattr(Qa, "run", held_once("qa", Qa.run))
    judges = [
        stage(name, "build", kind=name, params={"project": "/ws"}, always=True, allow_failure=name == "doctor")
        for name in ("doctor", "qa")
    ]
    made = plan(stage("build"), *judges, fix=stage("fix"), max_rounds=3)
    rounds = iter([Outcome(5, code=1, log=GCC), Outcome(5)])
    outcomes = doing()
    async with simulation(
        home, LOCAL, lambda host, name, attempt: next(rounds) if name == "build" else outcomes(host, name, attempt)
    ) as world:
        first, number = world.services, await world.add(made)
        killed = asyncio.create_task(BuildRun(first, number).run())
        async with asyncio.timeout(10):
            for event in reached.values():
                await event.wait()
            while ended_before and not [  # noqa: ASYNC110 - a row tells nobody here
                row for row in (await world.rows(number))[1] if row.stage == ended_before and row.ended_at
            ]:
                await asyncio.sleep(0)
        with monkeypatch.context() as dead:  # whoever is killed writes nothing more, whatever its code would
            dead.setattr(first.store, "write", _never)
            killed.cancel()
            await asyncio.wait({killed})
        open_then = [row.stage for row in (await world.rows(number))[1] if row.status.is_open]
        second = Services(first.config, first.store, first.clock, first.hosts, first.environment)
        await BuildRun(second, number).run()
        await second.leases.aclose()
        build, rows = await world.rows(number)

    assert sorted(open_then) == sorted({"doctor", "qa"} - {ended_before})
    told = sorted(f"{row.round} {row.stage} {row.status} {row.attempt}" for row in rows)
    assert told == [
        "1 build failed 1",
        "1 doctor success 1",
        "1 fix success 1",
        "1 qa failed 1",
        "2 build success 1",
        "2 doctor success 1",
        "2 qa success 1",
    ]
    assert (build.status, build.round) == (BuildStatus.SUCCESS, 2)
    twice = [name for name in ("doctor", "qa") if name != ended_before]
    assert sorted(ran) == sorted([*(f"{n} {name}" for n in (1, 2) for name in reached), *(f"1 {n}" for n in twice)])
