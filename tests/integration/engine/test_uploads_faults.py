"""An object store that is full, refuses who asks, hangs, hangs up, or is off by an hour, seen by who has builds."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mcp_server.clock import SystemClock
from mcp_server.engine.services import Services
from mcp_server.engine.uploads import Uploads
from mcp_server.errors import ArchiveError
from mcp_server.hosts.registry import Hosts
from mcp_server.orchestrator import Orchestrator
from mcp_server.secret_store import set_secret
from mcp_server.store import bucket, objects
from mcp_server.views import BuildView
from tests.support import extras

extras.need("obstore", "team")
extras.need("moto", "test")

from tests.support.s3 import S3, s3_server  # noqa: E402
from tests.support.s3_faults import HANG, HANG_UP, Fault, Faulty, faulty  # noqa: E402

pytestmark = [pytest.mark.timeout(60), pytest.mark.worker_inside]

PIPELINE = """
pipeline:
  name: pack
  stages:
  - {name: make, server: local, workdir: FOLDER, command: "echo firmware > NAME", artifacts: [NAME]}
  on_success: [{archive: true}]
"""
SKEWED = (403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")
FAULTS: dict[str, tuple[Fault, str]] = {
    "full": ((507, "XMinioStorageFull", "Storage backend has reached its minimum free drive threshold."), "it is full"),
    "quota": ((403, "QuotaExceeded", "Quota exceeded"), "it is full (QuotaExceeded: Quota exceeded): free some there"),
    "expired": ((400, "ExpiredToken", "The provided token has expired."), "it does not know who asks (ExpiredToken"),
    "revoked": ((403, "InvalidAccessKeyId", "It does not exist in our records."), "set artifacts.key_id and"),
    "skewed": (SKEWED, "this machine's clock and its own are too far apart"),
    "denied": ((403, "AccessDenied", "Access Denied"), "AccessDenied: Access Denied"),
    "hangs": (HANG, "it does not answer"),
    "hangs up": (HANG_UP, "it does not answer"),
}


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture
def store(s3: S3, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    """Nobody waits long for it here."""
    monkeypatch.setattr(bucket, "TIMEOUT_S", 1)
    monkeypatch.setattr(bucket, "RETRIES", 0)
    set_secret(home / "secrets", "s3", "of-the-bucket")
    with faulty(s3.endpoint) as told:
        yield told


def use(home: Path, store: Faulty) -> None:
    (home / "config.yaml").write_text(S3(store.endpoint).config(", keep: 30d, keep_here: 1h"))


def always(fault: Fault, after: int = 0, method: str = "") -> Callable[[str, str], Fault]:
    """Of each request from so many on, of one method."""
    seen = iter(range(10_000))
    return lambda asked, _: fault if asked.startswith(method) and next(seen) >= after else None


async def packed(orchestrator: Orchestrator, folder: Path, name: str = "a.bin") -> BuildView:
    text = PIPELINE.replace("FOLDER", str(folder)).replace("NAME", name)
    pipeline = await orchestrator.read_pipeline(text=text)
    started = await orchestrator.start_pipeline(pipeline, folder)
    view = await orchestrator.wait(started.build.id, 30)
    assert view.build.status == "success"
    return view


async def round_of(uploads: Uploads) -> None:
    """One try, told as the worker tells it."""
    await uploads._tell(await uploads._round(), 10)  # pyright: ignore[reportPrivateUsage]


async def artifacts_check(orchestrator: Orchestrator) -> str:
    (check,) = await orchestrator.kept.checks()
    return f"{check.status}: {check.found}"


async def test_whatever_the_store_says_a_build_waits_for_it_with_the_reason_and_comes_there_later(
    orchestrator: Orchestrator, tmp_path: Path, home: Path, store: Faulty
) -> None:
    """Issue. Each in the middle of an upload; what is told is one sentence, and true."""
    view = await packed(orchestrator, tmp_path)
    use(home, store)
    await orchestrator.refresh()
    services = Services(
        orchestrator.config, await orchestrator.store(), SystemClock(), Hosts(orchestrator.config, {}), {}
    )
    assert (await orchestrator.kept.keeping(view)).sentence == "not yet in s3://results/builds, it is on its way"
    for name, (fault, why) in FAULTS.items():
        store.fault = always(fault, after=2, method="PUT")
        await round_of(services.uploads)
        told = (await orchestrator.kept.keeping(view)).sentence
        assert told.startswith("not yet in s3://results/builds: ") and why in told, (name, told)
        assert "\n" not in told and "of-the-bucket" not in told

        store.fault = always(fault)
        check = await artifacts_check(orchestrator)
        assert check.startswith("warn: s3://results/builds cannot be used to write results: "), (name, check)
        assert why in check and "1 build waits here to be brought there since 20" in check, (name, check)
        with pytest.raises(ArchiveError, match="cannot be used to read results"):
            await orchestrator.kept.link(view, "a.bin")

    store.fault = always(None)
    check = await artifacts_check(orchestrator)
    assert check.startswith("ok: s3://results/builds takes results; 1 build waits here")
    await round_of(services.uploads)
    assert (await orchestrator.kept.keeping(view)).sentence == "stored in s3://results/builds"
    assert await artifacts_check(orchestrator) == "ok: s3://results/builds takes results"
    shutil.rmtree(orchestrator.config.artifacts_dir / "builds")
    (tmp_path / "a.bin").unlink()
    assert await orchestrator.kept.content(view, "a.bin", 100) == b"firmware\n"
    told = (await orchestrator.kept.keeping(view)).sentence
    assert told == "not here, in s3://results/builds"
    await services.aclose()


async def test_one_build_that_the_store_does_not_take_holds_up_no_other(
    orchestrator: Orchestrator, tmp_path: Path, home: Path, store: Faulty
) -> None:
    """Ours. It is tried again behind those that it takes."""
    views = [await packed(orchestrator, tmp_path, f"{name}.bin") for name in "abc"]
    use(home, store)
    await orchestrator.refresh()
    config = orchestrator.config
    services = Services(config, await orchestrator.store(), SystemClock(), Hosts(config, {}), {})
    first = f"/builds/{views[0].build.id}/"
    store.fault = lambda method, path: (400, "EntityTooLarge", "too large") if first in path else None
    await round_of(services.uploads)
    assert list(services.uploads.waiting()) == [views[0].build.id]
    assert "EntityTooLarge: too large" in (await orchestrator.kept.keeping(views[0])).sentence
    await services.aclose()


async def test_a_store_that_hangs_or_is_gone_slows_no_build_and_gets_all_when_it_is_back(
    orchestrator: Orchestrator, tmp_path: Path, home: Path, store: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue. The worker's own uploads, beside the builds that it runs."""
    monkeypatch.setattr("mcp_server.engine.uploads.AGAIN_S", (0.2,))
    monkeypatch.setattr(objects, "LOOK_S", 0.05)
    use(home, store)
    store.fault = always(HANG)
    clock = SystemClock()
    begun = clock.monotonic()
    views = [await packed(orchestrator, tmp_path, f"{number}.bin") for number in range(4)]
    assert clock.monotonic() - begun < 20
    assert store.asked  # it was asked, and answered nothing
    store.fault = always(None)
    async with asyncio.timeout(20):
        for view in views:
            while not (await orchestrator.kept.keeping(view)).stored:  # noqa: ASYNC110 - a worker tells nobody
                await asyncio.sleep(0.05)
    assert (await artifacts_check(orchestrator)) == "ok: s3://results/builds takes results"
