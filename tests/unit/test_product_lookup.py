"""What a build left is found again by hash, or refused in a sentence that says what to do."""

import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mcp_server.config import load_config
from mcp_server.errors import BadInput, Conflict, NotFound, OrchestratorError
from mcp_server.model import Artifact, Build, BuildStatus, Plan, Stage, StageSpec, StageStatus, Verdict
from mcp_server.product_lookup import built
from mcp_server.store import builds
from mcp_server.store.database import Store

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
KINDS = {
    "bootloader.bin": ("bootloader", "0x0"),
    "blink.bin": ("app", "0x10000"),
    "blink.elf": ("elf", None),
    "flasher_args.json": ("flasher-args", None),
    "blink.map": ("map", None),
}
ESP_IDF = {"path": "/opt/idf", "version": "6.0.2"}
S, B = StageStatus, BuildStatus


@pytest_asyncio.fixture
async def store(home: Path) -> AsyncIterator[Store]:
    store = Store(load_config().database_url, home)
    store.migrate()
    yield store
    await store.aclose()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project's folder."""
    path = tmp_path.resolve() / "blink"
    path.mkdir()
    return path


def firmware(build_dir: Path, text: str) -> tuple[Artifact, ...]:
    """The files of a build, written and recorded."""
    build_dir.mkdir(exist_ok=True)
    found: list[Artifact] = []
    for name, (kind, offset) in KINDS.items():
        data = f"{name} {text}".encode()
        (build_dir / name).write_bytes(data)
        sha256 = hashlib.sha256(data).hexdigest()
        found.append(Artifact(path=name, size=len(data), sha256=sha256, kind=kind, offset=offset))
    return tuple(found)


