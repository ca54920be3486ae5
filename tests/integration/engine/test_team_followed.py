"""A build that is followed in a terminal while the database of its team goes away and comes back."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import psycopg
import pytest
import pytest_asyncio
import sqlalchemy as sa

from mcp_server.cli import follow
from mcp_server.config import load_config
from mcp_server.errors import StoreError
from mcp_server.model import BuildStatus
from mcp_server.orchestrator import Orchestrator
from mcp_server.views import BuildView
from tests.support.cuts import Relay
from tests.support.postgres import Server
from tests.support.team import Team

IN_TIME = 60
TEXT = """
pipeline:
  name: long
  stages: [{{name: one, server: far, command: "until [ -e {work}/go ]; do sleep 0.05; done"}}]
"""


class Shown:
    """What a display was told. `seen` is set by each update, `paused` once the terminal is left alone."""

    def __init__(self) -> None:
        self.seen, self.paused = asyncio.Event(), asyncio.Event()

    async def update(self, view: BuildView) -> None:
        if any(stage.job_id for stage in view.stages):
            self.seen.set()

    def pause(self) -> None:
        self.paused.set()


@pytest_asyncio.fixture
async def relay(postgres: Server) -> AsyncIterator[Relay]:
    """The front's way to the database."""
    async with Relay(postgres.port).listening() as relay:
        yield relay


@pytest_asyncio.fixture
async def front(
    team: Team, relay: Relay, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Orchestrator]:
    """A front on a machine of its own, without a worker."""
    database = sa.make_url(team.url).database or ""
    for name, value in {**team.environment(0), **_through(postgres, relay, database)}.items():
        monkeypatch.setenv(name, value)
    orchestrator = Orchestrator(load_config())
    await orchestrator.store()
    yield orchestrator
    relay.restore()
    await orchestrator.aclose()


def _through(postgres: Server, relay: Relay, database: str) -> dict[str, str]:
    return {"BUILD_ORCHESTRATOR_DATABASE_URL": postgres.url(database, relay.port)}


async def ordered(front: Orchestrator, team: Team, database: psycopg.Connection) -> int:
    """A build whose job waits for a file `go`."""
    team.start(1)
    async with asyncio.timeout(IN_TIME):
        while not team.names(database):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    pipeline = await front.read_pipeline(text=TEXT.format(work=team.work))
    return (await front.start_pipeline(pipeline, team.work, agreed=True)).build.id


async def test_a_followed_build_is_followed_again_when_the_database_is_back(
    front: Orchestrator,
    team: Team,
    database: psycopg.Connection,
    relay: Relay,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ours. It ended meanwhile; and who is away for longer than a person would wait is told so."""
    monkeypatch.setattr(follow, "AGAIN_S", 0.1)
    number, shown = await ordered(front, team, database), Shown()
    following = asyncio.create_task(follow.follow(front, number, shown, cast(follow.Signals, asyncio.Queue()), None))
    async with asyncio.timeout(IN_TIME):
        await shown.seen.wait()
        relay.refuse()
        relay.reset()
        await shown.paused.wait()
        (team.work / "go").touch()
        while database.execute("SELECT 1 FROM builds WHERE status = 'success'").fetchone() is None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        relay.restore()
        followed = await following

    assert followed.view.build.status is BuildStatus.SUCCESS
    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith(f"build {number} goes on, and is followed again when the database answers: the database ")

    relay.refuse()
    relay.reset()
    monkeypatch.setattr(follow, "MOST_AWAY_S", 0.0)
    with pytest.raises(StoreError):
        await follow.to_its_end(front, number, shown)
