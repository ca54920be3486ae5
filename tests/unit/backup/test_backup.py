"""A backup holds every row, and what is restored of it is whole, or nothing is.

Here from one home's file into another's, which takes the file's place: test_shared has the other ways.
"""

import asyncio
import fcntl
import gzip
import io
import json
import os
import sqlite3
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mcp_server.backup import bundle
from mcp_server.backup.bring_back import Restored, restore
from mcp_server.backup.rows import CHUNK
from mcp_server.backup.take import Taken, take
from mcp_server.clock import SystemClock
from mcp_server.config import Config, load_config
from mcp_server.errors import BadInput, Conflict, OrchestratorError
from mcp_server.model import BuildStatus, Lease, Plan, Progress, Stage, StageSpec, StageStatus, Token, Verdict
from mcp_server.store import builds, callbacks, events, identity, leases, projects, schedules, tokens
from mcp_server.store.database import Store
from mcp_server.store.tables import SCHEMA_VERSION, metadata

pytestmark = pytest.mark.sqlite_only
NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
PLAN = Plan(stages=(StageSpec(name="build", kind="command", params={"argv": ["printf", "é\u2028"]}),))
MANY = CHUNK + 3


def at(folder: Path, url: str = "") -> Config:
    environment = {"BUILD_ORCHESTRATOR_HOME": str(folder), "HOME": str(folder)}
    return load_config({**environment, "BUILD_ORCHESTRATOR_DATABASE_URL": url})


def opened(config: Config) -> Store:
    config.make_home()
    store = Store(config.database_url, config.home)
    store.migrate()
    return store


def fill(c: sa.Connection, home: Path) -> None:
    """Three builds: one over, one that runs, one that waits; something in every other table."""
    project = builds.ensure_project(c, f"{home}/projects/valve", "valve", NOW)
    one, two, three = (
        builds.insert_build(c, project, PLAN, name="n", args_key=key, now=NOW)[0] for key in ("a", "b", "c")
    )
    for build in (one, two):
        builds.set_running(c, build.id, NOW)
        stage = Stage(build=build.id, stage="build", kind="command", host="local", status=StageStatus.RUNNING)
        stage = stage.model_copy(update={"job_id": f"0-{build.id}-build-1-1", "started_at": NOW, "spec_sha256": "5"})
        builds.put_stage(c, stage, NOW)
        builds.put_progress(c, stage.model_copy(update={"progress": Progress(done=1, total=2)}), NOW)
        leases.add(
            c, Lease(resource="host:local", slot=build.id, build=build.id, stage="build", reason="r", taken_at=NOW), NOW
        )
    ended = {"status": StageStatus.SUCCESS, "ended_at": NOW, "verdict": Verdict(result="pass", summary="✓")}
    builds.put_stage(c, stage.model_copy(update={"build": one.id, **ended}), NOW)
    place: dict[str, Any] = {"artifacts_path": f"{home}/artifacts/builds/{one.id}", "test_results": {"π": [1.5, None]}}
    builds.end_build(c, one.id, BuildStatus.SUCCESS, "exit", NOW + timedelta(microseconds=1), **place)
    leases.release_of(c, one.id, NOW)
    callbacks.add(c, one.id, one.task_id, "https://bot.example/", "{}", NOW)
    projects.note_delivery(c, "d1", NOW, {"commit": "c"})
    schedules.put(c, "nightly", schedules.Done("0 3 * * *", NOW, one.id, None))
    tokens.add_token(c, Token(id="t", name="bot", scope="read", created_at=NOW), "hash")
    for number in range(MANY):
        events.append(c, "test", three.id, NOW, {"number": number})


def content(store: Store, *but: str) -> dict[str, Any]:
    """Every row of every table but these."""

    def read(c: sa.Connection) -> dict[str, Any]:
        tables = [table for table in metadata.sorted_tables if table.name not in but]
        return {
            table.name: [tuple(row) for row in c.execute(sa.select(table).order_by(*table.primary_key))]
            for table in tables
        }

    return store.look(read)


