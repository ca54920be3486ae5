"""Files of a stage: what is brought to its working folder first, and what is taken from it afterwards."""

import hashlib
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import mkdtemp

import anyio
import anyio.to_thread

from mcp_server.config_rules import LOCAL
from mcp_server.engine.services import Services
from mcp_server.engine.stages.base import StageContext, project_path
from mcp_server.errors import BadInput, HostUnreachable, NotFound, OrchestratorError
from mcp_server.hosts import files, sync
from mcp_server.hosts.base import Host
from mcp_server.hosts.intake import in_thread
from mcp_server.model import Artifact, Build, Stage, StageSpec, StageStatus, Sync
from mcp_server.store import builds

STAGING = ".staging-"


async def bring(services: Services, context: StageContext, folder: str, tell: Callable[[str], Awaitable[None]]) -> None:
    """Sync the stage's tree, then put what the stages it needs have left, into `folder` of its host.

    HostUnreachable, HostFull; BadInput where the tree or the artifacts are not there.
    """
    spec, host = context.spec, context.host
    if spec.sync is not None:

        async def held() -> None:
            await tell("waiting for another sync into the same folder")

        await tell(f"bringing {spec.sync.path} to {host.name}")
        await _bring_tree(services, spec.sync, host, folder, project_path(context), context.server.workdir, held)
    taken: dict[str, tuple[str, str]] = {}
    for needed in spec.needs_artifacts:
        owner, row = await _row_of(services, context.build, needed)
        left = row.verdict.artifacts if row.verdict else ()
        if not left:
            raise BadInput("needs_artifacts", f"stage {needed} left no artifacts: see its `artifacts`")
        for artifact in left:
            sha256, other = taken.setdefault(artifact.path, (artifact.sha256, needed))
            if sha256 != artifact.sha256:
                where = f"{artifact.path} of {other} and of {needed} are two files"
                raise BadInput("needs_artifacts", f"{where}: give them different paths")
        many = "" if len(left) == 1 else "s"
        await tell(f"bringing {len(left)} artifact{many} of {needed} to {host.name}")
        await _have(services, owner, row, left)
        kept = services.archive.folder(owner, needed)
        await files.put(host, folder, kept, await files.describe(kept, left))


async def _bring_tree(
    services: Services, wanted: Sync, host: Host, folder: str, project: Path, within: str | None, on_wait: sync.Waiting
) -> None:
    if wanted.source == LOCAL:
        source = project / wanted.path
        if not await anyio.Path(source).is_dir():
            raise BadInput("sync.path", f"{source} is no folder of this machine")
        await sync.push_tree(host, source, folder, within=within, on_wait=on_wait)
        return
    async with staging(services, "tree") as staged:
        await sync.pull_tree(services.host(services.hosts.resolve(wanted.source)[0]), wanted.path, staged)
        await sync.push_tree(host, staged, folder, within=within, on_wait=on_wait)


async def take(services: Services, stage: Stage, spec: StageSpec, host: Host, folder: str) -> Sequence[Artifact]:
    """Bring what matches the stage's `artifacts` into the archive, checked by hash; what is there now."""
    found = await files.list_files(host, folder, spec.artifacts)
    if not found:
        return ()
    async with staging(services, f"{stage.build}-{stage.stage}") as staged:
        fetched = await files.fetch(host, folder, found, staged)
        return await services.archive.add(stage.build, stage.stage, staged, fetched)


async def _have(services: Services, owner: int, row: Stage, left: Sequence[Artifact]) -> None:
    """See that what a stage left is kept on this machine: another worker may have run it, on another one.

    It is taken from where it was made, as long as it is the same there, else from the object store. NotFound: from
    neither. HostUnreachable: it may be had later.
    """
    kept = services.archive.folder(owner, row.stage)
    missing = [one for one in left if not await in_thread(_is, kept / one.path, one)]
    if not missing or not services.store.is_shared:
        return
    async with staging(services, f"{owner}-{row.stage}") as staged:
        why = await _fetch_again(services, row, missing, staged)
        if why:
            why = await _from_store(services, missing, staged, why)
        if why:
            raise NotFound(f"{missing[0].path} of stage {row.stage} is on the machine of another worker only: {why}")
        await services.archive.add(owner, row.stage, staged, missing)


async def _fetch_again(services: Services, row: Stage, missing: Sequence[Artifact], staged: Path) -> str:
    """Bring files from where they were made; why that cannot be."""
    if row.host == LOCAL:
        return "it was made there"
    root = str((row.resolved or {}).get("cwd", ""))
    wanted = {one.path: one for one in missing}
    try:
        host = services.host(row.host)
        there = [one for one in await files.look_at(host, root, list(wanted)) if one.sha256 == wanted[one.path].sha256]
        if len(there) < len(wanted):
            return f"what {row.host} has now in {root} is not what it left"
        await files.fetch(host, root, there, staged)
    except HostUnreachable:
        raise
    except OrchestratorError as error:
        return str(error)
    return ""


async def _from_store(services: Services, missing: Sequence[Artifact], staged: Path, why: str) -> str:
    """Bring files from the object store; why that cannot be."""
    objects = await services.uploads.objects()
    if objects is None:
        return f"{why}, and there is no `artifacts.store`"
    try:
        for one in missing:
            content = await objects.content(one.sha256, one.size)
            await in_thread(_write, staged / one.path, content)
    except OrchestratorError as error:
        return f"{why}; {error}"
    return ""


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _is(path: Path, artifact: Artifact) -> bool:
    """Whether a file is there with the content that was recorded. Reads it."""
    try:
        if path.stat().st_size != artifact.size:
            return False
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest() == artifact.sha256
    except OSError:
        return False


async def _row_of(services: Services, build: Build, stage: str) -> tuple[int, Stage]:
    """The build whose artifacts are meant, and the attempt: a retry leaves out what passed and uses what it left."""
    number: int | None = build.id
    while number is not None:
        rows, earlier = await services.store.read(
            lambda c, n=number: (builds.stages_of(c, n), builds.get_build(c, n).retry_of)
        )
        mine = [row for row in rows if row.stage == stage and row.verdict]
        passed = [row for row in mine if row.status is StageStatus.SUCCESS]
        for row in reversed(passed or mine):  # one that is allowed to fail leaves its reports, too
            return number, row
        number = earlier
    raise NotFound(f"stage {stage} has not run, so it left no artifacts")


def clear_staging(artifacts_dir: Path) -> None:
    """Remove what a killed worker was about to take in. Only the holder of the worker lock may; blocks."""
    for folder in artifacts_dir.glob(f"{STAGING}*"):
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def staging(services: Services, name: str) -> AsyncGenerator[Path]:
    """A folder beside the archive, gone afterwards."""
    root = services.config.artifacts_dir
    folder = Path(await anyio.to_thread.run_sync(lambda: mkdtemp(prefix=f"{STAGING}{name}-", dir=root)))
    try:
        yield folder
    finally:
        await anyio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))
