"""What is seen and can be done of builds that are bound to a machine which is away."""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio

from mcp_server import report
from mcp_server.config import Artifacts, load_config
from mcp_server.crew import checks
from mcp_server.errors import Elsewhere
from mcp_server.model import BuildStatus
from mcp_server.orchestrator import Orchestrator
from tests.support.browser import CHROMIUM, browser
from tests.support.shown import no_worker, served
from tests.support.team import Team

GONE = "machine:feed"
IN_TIME = 60
TEXT = "pipeline:\n  name: here\n  stages:\n    - {name: one, command: 'echo hello'}\n"


def _place(*_: object) -> str:
    return GONE


@pytest_asyncio.fixture
async def front(team: Team, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Orchestrator]:
    """A front on a machine of its own, whose builds are all bound to a machine that never was seen."""
    for name, value in team.environment(0).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("mcp_server.engine.start.place_for", _place)
    orchestrator = Orchestrator(load_config())
    await orchestrator.store()
    yield orchestrator
    await orchestrator.aclose()


async def order(front: Orchestrator, team: Team) -> int:
    pipeline = await front.read_pipeline(text=TEXT)
    return (await front.start_pipeline(pipeline, team.work, agreed=True)).build.id


def begun(database: psycopg.Connection, number: int, status: str = "running") -> None:
    """As if its first stage had begun there."""
    database.execute("UPDATE builds SET status = 'running', machine = 'feed', worker = 'w1' WHERE id = %s", (number,))
    database.execute(
        "INSERT INTO stages (build, stage, round, attempt, kind, host, status, job_id, started_at) "
        "VALUES (%s, 'one', 1, 1, 'command', 'local', %s, 'aaaa-1-one-1-1', %s)",
        (number, status, datetime.now(UTC).replace(tzinfo=None)),
    )


async def there(team: Team, database: psycopg.Connection) -> None:
    team.start(1)
    async with asyncio.timeout(IN_TIME):
        while not team.names(database):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_build_of_an_absent_machine_says_so_and_is_cancelled_by_whoever_is_there(
    front: Orchestrator, team: Team, database: psycopg.Connection
) -> None:
    """Issue: it waits for its machine, saying so. Nothing runs there, so its end needs nobody."""
    await there(team, database)
    number = await order(front, team)
    view = await front.get(number)
    waits = "waits for machine feed: no worker is running there, start `build-orchestrator worker` there"

    assert (view.idle, view.queue and view.queue.reason) == (waits, waits)
    assert waits in report.build_report(view)
    assert [place.reason for place in (await front.queue.picture()).places.values()] == [waits]

    await front.cancel(number)
    assert (await front.wait(number, IN_TIME)).build.status is BuildStatus.CANCELLED


async def test_what_runs_on_an_absent_machine_is_ended_there_or_by_force_left(
    front: Orchestrator, team: Team, database: psycopg.Connection
) -> None:
    """Ours: `local` of another worker is another machine, where nothing is to be killed."""
    number = await order(front, team)
    begun(database, number)
    await there(team, database)
    said = "the log of stage one is on machine feed: `build-orchestrator logs 1 one` there shows it as it grows, here "
    for kept in (False, True):
        front.config = load_config()
        with pytest.raises(Elsewhere) as refused:
            await front.log(number, "one")
        end = "it" if kept else "its end"
        assert str(refused.value) == f"{said}{end} is to be had once build 1 is over"
        team.config += "artifacts: {{store: 's3://kept'}}\n"
        team.home(0)
    front.config = front.config.model_copy(update={"artifacts": Artifacts()})
    crew = await front.crew()
    [one] = crew.workers
    assert (one.name, one.state, one.leads, one.builds) == ("machine1", "serving", True, 0)
    assert (crew.text, crew.well) == ("1 worker, machine1 leads", True)
    [check] = [one for one in await checks(front) if one.name == "workers"]
    assert (check.status, check.found) == ("ok", crew.text)
    asked = await front.cancel(number)
    assert "its jobs are ended when machine feed is back" in asked.idle
    assert (await front.wait(number, 2.5)).build.status is BuildStatus.RUNNING

    await front.cancel(number, force=True)
    build = (await front.wait(number, IN_TIME)).build
    assert build.status is BuildStatus.CANCELLED
    assert "job aaaa-1-one-1-1 was not ended and may run on: its machine feed is away" in (build.build_output or "")


async def test_the_log_of_another_machine_is_its_recorded_end_or_a_sentence(
    front: Orchestrator, team: Team, database: psycopg.Connection
) -> None:
    """Issue: never what the `local` of this machine has."""
    number = await order(front, team)
    begun(database, number, "failed")
    database.execute(
        "UPDATE builds SET status = 'failed', build_output = 'exit code 1\nthe end' WHERE id = %s", (number,)
    )
    said = "the log of stage one is on machine feed: read it there"
    piece = await front.log(number, "one", tail=1)

    assert (piece.text, piece.note.startswith(said)) == ("the end", True)
    with pytest.raises(Elsewhere, match=said):
        await front.log(number, "one", grep="end")
    with pytest.raises(Elsewhere, match=said):
        await front.follow_log(number, "one", lambda _: None)


