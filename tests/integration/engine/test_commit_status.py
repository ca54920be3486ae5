"""GitHub hears how builds of pushes go: a loopback stub in its place, and a clock that the test moves."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from mcp_server.engine.build_run import BuildRun
from mcp_server.engine.callbacks import Callbacks
from mcp_server.engine.commit_state import commit_state
from mcp_server.model import BuildStatus, Plan, Pushed
from mcp_server.notify.github import described
from mcp_server.secret_store import set_secret
from mcp_server.store import builds, callbacks
from mcp_server.store.events import events_after
from mcp_server.store.superseded import SUPERSEDED
from tests.support.http_peer import Peer, answer, http_peer
from tests.support.simulation import Outcome, Simulation, simulation
from tests.unit.engine.test_walk import LOCAL, plan, stage

pytestmark = pytest.mark.timeout(30)
TOKEN = "ghp_only_GitHub_knows_this"
SHA = "a" * 40
DAY_S = 86_400


def configure(home: Path, peer: Peer, more: str = "") -> None:
    (home / "config.yaml").write_text(
        "webhooks: {github: {secret: x, token: '${secret:gh}', "
        f"api: 'http://127.0.0.1:{peer.port}/api/v3', {more}}}}}\n"
    )
    (home / "secrets").mkdir(mode=0o700, exist_ok=True)
    set_secret(home / "secrets", "gh", TOKEN)


def pushed(commit: str = SHA, context: str = "build-orchestrator") -> Plan:
    made = Pushed(repository="me/lamp", commit=commit, context=context)
    return plan(stage("build")).model_copy(update={"pushed": made})


async def tell(world: Simulation) -> None:
    """Everything that is due now."""
    queue = Callbacks(world.services)
    while await queue.deliver_due():
        pass


def told(peer: Peer) -> list[dict[str, Any]]:
    return [json.loads(got.body) for got in peer.got]


async def story(world: Simulation) -> list[tuple[str, dict[str, Any]]]:
    found = await world.services.store.read(lambda c: events_after(c, 0, limit=1000))
    return [(event.type, dict(event.data)) for event in found if event.type.startswith("status.")]


async def test_github_hears_of_the_order_and_of_the_end(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Issue: pending, then what became of it, with link and verdict; the token is nowhere else."""
    caplog.set_level(logging.DEBUG)
    async with http_peer() as peer:
        configure(home, peer, "url: 'https://builds.example/'")
        peer.answers = [answer(201)]
        outcomes = {"code": 0}

        def outcome(*_: object) -> Outcome:
            return Outcome(code=outcomes["code"])

        async with simulation(home, LOCAL, outcome) as world:
            number = await world.add(pushed())
            await tell(world)
            assert told(peer) == [
                {
                    "state": "pending",
                    "context": "build-orchestrator",
                    "target_url": f"https://builds.example/#/build/{number}",
                }
            ]
            world.clock.advance(1)
            await world.run(plan(stage("build")))  # nobody pushed this one
            await tell(world)
            assert len(peer.got) == 1
            outcomes["code"] = 1
            world.clock.advance(1)
            build, rows = await world.run(pushed("b" * 40))
            await tell(world)
            rows_told = await world.services.store.read(lambda c: callbacks.of_build(c, build.id))
            facts = await story(world)

    assert [one["state"] for one in told(peer)] == ["pending", "failure"]
    assert rows[0].verdict and told(peer)[1]["description"].startswith("stage build: ")
    assert [(row.event, row.status) for row in rows_told] == [("status.pending", "gone"), ("status.ended", "delivered")]
    got = peer.got[1]
    assert (got.method, got.path) == ("POST", f"/api/v3/repos/me/lamp/statuses/{'b' * 40}")
    assert got.headers["authorization"] == f"Bearer {TOKEN}"
    assert "webhook-signature" not in got.headers
    where = f"http://127.0.0.1:{peer.port}/api/v3/repos/me/lamp/statuses/{'b' * 40}"
    assert facts[-1] == ("status.delivered", {"url": where, "status": 201, "attempt": 1})
    assert TOKEN not in str(facts) + str(rows_told) + caplog.text


