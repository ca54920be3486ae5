"""The leader of a team alone: over a real store, with an engine that only notes what is handed over."""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa

from mcp_server.config import Queue, load_config
from mcp_server.engine.dispatch import leading
from mcp_server.engine.dispatch.handover import ANY, Handed
from mcp_server.engine.dispatch.leading import Leader, Unsure
from mcp_server.engine.services import Services
from mcp_server.hosts.registry import Hosts
from mcp_server.model import Plan, StageSpec
from mcp_server.store import builds
from mcp_server.store.database import Store
from mcp_server.store.tables import BUILDS
from mcp_server.store.workers import There
from tests.support.moved_clock import MovedClock

HERE, AWAY = There("w1", "here", "/home1", "a", None), There("w2", "away", "/home2", "b", None)
PLAN = Plan(stages=(StageSpec(name="one", kind="command", params={"argv": ["true"]}),))


class Engine:
    """What is handed over, by build. `breaks` names a step that fails once, before or after it was done."""

    def __init__(self) -> None:
        self.handed: dict[int, tuple[str, int]] = {}
        self.times: dict[int, int] = {}
        self.taken: set[int] = set()
        self.dead: list[int] = []
        self.breaks = ""

    def _step(self, name: str) -> None:
        if self.breaks == name:
            self.breaks = ""
            raise RuntimeError(name)

    async def hand_over(self, rows: Collection[tuple[int, str, int]]) -> None:
        self._step("before hand_over")
        for build, queue, urgency in rows:
            if build not in self.handed:
                self.handed[build] = queue, urgency
                self.times[build] = self.times.get(build, 0) + 1
        self._step("after hand_over")

    async def known(self) -> Mapping[int, Handed]:
        self._step("known")
        return {
            build: Handed(build, build, queue, 1 if build in self.taken else None)
            for build, (queue, _) in self.handed.items()
        }

    async def withdraw(self, served: Collection[str], known: Iterable[Handed]) -> Sequence[int]:
        stuck = [one.build for one in known if one.worker is None and one.queue not in served]
        for build in stuck:
            del self.handed[build]
        return stuck

    async def reap(self) -> Sequence[int]:
        self._step("before reap")
        dead, self.dead = self.dead, []
        for build in dead:
            self.handed.pop(build, None)
        self._step("after reap")
        return dead

    async def clean(self) -> None:
        self._step("clean")