HANDED_ON = """
pipeline:
  name: handed-on
  stages:
    - {{name: make, server: far, command: "mkdir -p made && echo content > made/file; cp made/file {keep}",
       artifacts: ["made/*"]}}
    - {{name: wait, server: far, command: "until [ -e {work}/go ]; do sleep 0.05; done", depends_on: [make]}}
    - {{name: use, server: far, command: "cat made/file > {work}/used", depends_on: [wait], needs_artifacts: [make],
       workdir: {other}}}
"""


@pytest.mark.parametrize("changed", [False, True])
async def test_what_a_stage_left_follows_its_build_to_another_machine(
    front: Orchestrator,
    team: Team,
    database: psycopg.Connection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    changed: bool,
) -> None:
    """Issue: a stage that needs what an earlier one left finds it, whoever had the build then; never another file."""
    monkeypatch.setattr("mcp_server.engine.start.place_for", lambda *_: None)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    await there(team, database)
    other = tmp_path / "other"
    other.mkdir()
    text = HANDED_ON.format(work=team.work, other=other, keep=tmp_path / "kept")
    pipeline = await front.read_pipeline(text=text)
    number = (await front.start_pipeline(pipeline, team.work, agreed=True)).build.id
    async with asyncio.timeout(IN_TIME):
        while "wait" not in {row.stage for row in (await front.get(number)).stages if row.job_id}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    team.start(2)
    team.signal(1, signal.SIGKILL)
    shutil.rmtree(team.home(1) / "artifacts")
    if changed:
        (team.work / "made" / "file").write_text("another\n")
    (team.work / "go").touch()
    view = await front.wait(number, IN_TIME)

    if changed:
        assert view.build.status is BuildStatus.FAILED
        assert "made/file of stage make is on the machine of another worker only: what far has now" in (
            view.build.build_output or ""
        )
    else:
        assert (view.build.status, (team.work / "used").read_text()) == (BuildStatus.SUCCESS, "content\n")


WORKER = (
    "INSERT INTO workers (id, machine, name, home, pid, version, state, started_at, seen_at, until, config) "
    "SELECT %s, %s, %s, '/h', 1, %s, %s, now_, now_, now_ + %s::interval, %s "
    "FROM (SELECT timezone('UTC', clock_timestamp()) AS now_) AS t"
)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
async def test_the_page_tells_of_workers_and_of_a_log_that_is_elsewhere(
    front: Orchestrator, team: Team, database: psycopg.Connection, tmp_path: Path
) -> None:
    """Issue: health of workers on the page. What another machine has is no fault of the page, and is said once."""
    number = await order(front, team)
    begun(database, number)
    for facts in (
        ("w1", "feed", "gone", "0.1.0", "serving", "-1 minute", None),
        ("w2", "a", "first", "0.1.0", "serving", "1 hour", '{"queue": "1", "servers": "1"}'),
        ("w3", "b", "second", "0.2.0", "leaving", "1 hour", '{"queue": "1", "servers": "2"}'),
    ):
        database.execute(WORKER, facts)
    database.execute("INSERT INTO meta VALUES ('leader', 'w2')")
    with no_worker(team.home(0)), served() as address:
        async with browser(tmp_path / "profile") as page:
            await page.go(f"{address}/#/hosts")
            rows = "[...document.querySelectorAll('main tbody tr')].map((one) => one.innerText)"
            told: list[str] = await page.until(f"({rows}).length >= 3 && {rows}", 60)
            await page.go("about:blank")
            await page.go(f"{address}/#/build/{number}")
            note = "document.querySelector('.note')?.textContent"
            said = await page.until(note, 60)
            asked = "performance.getEntriesByType('resource').filter((one) => one.name.includes('/log/')).length > 2"
            await page.until(asked, 60)
            again = await page.ask(f"[{note}, document.querySelector('#behind').textContent, document.body.innerText]")
            assert page.complaints == []

    gone, first, second = (" ".join(row.split()) for name in ("gone", "first", "second") for row in told if name in row)
    assert gone.startswith("gone not heard of any more 1 0.1.0 ")
    assert first.startswith("first is there, leads 0 0.1.0 ")
    assert second.startswith("second is leaving its config.yaml differs in servers 0 0.2.0 ")
    assert said.startswith("the log of stage one is on machine gone: `build-orchestrator logs 1 one` there shows it")
    assert again[:2] == [said, ""]
    assert (again[2].count(said), "waits for machine gone, not heard of since" in again[2]) == (1, True)