class History:
    """Writes a project's builds as a worker does."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder = store, folder

    async def add(
        self, *rows: tuple[str, StageStatus], ends: BuildStatus | None = B.SUCCESS, kind: str = "idf.build", **more: Any
    ) -> Build:
        """A build with a stage a row, each for the target that names it; its files lie in build-<target>."""
        specs = [
            StageSpec(name=f"build-{target}", kind=kind, params={"installation": ESP_IDF})
            for target, _ in rows or [("", S)]
        ]

        def statements(c: builds.sa.Connection) -> Build:
            project = builds.ensure_project(c, str(self.folder), "blink", NOW)
            plan, key = Plan(stages=tuple(specs)), str(builds.sa.func.random())
            build, _ = builds.insert_build(
                c, project, plan, name="idf_build", args_key=f"{key}{rows}{more}", now=NOW, **more
            )
            for target, status in rows:
                builds.put_stage(c, self._row(build.id, target, status, kind), NOW)
            if ends is not None:
                builds.end_build(c, build.id, ends, "exit", NOW)
            return builds.get_build(c, build.id)

        return await self.store.write(statements)

    def _row(self, number: int, target: str, status: StageStatus, kind: str) -> Stage:
        build_dir = self.folder / f"build-{target}"
        left = firmware(build_dir, f"of build {number}") if status is S.SUCCESS else ()
        result = "pass" if status is S.SUCCESS else "fail"
        return Stage(
            build=number,
            stage=f"build-{target}",
            kind=kind,
            host="local",
            status=status,
            resolved={"build_dir": str(build_dir)},
            started_at=NOW,
            verdict=Verdict(result=result, artifacts=left, details={"target": target}) if result == "pass" else None,
        )


@pytest.fixture
def history(store: Store, folder: Path) -> History:
    return History(store, folder)


async def refusal(store: Store, *arguments: Any, **more: Any) -> OrchestratorError:
    with pytest.raises(OrchestratorError) as error:
        await built(store, *arguments, **more)
    return error.value


async def test_the_last_build_is_found_with_its_images_while_its_files_are_unchanged(
    store: Store, folder: Path, history: History
) -> None:
    """Issue: a flash needs no rebuild."""
    await history.add(("esp32c3", S.SUCCESS))
    last = await history.add(("esp32c3", S.SUCCESS))
    (folder / "build-esp32c3" / "blink.map").write_text("nobody flashes a map")

    found = await built(store, folder)

    assert (found.build, found.target, found.build_dir) == (last.id, "esp32c3", str(folder / "build-esp32c3"))
    assert [(one.offset, one.path) for one in found.images] == [("0x0", "bootloader.bin"), ("0x10000", "blink.bin")]
    assert found.elf is not None and found.elf.path == "blink.elf"
    assert (found.project, found.installation, found.simulated) == (str(folder), ESP_IDF, False)
    assert await built(store, None, f"#{last.id}") == found


async def test_a_source_that_is_newer_than_the_build_is_named(store: Store, folder: Path, history: History) -> None:
    """Ours. The firmware is then what was asked for, and not what the person sees in the editor."""
    await history.add(("esp32c3", S.SUCCESS))
    (folder / "main").mkdir()
    (folder / "main" / "blink.c").write_text("// of today, long after NOW")

    assert (await built(store, folder)).changed == "main/blink.c"


@pytest.mark.parametrize("name", ["bootloader.bin", "blink.bin", "blink.elf", "flasher_args.json"])
@pytest.mark.parametrize(("how", "says"), [("same size", "is not what build 1 made"), ("gone", "is gone")])
async def test_a_file_that_changed_since_is_never_flashed(
    store: Store, folder: Path, history: History, name: str, how: str, says: str
) -> None:
    """Issue: never from a stale build; the hash decides, not the size or the time."""
    await history.add(("esp32c3", S.SUCCESS))
    file = folder / "build-esp32c3" / name
    file.write_bytes(b"x" * file.stat().st_size) if how == "same size" else file.unlink()

    error = await refusal(store, folder)

    assert isinstance(error, Conflict)
    assert str(error) == f"{file} {says}: build again"


async def test_files_of_an_earlier_build_are_told_from_those_of_a_later_one(
    store: Store, folder: Path, history: History
) -> None:
    """Ours. Both used one directory."""
    first = await history.add(("esp32c3", S.SUCCESS))
    second = await history.add(("esp32c3", S.SUCCESS))

    assert (await built(store, folder, second.id)).build == second.id
    assert f"is not what build {first.id} made" in str(await refusal(store, folder, first.id))


@pytest.mark.parametrize(
    ("status", "ends", "says"),
    [
        (S.FAILED, B.FAILED, "the last build (2) failed: build first"),
        (S.CANCELLED, B.CANCELLED, "the last build (2) was cancelled: build first"),
        (S.RUNNING, None, "the last build (2) is pending: build_wait(2) first"),
    ],
)
async def test_nothing_is_taken_from_before_a_build_that_failed(
    store: Store, folder: Path, history: History, status: StageStatus, ends: BuildStatus | None, says: str
) -> None:
    """Issue: never flash after a failed build. The earlier one can still be named."""
    first = await history.add(("esp32c3", S.SUCCESS))
    await history.add(("esp32c3", status), ends=ends)

    error = await refusal(store, folder)

    assert isinstance(error, Conflict)
    assert str(error) == says
    assert (await built(store, folder, first.id)).build == first.id


async def test_a_pending_build_stands_in_the_way_before_it_has_a_row(
    store: Store, folder: Path, history: History
) -> None:
    """Ours. It may begin at any moment and overwrite what is flashed."""
    await history.add(("esp32c3", S.SUCCESS))
    waiting = await history.add(ends=None)

    assert str(await refusal(store, folder)) == (
        f"the last build ({waiting.id}) is pending: build_wait({waiting.id}) first"
    )


async def test_builds_of_other_kinds_do_not_count(store: Store, folder: Path, history: History) -> None:
    """Ours. A flash of before, a command on a host; they may have failed."""
    first = await history.add(("esp32c3", S.SUCCESS))
    other = await history.add(("esp32c3", S.FAILED), ends=B.FAILED, kind="idf.flash")
    await history.add(ends=None, kind="command")

    assert (await built(store, folder)).build == first.id
    error = await refusal(store, folder, other.id)
    assert isinstance(error, NotFound)
    assert str(error).startswith(f"build {other.id} (idf_build) builds no firmware")


async def test_a_build_whose_later_stage_failed_left_good_firmware(
    store: Store, folder: Path, history: History
) -> None:
    """Ours. Its tests failed, or the flash did: that is what one flashes again for. Also by the number of its retry."""
    first = await history.add(("esp32c3", S.SUCCESS), ends=B.FAILED)
    retry = await history.add(("esp32c3", S.FAILED), ends=B.FAILED, kind="idf.flash", retry_of=first.id)

    assert (await built(store, folder)).build == first.id
    assert (await built(store, folder, retry.id)).build == first.id


async def test_of_several_targets_one_is_named(store: Store, folder: Path, history: History) -> None:
    """Ours. A pipeline's matrix builds for two chips."""
    both = await history.add(("esp32", S.SUCCESS), ("esp32c3", S.SUCCESS))

    error = await refusal(store, folder)
    assert isinstance(error, BadInput)
    assert str(error) == f"target: build {both.id} made firmware for esp32, esp32c3: name one of them"
    assert (await built(store, folder, target="esp32c3")).build_dir.endswith("build-esp32c3")
    assert str(await refusal(store, folder, target="esp32s3")) == (
        f"the last build ({both.id}) made firmware for esp32, esp32c3, not for esp32s3: build for esp32s3 first"
    )
    half = await history.add(("esp32", S.SUCCESS), ("esp32c3", S.FAILED), ends=B.FAILED)
    assert str(await refusal(store, folder)) == f"the last build ({half.id}) failed: build first"
    assert (await built(store, folder, target="esp32")).build == half.id


async def test_what_was_never_built_is_not_found(store: Store, folder: Path, history: History) -> None:
    """Ours."""
    error = await refusal(store, folder)
    assert isinstance(error, NotFound)
    assert str(error) == f"no build of {folder} is recorded: idf_build first"
    assert str(await refusal(store, folder, 99)) == "there is no build 99"
    assert isinstance(await refusal(store, folder, "yesterday's"), BadInput)


async def test_a_build_that_passed_without_firmware_says_so(store: Store, folder: Path, history: History) -> None:
    """Ours. A custom build may leave no ELF."""
    build = await history.add(("esp32c3", S.CANCELLED))

    assert str(await refusal(store, folder)) == f"the last build ({build.id}) left no firmware: build first"