class Room:
    """A store with builds, and leaders over it."""

    def __init__(self, services: Services) -> None:
        self.services, self.engine, self.sure = services, Engine(), True

    def leader(self, *alive: There) -> Leader:
        leader = Leader(self.services, self.engine, lambda: self.sure)  # pyright: ignore[reportArgumentType]
        leader.know(alive or (HERE,))
        return leader

    async def build(
        self, place: str | None = None, machine: str | None = None, *, project: str = "/project", priority: int = 0
    ) -> int:
        now = self.services.clock.now()

        def statements(c: sa.Connection) -> int:
            of = builds.ensure_project(c, project, project[1:], now)
            row = {"project_id": of.id, "priority": priority, "plan": PLAN.model_dump(mode="json"), "status": "pending"}
            row |= {"created_at": now, "name": "one", "place": place, "machine": machine}
            return c.scalar(sa.insert(BUILDS).values(**self._needed(row)).returning(BUILDS.c.id)) or 0

        return await self.services.store.write(statements)

    def _needed(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row, with something in each column that must have it."""
        for column in BUILDS.columns:
            if column.name not in row and not column.nullable and column.default is None and not column.primary_key:
                row[column.name] = f"t{id(row)}" if isinstance(column.type, sa.String) else 0
        return row

    async def rows(self) -> Sequence[builds.OpenBuild]:
        return await self.services.store.read(builds.open_builds)


@pytest.fixture(autouse=True)
def at_each_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dead are looked for at each look, not once a second."""
    monkeypatch.setattr(leading, "REAP_S", 0)


@pytest_asyncio.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    (tmp_path / "config.yaml").write_text("queue: {builds: 1}\n")
    environment = {"BUILD_ORCHESTRATOR_HOME": str(tmp_path)}
    config = load_config(environment)
    config.make_home()
    store = Store(config.database_url, tmp_path)
    store.migrate()
    services = Services(config, store, MovedClock(), Hosts(config, environment), environment)
    yield Room(services)
    await services.aclose()
    await store.aclose()


async def test_what_waits_for_a_machine_that_is_gone_does_not_keep_others_turn(room: Room) -> None:
    """Ours: with room for one build, the machine went before it took the build that was handed over to it."""
    bound = await room.build("machine:away")
    free = await room.build()
    leader = room.leader(HERE, AWAY)
    await leader.look()
    assert room.engine.handed == {bound: ("machine:away", 0)}

    leader.know([HERE])
    await leader.look()
    assert set(room.engine.handed) == {free}

    room.engine.taken.add(free)
    await room.services.store.write(
        lambda c: c.execute(sa.update(BUILDS).where(BUILDS.c.id == free).values(status="success"))
    )
    del room.engine.handed[free]
    leader.know([HERE, AWAY])
    await leader.look()
    assert set(room.engine.handed) == {bound}


async def test_a_build_whose_machine_is_away_can_be_cancelled_before_it_began_there(room: Room) -> None:
    """Ours: anybody ends it, nobody has to wait for that machine."""
    bound = await room.build("machine:away", "away")
    leader = room.leader(HERE)
    await leader.look()
    assert room.engine.handed == {}

    now = room.services.clock.now()
    await room.services.store.write(lambda c: builds.request_cancel(c, bound, now))
    leader.note(await room.rows())
    await leader.look()
    assert room.engine.handed[bound][0] == ANY


async def test_whose_turn_it_is_goes_by_urgency_then_projects_and_keeps_the_limits(room: Room) -> None:
    """Issue: priorities, fairness, limits. Of a leader that has just begun, too: it knows who was served last."""
    room.services.config = room.services.config.model_copy(update={"queue": Queue(builds=4, per_project=1)})
    ran = await room.build(project="/a")
    await room.services.store.write(lambda c: builds.set_running(c, ran, room.services.clock.now()))
    await room.services.store.write(
        lambda c: c.execute(sa.update(BUILDS).where(BUILDS.c.id == ran).values(status="success"))
    )
    a, second_of_a, b, urgent, late = [
        await room.build(project=project, priority=priority)
        for project, priority in (("/a", 10), ("/a", 10), ("/b", 10), ("/c", 5), ("/d", 20))
    ]
    transfers = [await room.build(project="/a", priority=-1) for _ in range(2)]
    cancelled = await room.build(project="/a")
    await room.services.store.write(lambda c: builds.request_cancel(c, cancelled, room.services.clock.now()))
    leader = room.leader()
    await leader.look()

    assert list(room.engine.handed) == [cancelled, *transfers, urgent, b, a, late]  # a was served last before
    urgency = {build: handed[1] for build, handed in room.engine.handed.items()}
    assert urgency[cancelled] == leading.URGENT > urgency[transfers[0]] > urgency[urgent] > urgency[b] == urgency[a]

    leader.note(await room.rows())  # as at each look at all that is open
    await leader.look()
    await room.services.store.write(
        lambda c: c.execute(sa.update(BUILDS).where(BUILDS.c.id == a).values(status="success"))
    )
    del room.engine.handed[a]
    await leader.look()
    assert list(room.engine.handed)[-1] == second_of_a
    assert set(room.engine.times.values()) == {1}


async def test_one_that_may_have_been_replaced_hands_over_nothing(room: Room) -> None:
    """Ours: a leader that was frozen does not know what the next one has handed over, and would pass the limits."""
    await room.build()
    leader, room.sure = room.leader(), False
    with pytest.raises(Unsure):
        await leader.look()
    assert room.engine.handed == {}


@pytest.mark.parametrize("step", ["known", "clean", "before reap", "after reap", "before hand_over", "after hand_over"])
@pytest.mark.parametrize("who", ["the same", "another"])
async def test_a_stop_in_any_step_loses_and_doubles_nothing(room: Room, step: str, who: str) -> None:
    """Ours: whoever goes on looks at the tables again."""
    first = await room.build()
    leader = room.leader()
    await leader.look()
    room.engine.taken.add(first)
    room.engine.dead = [first]  # its worker died: it is handed over once more
    second = await room.build()
    room.engine.breaks = step
    if step in ("known", "clean"):
        leader.forget()
    leader.note(await room.rows())
    with pytest.raises(RuntimeError):
        await leader.look()
    if who == "another":
        leader = room.leader()
    else:
        leader.forget()
    await leader.look()
    await leader.look()

    assert room.engine.times == {first: 2}  # there is room for one
    await room.services.store.write(
        lambda c: c.execute(sa.update(BUILDS).where(BUILDS.c.id == first).values(status="success"))
    )
    del room.engine.handed[first]
    await leader.look()
    assert room.engine.times == {first: 2, second: 1}