async def taken(home: Path, file: Path, **options: bool) -> Taken:
    """A backup of a filled home, with results whose content is there once, and secrets."""
    config = at(home)
    store = opened(config)
    await store.write(lambda c: fill(c, home))
    blob, named = home / "artifacts/blobs/ab/abc.x", home / "artifacts/builds/1/build/out/tool"
    for path in (blob, named):
        path.parent.mkdir(parents=True)
    blob.write_bytes(b"tool" * 1000)
    blob.chmod(0o700)
    os.link(blob, named)
    (home / "artifacts/builds/1/.new.0").write_text("on its way")
    config.file.write_text("defaults: {retry: 2}\n")
    (home / "secrets/GIT").write_text("hunter22")
    made = await take(config, store, SystemClock(), file, **options)
    await store.aclose()
    return made


async def brought(home: Path, file: Path, **options: bool) -> Restored:
    return await restore(at(home), SystemClock(), file, **options)


async def test_every_row_comes_back_and_the_same_store_goes_on_elsewhere(tmp_path: Path) -> None:
    """Ours. With --resume what was open still is, its jobs are found by their stored ids, its uuid is the same."""
    first, second, file = tmp_path / "a", tmp_path / "b", tmp_path / "b.tar.gz"
    made = await taken(first, file)
    before = opened(at(first))

    done = await brought(second, file, resume=True)
    after = opened(at(second))

    assert made.tables["events"] > CHUNK and file.stat().st_mode & 0o777 == 0o600
    moved = ("builds", "projects")  # their paths are those of the new home
    assert content(after, *moved) == content(before, *moved)
    row = after.look(lambda c: builds.get_build(c, 1))
    assert row.artifacts_path == f"{second}/artifacts/builds/1" and row.test_results == {"π": [1.5, None]}
    assert after.look(lambda c: builds.get_project(c, row.project_id)).path == f"{second}/projects/valve"
    assert [row.id for row in after.look(builds.open_builds)] == [2, 3] and done.ended == 0
    assert (second / "config.yaml").read_text() == "defaults: {retry: 2}\n"
    assert not list((second / "secrets").iterdir()) and not list((second / "artifacts").iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "b.tar.gz", "user"]
    await asyncio.gather(before.aclose(), after.aclose())


async def test_a_copy_starts_nothing_tells_nobody_and_gives_no_number_again(tmp_path: Path) -> None:
    """Issue. It has a uuid of its own, so that jobs begun since the backup are not taken for its own."""
    first, second, file = tmp_path / "a", tmp_path / "b", tmp_path / "b.tar.gz"
    await taken(first, file, artifacts=True, secrets=True)

    done = await brought(second, file)
    before, store = opened(at(first)), opened(at(second))
    old, new = await before.uuid(), await store.uuid()
    found = {number: store.look(lambda c, n=number: builds.get_build(c, n)) for number in (1, 2, 3)}

    assert old != new and store.look(identity.before) == [old]
    assert [row.status for row in found.values()] == ["success", "failed", "failed"]
    assert found[3].reason == "lost" and "restored from a backup of 2026-" in (found[3].build_output or "")
    [stage] = store.look(lambda c: builds.stages_of(c, 2))
    assert (stage.status, stage.reason, stage.job_id) == ("failed", "lost", "0-2-build-1-1")
    assert (done.ended, done.tokens) == (2, 1)
    assert not store.look(leases.holders) and store.look(callbacks.next_time) is None
    assert not store.look(lambda c: projects.unended_deliveries(c, NOW, 9))
    kept = store.look(lambda c: schedules.done(c, "nightly"))
    assert kept is not None and kept.done_until > NOW
    last = before.look(events.last_id)
    first_new = store.look(lambda c: events.events_after(c, last))[0].id
    assert first_new > 9_999_999
    project = found[1].project_id
    made = await store.write(
        lambda c: builds.insert_build(c, builds.get_project(c, project), PLAN, name="n", args_key="z", now=NOW)
    )
    assert made[0].id == 1001
    tool = second / "artifacts/builds/1/build/out/tool"
    assert tool.read_bytes() == b"tool" * 1000 and tool.stat().st_mode & 0o777 == 0o700
    assert tool.samefile(second / "artifacts/blobs/ab/abc.x") and not (second / "artifacts/builds/1/.new.0").exists()
    assert (second / "secrets/GIT").read_text() == "hunter22" and (second / "secrets/GIT").stat().st_mode & 0o77 == 0
    await asyncio.gather(before.aclose(), store.aclose())


