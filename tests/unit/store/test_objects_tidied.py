"""What an interrupted keep leaves in the bucket, what is removed of it, and who may remove beside whom."""

import asyncio
import random
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from mcp_server.errors import NotFound
from mcp_server.store import objects as layout
from mcp_server.store.bucket import Access, Bucket
from mcp_server.store.objects import BeingRemovedError, Tidied
from mcp_server.store.s3_requests import Place, signed
from tests.support import extras
from tests.unit.store.test_objects import ONE, TWO, archived, objects

extras.need("obstore", "team")
extras.need("moto", "test")

import obstore  # noqa: E402

from tests.support.s3 import BUCKET, S3, s3_server  # noqa: E402

pytestmark = pytest.mark.timeout(30)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


def later(**much: float) -> datetime:
    return datetime.now(UTC) + timedelta(**much)


def asked(s3: S3, method: str, key: str, **query: str) -> str:
    """What the server itself answers."""
    place = Place.of(f"s3://{BUCKET}", s3.endpoint, "us-east-1", ("a", "b"))
    assert place is not None
    request = urllib.request.Request(signed(place, method, key, query, 60, datetime.now(UTC)), method=method)
    with urllib.request.urlopen(request) as answer:
        return answer.read().decode()


async def test_what_nobody_finished_goes_a_day_later_and_nothing_of_others(s3: S3, tmp_path: Path) -> None:
    """Ours. Neither what a build still has, nor what another database keeps in the same bucket."""
    kept, other = objects(s3, "tidied"), objects(s3, "others")
    whole, (one,) = await archived(tmp_path / "a", 1, ONE)
    cut, (_, two) = await archived(tmp_path / "b", 2, ONE, TWO)
    await kept.keep(1, whole)
    await kept.keep(2, cut)
    await other.keep(2, cut)
    for owner in ("tidied", "others"):
        asked(s3, "DELETE", f"p/{owner}/builds/2/manifest.json")  # as if each had been cut short before it
        asked(s3, "PUT", f"p/{owner}/blobs/ff/{'f' * 64}")
        asked(s3, "POST", f"p/{owner}/blobs/ee/{'e' * 64}", uploads="")

    # the server of these tests says of each upload in parts that it was begun in 2010
    assert await kept.tidy(later(hours=23), "") == Tidied(builds=0, blobs=0, uploads=1)
    assert await kept.content(two, 100) == TWO.encode()
    assert await kept.tidy(later(hours=25), "8") == Tidied(builds=1, blobs=1, uploads=0)
    assert await kept.tidy(later(hours=25)) == Tidied(builds=0, blobs=0, uploads=0)
    assert await kept.content(one, 100) == ONE.encode()
    with pytest.raises(NotFound):
        await kept.content(two, 100)
    assert await other.content(two, 100) == TWO.encode()
    assert "<Upload>" in asked(s3, "GET", "", uploads="")
    left = asked(s3, "GET", "", prefix="p/tidied/")
    assert "/2<" not in left
    assert "builds/2" not in left
    assert "doomed" not in left


async def test_a_build_that_is_brought_again_is_not_taken_for_one_that_was_left(s3: S3, tmp_path: Path) -> None:
    """Ours. It is begun anew, whatever was there before."""
    kept = objects(s3, "again")
    folder, (one,) = await archived(tmp_path, 1, ONE)
    await kept.keep(1, folder)
    assert not await kept.drop(1, before=later(hours=-1))
    asked(s3, "DELETE", "p/again/builds/1/manifest.json")
    await kept.tidy(later(hours=23), "")
    await kept.keep(1, folder)
    assert await kept.content(one, 100) == ONE.encode()
    assert await kept.drop(1, before=later(hours=1))
    assert "<Key>" not in asked(s3, "GET", "", prefix="p/again/")


