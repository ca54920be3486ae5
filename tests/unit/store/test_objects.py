"""Results in an object store: a real client and a server that speaks S3's protocol."""

import asyncio
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from mcp_server.errors import ArchiveError, BadInput, NotFound
from mcp_server.store.archive import Archive
from mcp_server.store.bucket import Access
from mcp_server.store.objects import Objects
from tests.support import extras
from tests.unit.store.test_archive import staged

extras.need("obstore", "team")
extras.need("moto", "test")

from tests.support.s3 import BUCKET, S3, s3_server  # noqa: E402

pytestmark = pytest.mark.timeout(30)
ONE, TWO = "first content", "second content"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


def objects(s3: S3, owner: str, earlier: Sequence[str] = (), **changed: str) -> Objects:
    given = {"url": f"s3://{BUCKET}/p", "endpoint": s3.endpoint, "region": "us-east-1", "key_id": "a", "secret": "b"}
    return Objects(Access(**given | changed), owner, earlier)


async def archived(root: Path, build: int, *texts: str) -> tuple[Path, list[str]]:
    """An archived build of some files, and a log."""
    archive, staging = Archive(root), root / "staging"

    async def log() -> AsyncIterator[bytes]:
        yield b"a line\n"

    files = [staged(staging, f"{number}.bin", text) for number, text in enumerate(texts)]
    await archive.add(build, "build", staging, files)
    await archive.add_log(build, "build-1-1", log())
    return (await archive.write_manifest(build, {})).parent, [file.sha256 for file in files]


async def test_a_build_is_brought_there_once_read_by_a_link_and_leaves_with_its_last_user(
    s3: S3, tmp_path: Path
) -> None:
    """Issue. Each content is there once, however many builds have it."""
    kept = objects(s3, "one")
    first, (one, two) = await archived(tmp_path, 1, ONE, TWO)
    second, _ = await archived(tmp_path, 2, ONE)
    assert await kept.keep(1, first) > len(ONE + TWO)
    assert await kept.keep(2, second) < await kept.keep(1, first) + len(ONE)  # its content is there already
    assert set(await kept.builds()) == {1, 2}

    link = await kept.link(one, "a file.bin")
    read = await asyncio.to_thread(lambda: urllib.request.urlopen(link).read())
    assert read.decode() == ONE
    assert await kept.content(two, 100) == TWO.encode()
    with pytest.raises(BadInput, match="14 bytes; at most 5"):
        await kept.content(two, 5)

    await kept.drop(1)
    assert await kept.content(one, 100) == ONE.encode()
    with pytest.raises(NotFound):
        await kept.link(two, "b")
    await kept.drop(1)  # a removal that was cut short is begun again
    await kept.drop(2)
    assert not await kept.builds()
    with pytest.raises(NotFound):
        await kept.content(one, 100)


async def test_a_build_that_was_brought_only_in_part_is_none_and_is_brought_again(s3: S3, tmp_path: Path) -> None:
    """Ours. The manifest comes last."""
    kept = objects(s3, "two")
    folder, (_, two) = await archived(tmp_path, 7, ONE, TWO)
    (folder / "build" / "1.bin").rename(tmp_path / "away")
    with pytest.raises(NotFound, match=r"1\.bin cannot be read"):
        await kept.keep(7, folder)
    assert not await kept.builds()
    (tmp_path / "away").rename(folder / "build" / "1.bin")
    await kept.keep(7, folder)
    assert set(await kept.builds()) == {7}
    assert await kept.content(two, 100) == TWO.encode()
    with pytest.raises(NotFound, match="is not archived"):
        await kept.keep(8, tmp_path)


async def test_homes_in_one_bucket_do_not_see_each_other(s3: S3, tmp_path: Path) -> None:
    """Ours. Whoever cleans up removes what is his."""
    folder, (one,) = await archived(tmp_path, 1, ONE)
    mine, theirs = objects(s3, "mine"), objects(s3, "theirs")
    await mine.keep(1, folder)
    await theirs.keep(1, folder)
    await mine.drop(1)
    assert await theirs.content(one, 100) == ONE.encode()


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"url": "s3://nobody-made-this"}, "NoSuchBucket"),
        ({"endpoint": "http://127.0.0.1:9"}, "it does not answer"),
    ],
)
async def test_a_store_that_cannot_be_used_says_so_in_one_sentence(s3: S3, changed: dict[str, str], why: str) -> None:
    """Issue. Nothing that was sent is in it."""
    with pytest.raises(ArchiveError) as failed:
        await objects(s3, "x", secret="very-secret", **changed).check()
    assert why in str(failed.value)
    assert "\n" not in str(failed.value)
    assert "very-secret" not in str(failed.value)