async def test_a_home_with_builds_is_left_alone_without_force_and_put_aside_with_it(tmp_path: Path) -> None:
    """Issue. Nothing is overwritten silently; what was here can be had back."""
    first, second, file = tmp_path / "a", tmp_path / "b", tmp_path / "b.tar.gz"
    await taken(first, file, artifacts=True)
    await taken(second, tmp_path / "other.tar.gz")
    (second / "config.yaml").write_text("defaults: {retry: 7}\n")
    (second / "orchestrator.db").touch()
    before = sqlite3.connect(second / "orchestrator.db").execute("SELECT count(*), max(id) FROM events").fetchall()

    with pytest.raises(Conflict, match="has 3 builds already: `--force` puts it aside"):
        await brought(second, file)
    with pytest.raises(Conflict, match=r"other.tar.gz is there already"):
        await taken(tmp_path / "c", tmp_path / "other.tar.gz")
    done = await brought(second, file, force=True)

    names = {Path(path).name.partition(".before")[0] for path in done.aside}
    assert names == {"orchestrator.db", "config.yaml", "artifacts"}
    [aside] = [path for path in done.aside if ".db." in path]
    assert sqlite3.connect(aside).execute("SELECT count(*), max(id) FROM events").fetchall() == before
    assert (second / "config.yaml").read_text() == "defaults: {retry: 2}\n"
    assert not [path for path in second.iterdir() if path.name.startswith(".")]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-300])


def other(file: Path) -> None:
    file.write_bytes(b"PK\3\4" * 99)


def flip(file: Path) -> None:
    """One letter of a row becomes another; sums of gzip are right."""
    rewrite(file, lambda name, data: data.replace(b'"valve"', b'"vulve"') if name == "store/projects.jsonl" else data)


def rewrite(file: Path, change: Callable[[str, bytes], bytes]) -> None:
    with tarfile.open(file) as tar:
        members = [(member, (tar.extractfile(member) or io.BytesIO()).read()) for member in tar]
    with tarfile.open(file, "w:gz") as tar:
        for member, data in members:
            changed = change(member.name, data)
            member.size = len(changed)
            tar.addfile(member, io.BytesIO(changed))


def newer(file: Path) -> None:
    def change(name: str, data: bytes) -> bytes:
        return (
            json.dumps({**json.loads(data), "schema": SCHEMA_VERSION + 1}).encode() if name == "manifest.json" else data
        )

    rewrite(file, change)


def foreign(file: Path) -> None:
    rewrite(file, lambda name, data: data)
    plain = gzip.decompress(file.read_bytes())
    file.write_bytes(gzip.compress(plain.replace(b"store/leases.jsonl", b"artifacts/../x.yml"[:18])))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (cut, "no whole backup"),
        (other, "no whole backup"),
        (Path.unlink, "is not there"),
        (flip, r"is damaged: store/projects.jsonl is not what was backed up; nothing was restored"),
        (newer, rf"schema {SCHEMA_VERSION + 1}, this one knows {SCHEMA_VERSION}\): install"),
        (foreign, "no backup of ours|no whole backup"),
    ],
)
async def test_what_is_no_whole_backup_changes_nothing(tmp_path: Path, harm: Callable[[Path], None], said: str) -> None:
    """Issue. Cut short, damaged, of a newer version, something else: one sentence, and the home is as it was."""
    file, home = tmp_path / "b.tar.gz", tmp_path / "b"
    await taken(tmp_path / "a", file)
    harm(file)

    with pytest.raises(BadInput, match=said) as refused:
        await brought(home, file)

    assert "\n" not in str(refused.value) and not (home / "orchestrator.db").exists()


def remake(file: Path, folder: Path, change: Callable[[str, bytes], bytes | None], **facts: Any) -> None:
    """The same backup with other members, whose hashes are right; None leaves one out."""
    with tarfile.open(file) as tar:
        members = [(member.name, (tar.extractfile(member) or io.BytesIO()).read()) for member in tar]
    file.unlink()
    with bundle.writing(file) as made:
        for name, data in members[:-1]:
            if (changed := change(name, data)) is not None:
                (folder / "one").write_bytes(changed)
                made.add(name, folder / "one")
        made.finish({key: value for key, value in json.loads(members[-1][1]).items() if key != "members"} | facts)