async def test_whoever_brings_waits_while_another_machine_removes_the_same(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. The content of a build that leaves is that of one that comes: it is looked at, and taken away, between."""
    monkeypatch.setattr(layout, "LOOK_S", 0.01)
    here, there = objects(s3, "race"), objects(s3, "race")
    first, (one,) = await archived(tmp_path / "a", 1, ONE)
    second, _ = await archived(tmp_path / "b", 2, ONE)
    await here.keep(1, first)
    looked, go_on = asyncio.Event(), asyncio.Event()
    remove = Bucket.delete

    async def slowly(self: Bucket, keys: list[str]) -> None:
        if any("/blobs/" in key for key in keys):
            looked.set()
            await go_on.wait()
        await remove(self, keys)

    monkeypatch.setattr(Bucket, "delete", slowly)
    async with asyncio.timeout(20):
        removing = asyncio.create_task(there.drop(1))
        await looked.wait()
        with pytest.raises(BeingRemovedError, match="build 2 cannot be stored while the same is being removed"):
            await here.keep(2, second)
        keeping = asyncio.create_task(here.keep(2, second))
        go_on.set()
        await asyncio.gather(removing, keeping)
    assert await here.content(one, 100) == ONE.encode()


async def test_whoever_removes_looks_again_once_he_has_said_so(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. Another build with that content came between the first look and the mark."""
    kept = objects(s3, "looks")
    first, (one,) = await archived(tmp_path / "a", 1, ONE)
    second, _ = await archived(tmp_path / "b", 2, ONE)
    await kept.keep(1, first)
    put = Bucket.put

    async def late(self: Bucket, key: str, content: Path | bytes) -> int:
        if f"doomed/{one}" in key:
            monkeypatch.setattr(Bucket, "put", put)
            await kept.keep(2, second)
        return await put(self, key, content)

    monkeypatch.setattr(Bucket, "put", late)
    await kept.drop(1)
    assert Bucket.put is put
    assert await kept.content(one, 100) == ONE.encode()


async def test_a_remover_that_died_holds_up_nobody_for_long(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. Its mark is there, it is not."""
    monkeypatch.setattr(layout, "LOOKS", 1)
    monkeypatch.setattr(layout, "LOOK_S", 0)
    kept = objects(s3, "died")
    folder, (one,) = await archived(tmp_path, 1, ONE)
    asked(s3, "PUT", f"p/died/doomed/{one}/gone")
    with pytest.raises(BeingRemovedError):
        await kept.keep(1, folder)
    monkeypatch.setattr(layout, "STALE", timedelta(seconds=-60))
    await kept.keep(1, folder)
    await kept.tidy(later(hours=25), "")
    assert "doomed" not in asked(s3, "GET", "", prefix="p/died/")


async def test_many_that_bring_and_remove_at_once_leave_each_build_whole(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. Three machines with one content, each step after a random pause."""
    monkeypatch.setattr(layout, "LOOK_S", 0.01)
    monkeypatch.setattr(layout, "LOOKS", 1000)
    chance, put, facts = random.Random(7), Bucket.put, Bucket.facts

    async def put_later(self: Bucket, key: str, content: Path | bytes) -> int:
        await asyncio.sleep(chance.random() / 100)
        return await put(self, key, content)

    async def facts_later(self: Bucket, key: str) -> tuple[int, datetime] | None:
        found = await facts(self, key)
        await asyncio.sleep(chance.random() / 100)
        return found

    monkeypatch.setattr(Bucket, "put", put_later)
    monkeypatch.setattr(Bucket, "facts", facts_later)
    folders = {number: (await archived(tmp_path / str(number), number, ONE))[0] for number in range(1, 10)}

    async def machine(numbers: range) -> None:
        kept = objects(s3, "many")
        for number in numbers:
            await kept.keep(number, folders[number])
            assert await kept.content(sha256, 100) == ONE.encode()
            await kept.drop(number)

    _, (sha256,) = await archived(tmp_path / "x", 99, ONE)
    async with asyncio.timeout(25):
        await asyncio.gather(*(machine(range(first, first + 3)) for first in (1, 4, 7)))
    assert "<Key>" not in asked(s3, "GET", "", prefix="p/many/")


async def test_a_restored_database_reads_what_it_left_under_its_earlier_name_and_removes_nothing_there(
    s3: S3, tmp_path: Path
) -> None:
    """Ours. The database that it was copied from may live on."""
    before = objects(s3, "before")
    folder, (one,) = await archived(tmp_path, 1, ONE)
    await before.keep(1, folder)
    restored = objects(s3, "after", earlier=("older", "before"))
    assert await restored.content(one, 100) == ONE.encode()
    await restored.tidy(later(days=400), "")
    await restored.drop(1)
    assert await before.content(one, 100) == ONE.encode()
    with pytest.raises(NotFound):
        await objects(s3, "after").content(one, 100)


async def test_a_link_downloads_the_file_under_its_name_and_is_signed_as_others_sign(s3: S3, tmp_path: Path) -> None:
    """Ours. The store names a content by its hash; and what no test server checks, another program signs the same."""
    kept = objects(s3, "named")
    folder, (one,) = await archived(tmp_path, 1, ONE)
    await kept.keep(1, folder)
    link = await kept.link(one, 'out/a "firmware"\r\n é.bin')
    with await asyncio.to_thread(urllib.request.urlopen, link) as answer:
        said = answer.headers
    assert said["content-disposition"] == "attachment; filename*=UTF-8''a%20%22firmware%22%0D%0A%20%C3%A9.bin"
    assert said["content-type"] == "application/octet-stream"

    access = Access(f"s3://{BUCKET}/p", s3.endpoint, "eu-north-1", "id", "key")
    store = Bucket(access)._open()  # pyright: ignore[reportPrivateUsage]
    theirs = obstore.sign(store, "GET", "some where/ü+", timedelta(seconds=77))
    when = datetime.strptime(parse_qs(urlsplit(theirs).query)["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    place = Place.of(access.url, access.endpoint, access.region, ("id", "key"))
    assert place is not None
    ours = signed(place, "GET", "p/some where/ü+", {}, 77, when)
    assert parse_qs(urlsplit(ours).query) == parse_qs(urlsplit(theirs).query)


HANGING = """
import asyncio, socket, sys
from mcp_server.store.bucket import Access, Bucket
server = socket.create_server(("127.0.0.1", 0))
async def main():
    bucket = Bucket(Access("s3://b", f"http://127.0.0.1:{server.getsockname()[1]}", "us-east-1", "a", "b"))
    asking = [asyncio.create_task(bucket.put(str(n), b"x")) for n in range(40)]
    await asyncio.sleep(0.2)
    print(await asyncio.to_thread(lambda: "not blocked"))
    for task in asking:
        task.cancel()
asyncio.run(main())
"""


def test_a_store_that_hangs_keeps_neither_the_database_waiting_nor_a_process_that_ends() -> None:
    """Ours. Forty requests that nobody answers, and the threads that the rest of a worker uses are free."""
    ended = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=20, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "not blocked\n", "")
