"""Taking a build: it comes whole with the taking, and with whether anybody has worked at it before."""

from datetime import UTC, datetime

import pytest

from mcp_server.model import Build, Lease, Plan, Stage, StageSpec, StageStatus
from mcp_server.store import builds, claims, leases
from mcp_server.store.claims import Claim
from mcp_server.store.database import Store

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
PLAN = Plan(stages=(StageSpec(name="build", kind="command"),))


@pytest.fixture
async def build(store: Store) -> Build:
    def statements(c: builds.sa.Connection) -> Build:
        project = builds.ensure_project(c, "/src/valve", "valve", NOW)
        return builds.insert_build(c, project, PLAN, name="b", args_key="k", now=NOW, place="home:/h")[0]

    return await store.write(statements)


async def test_what_is_taken_need_not_be_read(store: Store, build: Build) -> None:
    """Ours. The row is that of after the taking: whose it is, and on which machine."""
    hold = await store.write(lambda c: claims.take(c, build.id, "worker-a", "m1"))

    assert hold is not None
    assert (hold.claim, hold.left, hold.open.machine) == (Claim(build.id, 1), False, "m1")
    assert Build(**hold.row) == await store.read(lambda c: builds.get_build(c, build.id))


async def test_whoever_takes_a_build_again_knows_that_something_was_left(store: Store, build: Build) -> None:
    """Ours. A lease without a stage is enough: whoever died may have got no further."""
    lease = Lease(resource="dir:local:/b", slot=0, build=build.id, stage=None, reason="r", taken_at=NOW)
    row = Stage(build=build.id, stage="build", kind="command", host="local", status=StageStatus.WAITING)

    async def take() -> tuple[int, bool]:
        hold = await store.write(lambda c: claims.take(c, build.id, "worker-b", "m1"))
        assert hold is not None
        return hold.claim.number, hold.left

    assert await take() == (1, False)
    await store.write(lambda c: leases.add(c, lease, NOW))
    assert await take() == (2, True)
    await store.write(lambda c: leases.release_of(c, build.id, NOW))
    assert await take() == (3, False)
    await store.write(lambda c: builds.put_stage(c, row, NOW))
    assert await take() == (4, True)


async def test_nobody_takes_what_is_over(store: Store, build: Build) -> None:
    """Ours. A hand-over may outlive its build."""
    await store.write(lambda c: builds.end_build(c, build.id, builds.BuildStatus.CANCELLED, "user", NOW))

    assert await store.write(lambda c: claims.take(c, build.id, "worker-a", "m1")) is None
