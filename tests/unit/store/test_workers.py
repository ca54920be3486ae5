"""When a machine should have a worker, asked by who holds its lock."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from mcp_server.model import Plan
from mcp_server.store import builds, workers
from mcp_server.store.database import Store


def facts(machine: str) -> dict[str, Any]:
    said = {"id": f"worker of {machine}", "machine": machine, "name": machine, "home": "/home", "version": "1"}
    return {**said, "pid": 1, "state": "serving", "number": None}


async def test_a_worker_that_was_just_killed_does_not_stand_in_for_the_one_that_is_missed(store: Store) -> None:
    """Ours. Its row is alive for seconds more; whoever looked meanwhile would start nobody, and nobody looks again."""

    def missed(c: sa.Connection) -> bool:
        return workers.one_is_missed(c, "/home", "ours")

    def order(c: sa.Connection) -> None:
        project = builds.ensure_project(c, "/p", "p", datetime.now(UTC))
        builds.insert_build(c, project, Plan(stages=()), name="n", args_key="", now=datetime.now(UTC))

    assert not await store.read(missed)  # nothing is open
    await store.write(order)
    await store.write(lambda c: workers.beat(c, facts("ours"), 60))
    assert await store.read(missed)
    await store.write(lambda c: workers.beat(c, facts("theirs"), 60))
    assert not await store.read(missed)
