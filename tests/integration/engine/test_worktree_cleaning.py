"""Copies that agents worked in are removed when their time is over; in real repositories, in simulated time."""

import os
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest

from mcp_server.agents import workspace
from mcp_server.engine.housekeeping import clean
from mcp_server.engine.stages.agent import TASKS, task_name
from mcp_server.model import BuildStatus
from mcp_server.store import builds, projects
from tests.support.git_tree import begun
from tests.support.simulation import Simulation, simulation
from tests.unit.engine.test_walk import LOCAL, plan, stage

pytestmark = pytest.mark.timeout(60)

DAY_S = 86_400


async def ended(world: Simulation, days_ago: float, name: str) -> int:
    """A build that ended so long ago."""
    number = await world.add(plan(stage("build")), name=name)
    when = world.clock.now() - timedelta(days=days_ago)
    await world.services.store.write(lambda c: builds.end_build(c, number, BuildStatus.FAILED, "exit", when))
    return number


async def test_old_copies_are_removed_and_their_branches_stay(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue. Not those of open builds, of builds that these retry, and of builds that others build in.

    With them what a killed worker left in the folder for temporary files.
    """
    tree = begun(tmp_path / "project", tmp_path / "user")
    folder, temporary = tmp_path / "plain", tmp_path / "temporary"
    folder.mkdir()
    for name in ("bo-push-abc_1234", "bo-index-abc_1234", "bo-indexes", "bo-index-young123"):
        (temporary / name / "in").mkdir(parents=True)
        os.utime(temporary / name, (0, 0) if "young" not in name else None)
    (temporary / "bo-objects-linked12").symlink_to(folder)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    (folder / "a.txt").write_text("a\n")
    async with simulation(home, LOCAL) as world:
        services, keep_days = world.services, world.services.config.artifacts.keep / DAY_S
        store = await services.store.uuid()
        age = {"old": 1, "copy": 1, "built in": 1, "retried": 1, "young": -1}
        number = {name: await ended(world, keep_days + more, name) for name, more in age.items()}
        place = {name: services.config.worktrees_dir / f"{store}-{number[name]}" for name in age}
        for name, at in place.items():
            await workspace.make(folder if name == "copy" else tree.top, at, f"bo/{at.name}")
        foreign = services.config.worktrees_dir / f"0123-{number['old']}"
        await workspace.make(tree.top, foreign, "bo/foreign")
        tree.git("worktree", "add", "-q", "-b", "mine", str(tmp_path / "mine"))
        opened = await world.add(plan(stage("build", directory=str(place["built in"] / "build"))))
        again = await world.add(plan(stage("build")), name="again")
        await services.store.write(
            lambda c: c.execute(
                builds.BUILDS.update().where(builds.BUILDS.c.id == again).values(retry_of=number["retried"])
            )
        )
        tasks = services.config.worktrees_dir / TASKS
        tasks.mkdir()
        for build in (number["old"], number["young"], opened):
            (tasks / task_name(store, build, "fix-1-1")).touch()

        await clean(services)

        left = {name for name, at in place.items() if at.exists()}
        assert left == {"built in", "retried", "young"}
        assert not workspace.state_of(place["old"]).exists() and not workspace.state_of(place["copy"]).exists()
        assert foreign.exists()
        assert [path.name for path in tasks.iterdir()] == [task_name(store, opened, "fix-1-1")]

        listed = tree.git("worktree", "list")
        assert str(place["old"]) not in listed and str(place["young"]) in listed and "mine" in listed
        assert tree.git("rev-parse", f"bo/{place['old'].name}") != tree.git("rev-parse", "main")
        assert (folder / "a.txt").exists()
        kept = sorted(path.name for path in temporary.iterdir())
        assert kept == ["bo-index-young123", "bo-indexes", "bo-objects-linked12"]


async def test_old_checkouts_and_deliveries_go(home: Path) -> None:
    """Issue. Not those of open builds, whatever their age; not what is no checkout, and not what is a link."""
    async with simulation(home, LOCAL) as world:
        services = world.services
        now, keep = world.clock.now(), services.config.artifacts.keep
        folder = services.config.worktrees_dir
        age = {"project-0000000a": 1, "project-0000000b": 1, "project-0000000c": 1, "project-0000000d": -1, "mine": 1}
        for name, days in age.items():
            (folder / name / ".git").mkdir(parents=True)
            (folder / name / ".git" / "HEAD").touch()
            for path in (folder / name / ".git" / "HEAD", folder / name):
                os.utime(path, (0, now.timestamp() - keep - days * DAY_S))
        fetched = folder / "project-0000000c" / ".git" / "FETCH_HEAD"
        fetched.touch()
        os.utime(fetched, (0, now.timestamp()))
        (folder / "project-0000000e").symlink_to(folder / "mine")
        (folder / ".gone.project-0000000f" / "in").mkdir(parents=True)
        await world.add(plan(stage("build", directory=str(folder / "project-0000000b"))))
        for name, days in {"old": 1, "young": -1}.items():
            at = now - timedelta(seconds=keep, days=days)
            await services.store.write(lambda c, name=name, at=at: projects.note_delivery(c, name, at))

        await clean(services)

        left = ["mine", "project-0000000b", "project-0000000c", "project-0000000d", "project-0000000e"]
        assert sorted(path.name for path in folder.iterdir()) == left
        gone = await services.store.write(lambda c: projects.forget_deliveries(c, now))
        assert gone == 1
