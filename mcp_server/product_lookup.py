"""What a build left, found again by hash: the files in its directory are still the ones that it recorded.

So a flash needs no rebuild, and never writes what another build, a failed one or an editor left there since.
May import: model, config, errors, references, idf, store. Never: engine, hosts, a front.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mcp_server import references
from mcp_server.errors import BadInput, Conflict, NotFound
from mcp_server.idf.newer import changed_since
from mcp_server.idf.recorded import artifact_of, unchanged
from mcp_server.model import Artifact, Build, BuildStatus, Project, Stage
from mcp_server.store import artifacts, builds
from mcp_server.store.artifacts import BUILD_KINDS, MOST_RETRIES
from mcp_server.store.database import Store

NEEDED = ("app", "elf", "flasher-args")
"""Kinds of files that count beside the images that have an address."""

MOST_WAITING = 100  # newest builds of a project that are looked at for one that is not over


@dataclass(frozen=True, slots=True)
class Built:
    """Firmware as build `build` left it, unchanged since. `images` by address; () for the linux target.

    `installation`: the ESP-IDF that it was built with, as in its plan; None where another host built it. `changed`:
    a source of the project's that was changed since that build began.
    """

    project: str
    build: int
    stage: str
    build_dir: str
    target: str | None
    images: tuple[Artifact, ...]
    elf: Artifact | None
    installation: Mapping[str, Any] | None
    simulated: bool
    changed: str | None = None


async def built(
    store: Store, folder: str | Path | None, reference: int | str | None = None, *, target: str | None = None
) -> Built:
    """The firmware of the project in `folder`, of its last build or of the one that `reference` names.

    NotFound: no such build, or none that builds firmware. Conflict: it failed, is not over, or its files changed.
    BadInput: it made firmware for several targets and `target` names none of them.
    """
    number = None if reference is None else references.build_number(reference)
    path = None if folder is None else await asyncio.to_thread(references.real_path, str(folder))

    def statements(c: builds.sa.Connection) -> tuple[Project, Build, list[Stage]]:
        if number is not None:
            return _of_build(c, number)
        return _of_project(c, path or "")

    project, build, rows = await store.read(statements)
    row = _chosen(build, rows, target, named=reference is not None)
    found = _built(project, build, row)
    assert row.verdict is not None
    await asyncio.to_thread(_compare, found, row.verdict.artifacts)
    if row.started_at is None:
        return found
    started = row.started_at.timestamp()
    changed = await asyncio.to_thread(changed_since, Path(found.project), Path(found.build_dir), started)
    return replace(found, changed=changed)


def _of_build(c: builds.sa.Connection, number: int | str) -> tuple[Project, Build, list[Stage]]:
    build = builds.find_build(c, number)
    if build is None:
        raise NotFound(f"there is no build {number}")
    asked, left = build, MOST_RETRIES
    while not _builds(build):
        if build.retry_of is None or not left:
            raise NotFound(f"build {asked.id} ({asked.name}) builds no firmware: name one that does, see build_list")
        build, left = builds.get_build(c, build.retry_of), left - 1  # a retry leaves out what passed
    return builds.get_project(c, build.project_id), build, artifacts.builders_of(c, build.id)


def _of_project(c: builds.sa.Connection, path: str) -> tuple[Project, Build, list[Stage]]:
    none = NotFound(f"no build of {path} is recorded: idf_build first")
    found = builds.find_projects(c, path)
    if not found:
        raise none
    rows = artifacts.newest_builders(c, found[0].id)
    newest = rows[0].build if rows else 0
    for one in builds.list_builds(c, project_id=found[0].id, limit=MOST_WAITING):
        if one.status.is_open and one.id >= newest and _builds(one):
            return found[0], one, []
    if not rows:
        raise none
    return found[0], builds.get_build(c, newest), rows


def _builds(build: Build) -> bool:
    return any(spec.kind in BUILD_KINDS for spec in build.plan.stages)


def _chosen(build: Build, rows: list[Stage], target: str | None, *, named: bool) -> Stage:
    """The stage that left the firmware asked for."""
    which = f"build {build.id}" if named else f"the last build ({build.id})"
    if build.status.is_open:
        raise Conflict(f"{which} is {build.status}: build_wait({build.id}) first")
    passed = artifacts.recorded_products(rows)
    made = ", ".join(dict.fromkeys(str(_target(row)) for row in passed))
    left = [row for row in passed if target in (None, _target(row))]
    if len(left) == 1 and (target or len(rows) == 1):
        return left[0]
    if len(left) > 1 and (target or len(rows) == len(left)):
        if len({_target(row) for row in left}) == len(left):
            raise BadInput("target", f"build {build.id} made firmware for {made}: name one of them")
        stages = ", ".join(row.stage for row in left)
        raise BadInput("build", f"build {build.id} made firmware in the stages {stages}: name a build that made one")
    if passed and target:
        raise Conflict(f"{which} made firmware for {made}, not for {target}: build for {target} first")
    ended = {BuildStatus.CANCELLED: "was cancelled", BuildStatus.SUCCESS: "left no firmware"}
    raise Conflict(f"{which} {ended.get(build.status, 'failed')}: build first")


def _target(row: Stage) -> str | None:
    target = row.verdict.details.get("target") if row.verdict else None
    return target if isinstance(target, str) else None


def _built(project: Project, build: Build, row: Stage) -> Built:
    assert row.verdict is not None
    spec = next((one for one in build.plan.stages if one.name == row.stage), None)
    return Built(
        project=project.path,
        build=build.id,
        stage=row.stage,
        build_dir=str((row.resolved or {}).get("build_dir") or (spec.params.get("build_dir") if spec else "")),
        target=_target(row),
        images=tuple(one for one in row.verdict.artifacts if one.offset is not None),
        elf=artifact_of(row.verdict.artifacts, "elf"),
        installation=spec.params.get("installation") if spec else None,
        simulated=bool(row.verdict.details.get("simulated")),
    )


def _compare(found: Built, left: tuple[Artifact, ...]) -> None:
    folder = Path(found.build_dir)
    for one in left:
        if one.offset is None and one.kind not in NEEDED:
            continue
        if not unchanged(folder, one):
            gone = "is gone" if not (folder / one.path).exists() else f"is not what build {found.build} made"
            raise Conflict(f"{folder / one.path} {gone}: build again")