async def test_what_github_does_not_take_is_told_for_a_day_and_in_order(home: Path) -> None:
    """Issue: retried with backoff, survives the worker. A late `pending` never comes after the end."""
    async with http_peer() as peer:
        configure(home, peer)
        peer.answers = [answer(503)]
        async with simulation(home, LOCAL) as world, asyncio.timeout(20):
            await world.add(pushed())
            await tell(world)
            world.clock.advance(1)
            build, _ = await world.run(pushed())
            await tell(world)
            assert [one["state"] for one in told(peer)] == ["pending", "success"]
            assert build.status is BuildStatus.SUCCESS and "target_url" not in told(peer)[1]
            world.clock.advance(1)
            other = await world.add(pushed(context="build-orchestrator/b"))  # leaves the other context's alone
            await tell(world)
            began, store = world.clock.now(), world.services.store
            while (due_at := await store.read(callbacks.next_time)) is not None:
                world.clock.advance((due_at - world.clock.now()).total_seconds())
                await tell(world)
            [row] = await store.read(lambda c: callbacks.of_build(c, other))
            waited_s = (world.clock.now() - began).total_seconds()
            assert DAY_S - 4000 < waited_s <= DAY_S and (row.status, row.attempts > 24) == ("failed", True)

            peer.answers = [answer(422)]
            late = await world.add(pushed("c" * 40))
            await tell(world)
            [row] = await store.read(lambda c: callbacks.of_build(c, late))
            assert (row.status, row.last_error) == ("gone", "it answered 422")
            (home / "config.yaml").write_text("{}\n")
            world.clock.advance(1)
            gone = await world.add(pushed("d" * 40))
            asked = len(peer.got)
            await tell(world)
            [row] = await store.read(lambda c: callbacks.of_build(c, gone))
            assert row.status == "gone" and len(peer.got) == asked
            assert "token is not in config.yaml" in str(row.last_error)


async def test_states_and_descriptions(home: Path) -> None:
    """Issue: failure is the commit's, error is not; at most 140 letters, of the first line."""
    assert described("\n a\x1b[31m b\nc") == "a b"
    assert len(described("é" * 300)) == 140 and described("") == ""
    assert commit_state(BuildStatus.CANCELLED, "cancelled", (), None, "")[0] == "error"
    assert commit_state(BuildStatus.FAILED, "internal", (), None, "x") == ("error", "x")
    async with simulation(home, LOCAL) as world:
        number = await world.add(pushed())
        again = await world.services.store.read(lambda c: builds.get_build(c, number))
        assert again.plan.pushed == Pushed(repository="me/lamp", commit=SHA, context="build-orchestrator")


async def test_a_superseded_build_tells_github_what_took_its_place(home: Path) -> None:
    """Issue: truthful. Not where the same commit is being built anew: that build tells."""
    async with http_peer() as peer:
        configure(home, peer)
        async with simulation(home, LOCAL) as world, asyncio.timeout(20):
            store, now = world.services.store, world.clock.now()
            numbers = [await world.add(pushed(letter * 40), f"p{n}") for n, letter in enumerate("abb")]
            for number, letter in zip(numbers, "abb", strict=True):
                facts = {"commit_sha": letter * 40, "triggered_by": "push"}
                await store.write(lambda c, n=number, f=facts: builds.set_facts(c, n, **f))
            for number in numbers[:2]:
                why = {"reason": SUPERSEDED, "build_output": f"superseded by build {numbers[2]}: it was pushed"}
                await store.write(lambda c, n=number, w=why: builds.request_cancel(c, n, now, **w))
                await BuildRun(world.services, number).run()
            ended = [await store.read(lambda c, n=number: builds.get_build(c, n)) for number in numbers[:2]]
            await tell(world)

    assert [(one.status, one.reason) for one in ended] == [(BuildStatus.CANCELLED, SUPERSEDED)] * 2
    told_of = {one.path[-40:-39]: json.loads(one.body) for one in peer.got}
    assert (told_of["a"]["state"], told_of["a"]["description"]) == ("error", "superseded by build 3: it was pushed")
    assert told_of["b"]["state"] == "pending"
