"""Builds for a team's workers, whose jobs leave marks, and what is waited for of them."""

import asyncio
from contextlib import suppress

import psycopg

from mcp_server.model import Build
from mcp_server.orchestrator import Orchestrator
from tests.support.team import Team

PIPELINE = """
pipeline:
  name: {name}
  stages:
    - {{name: one, server: far, command: "echo started >> {marks}/{name}; {then}", timeout: 60s}}
    - {{name: two, server: far, command: "echo ended >> {marks}/{name}", depends_on: [one]}}
"""
IN_TIME = 60  # generous: the whole of this is done in seconds on a machine that does nothing else
WAITS = "until [ -e go ]; do sleep 0.05; done"


async def order(front: Orchestrator, team: Team, name: str, then: str = "true") -> int:
    """A build of two stages on a far host; its first leaves a mark each time it is started, `then` does that."""
    text = PIPELINE.format(name=name, marks=team.work, then=then)
    pipeline = await front.read_pipeline(text=text)
    return (await front.start_pipeline(pipeline, team.work, agreed=True)).build.id


async def ended(front: Orchestrator, *numbers: int) -> list[Build]:
    views = await asyncio.gather(*(front.wait(number, IN_TIME) for number in numbers))
    return [view.build for view in views]


async def claimed(front: Orchestrator, number: int, times: int) -> None:
    """Return once a build was taken so often."""
    async with asyncio.timeout(IN_TIME), front.changes() as changed:
        while (await front.get(number)).build.claim < times:
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), 1)


def go(team: Team) -> None:
    """Let the jobs that wait end."""
    (team.work / "go").touch()


async def there(team: Team, database: psycopg.Connection, *names: str) -> None:
    """Start workers, and return once they are known to all; the front would start one of its own else."""
    team.start(*(int(name.removeprefix("machine")) for name in names))
    await alive(database, *names)


async def alive(database: psycopg.Connection, *names: str) -> None:
    """Return once the workers of these machines are there, or are there again."""
    text = "SELECT name FROM workers WHERE until > timezone('UTC', clock_timestamp())"
    async with asyncio.timeout(IN_TIME):
        while not set(names) <= {str(row[0]) for row in database.execute(text)}:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def started(team: Team, name: str) -> None:
    """Return once the first job of a build runs; nothing but its mark tells."""
    async with asyncio.timeout(IN_TIME):
        while not (team.work / name).exists():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def begun(front: Orchestrator, team: Team, database: psycopg.Connection) -> int:
    """The build `long`, whose first job runs on the only worker, until `go`."""
    await front.store()
    await there(team, database, "machine1")
    number = await order(front, team, "long", WAITS)
    await started(team, "long")
    return number


def marks(team: Team, name: str) -> list[str]:
    return (team.work / name).read_text().split()