def spoil(file: Path, folder: Path) -> None:
    """A stage of a build that is not in it."""
    remake(file, folder, lambda _, data: data.replace(b'"build":2', b'"build":77'))


async def test_a_backup_of_an_older_version_is_read(tmp_path: Path) -> None:
    """Issue. An upgrade from any released version keeps every record: what it did not know has its default."""
    file = tmp_path / "b.tar.gz"
    await taken(tmp_path / "a", file)

    def older(name: str, data: bytes) -> bytes | None:
        lines = [json.loads(line) for line in data.splitlines()] if name.endswith(".jsonl") else []
        of_builds, of_projects = {"place", "machine", "worker", "claim"}, {"source", "reason", "synced_at"}
        new = of_projects if name == "store/projects.jsonl" else of_builds
        kept = [{key: value for key, value in line.items() if key not in new} for line in lines]
        if name == "store/schedules.jsonl":
            return None
        return "".join(f"{json.dumps(line)}\n" for line in kept).encode() if lines else data

    remake(file, tmp_path, older, schema=4)
    await brought(tmp_path / "b", file, resume=True)
    store = opened(at(tmp_path / "b"))

    assert [row.id for row in store.look(builds.open_builds)] == [2, 3]
    assert store.look(lambda c: builds.get_build(c, 1)).claim == 0 and store.schema_version() == SCHEMA_VERSION
    await store.aclose()


async def test_rows_that_do_not_fit_leave_the_home_as_it_was(tmp_path: Path) -> None:
    """Ours. The hashes are right, and the database refuses: an event of a build that is not there, say."""
    file, home = tmp_path / "b.tar.gz", tmp_path / "b"
    await taken(tmp_path / "a", file)
    spoil(file, tmp_path)

    with pytest.raises(OrchestratorError) as refused:
        await brought(home, file)

    assert "FOREIGN KEY" in str(refused.value)
    assert not (home / "orchestrator.db").exists() and not (home / "config.yaml").exists()
    assert not [path for path in home.iterdir() if path.name.startswith(".")]


async def test_a_home_in_use_is_not_restored_into(tmp_path: Path) -> None:
    """Issue. A worker holds the lock, or a service has the database open."""
    file, home = tmp_path / "b.tar.gz", tmp_path / "b"
    await taken(tmp_path / "a", file)
    store = opened(at(home))
    await store.read(events.last_id)
    with pytest.raises(Conflict, match="is in use: end `build-orchestrator serve`"):
        await brought(home, file)
    await store.aclose()
    with (home / "worker.lock").open("w+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("pid 7 version 0.1.0")
        lock.flush()
        with pytest.raises(Conflict, match=r"a worker \(pid 7 version 0\.1\.0\) runs"):
            await brought(home, file)

    (home / "orchestrator.db").write_bytes(b"damaged" * 999)
    with pytest.raises(Conflict, match=r"damaged or no database.*--force"):
        await brought(home, file)
    assert (await brought(home, file, force=True)).tables["builds"] == 3


async def test_a_backup_is_of_one_moment_while_others_write(tmp_path: Path) -> None:
    """Issue. Each build has its first event in the same transaction: no backup has one without the other."""
    config = at(tmp_path / "a")
    store, writer = opened(config), opened(config)
    await store.write(lambda c: fill(c, config.home))
    ending = asyncio.Event()

    async def write() -> int:
        count = 0
        while not ending.is_set():

            def one(c: sa.Connection, key: str = str(count)) -> None:
                project = builds.ensure_project(c, "/p", "p", NOW)
                builds.insert_build(c, project, PLAN, name="n", args_key=f"w{key}", now=NOW)

            await writer.write(one)
            count += 1
        return count

    writing = asyncio.create_task(write())
    made = [await take(config, store, SystemClock(), tmp_path / f"{number}.tar.gz") for number in range(3)]
    ending.set()

    assert await writing > 3
    for one in made:
        found = bundle.checked(one.path)
        tables = {name: [json.loads(line) for line in lines] for name, lines in found.tables()}
        begun = {event["build"] for event in tables["events"] if event["data"].get("status") == "pending"}
        assert begun == {row["id"] for row in tables["builds"]}
    await asyncio.gather(store.aclose(), writer.aclose())
