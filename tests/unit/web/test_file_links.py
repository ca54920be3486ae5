"""Links to single files that need no token: what each gives, and all that none of them gives."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import pytest_asyncio

from mcp_server.errors import EnvironmentMissing
from mcp_server.file_links import LINK_S, MOST_S, SECRET
from mcp_server.secret_store import delete_secret, make_secret, read_secret, set_secret
from tests.support.left_files import build_that_left
from tests.support.moved_clock import MovedClock
from tests.support.web_service import Service, web_service

pytestmark = pytest.mark.timeout(30)
FAR: Any = {"client": "203.0.113.9", "host": "builds.example.org"}
ODD = 'out/a "b"; filename=x.html é.bin'


@pytest_asyncio.fixture
async def service(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """With builds 1 and 2, which left the same files."""
    async with web_service(MovedClock()) as service:

        async def nothing() -> None:
            pass

        monkeypatch.setattr(service.orchestrator, "poke", nothing)
        for number in (1, 2):
            files = {"a.bin": b"0123456789", "sub/b.bin": b"b", ODD: b"<script>"}
            assert await build_that_left(service.orchestrator, tmp_path / str(number), files) == number
        yield service


def clock_of(service: Service) -> MovedClock:
    assert isinstance(service.orchestrator.clock, MovedClock)
    return service.orchestrator.clock


async def links_of(service: Service, build: int = 1, seconds: int = LINK_S) -> dict[str, str]:
    """Path and address without the host, as a reader is told them."""
    _, token = await service.orchestrator.tokens.create(f"reader{build}{seconds}", "read")
    answer = await service.ask("GET", f"/api/builds/{build}/artifacts?link_s={seconds}", token=token, **FAR)
    assert answer.status_code == 200, answer.text
    rows = answer.json()
    assert all(row["url"].startswith(f"http://builds.example.org/files/{build}/build/") for row in rows)
    return {row["path"]: row["url"].removeprefix("http://builds.example.org") for row in rows}


async def test_whoever_has_a_link_has_that_file_for_so_long_without_a_token(service: Service) -> None:
    """Issue. Pieces of it as well, and never as a page."""
    links = await links_of(service)
    answer = await service.ask("GET", links["a.bin"], **FAR)
    assert (answer.status_code, answer.content) == (200, b"0123456789")
    assert answer.headers["cache-control"] == "private, no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    piece = await service.ask("GET", links["a.bin"], headers={"Range": "bytes=2-4"}, **FAR)
    assert (piece.status_code, piece.content, piece.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    assert (await service.ask("GET", links["a.bin"], headers={"Range": "bytes=10-"}, **FAR)).status_code == 416
    head = await service.ask("HEAD", links["a.bin"], **FAR)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "10")

    odd = await service.ask("GET", links[ODD], **FAR)
    assert odd.content == b"<script>"
    assert odd.headers["content-disposition"] == (
        "attachment; filename*=utf-8''a%20%22b%22%3B%20filename%3Dx.html%20%C3%A9.bin"
    )
    assert odd.headers["content-type"] == "application/octet-stream"
    assert odd.headers["x-content-type-options"] == "nosniff"

    clock_of(service).advance(LINK_S - 1)
    assert (await service.ask("GET", links["a.bin"], **FAR)).status_code == 200
    clock_of(service).advance(2)
    ended = await service.ask("GET", links["a.bin"], **FAR)
    assert ended.status_code == 403
    assert "this link ended at" in ended.json()["detail"]


async def test_a_link_is_good_for_nothing_else(service: Service) -> None:
    """Issue. Another file, build, end or method, or the rest of the service: each is refused."""
    links = await links_of(service)
    asked = urlsplit(links["a.bin"])
    query = {name: value[0] for name, value in parse_qs(asked.query).items()}
    later = urlencode({**query, "expires": int(query["expires"]) + 1})
    wrong = [
        asked.path.replace("a.bin", "sub/b.bin") + f"?{asked.query}",
        asked.path.replace("/1/", "/2/") + f"?{asked.query}",
        asked.path.replace("build/a", "a") + f"?{asked.query}",
        asked.path.replace("build/a", "build/sub/%2E%2E/a") + f"?{asked.query}",
        f"{asked.path}?{later}",
        *(f"{asked.path}?{urlencode({**query, 'signature': other})}" for other in ("", "x", "é", query["key"])),
        f"{asked.path}?{urlencode({**query, 'signature': query['signature'] + 'A'})}",
    ]
    for address in wrong:
        refused = await service.ask("GET", address, **FAR)
        assert refused.status_code == 403, address
        assert "for another file, or was changed" in refused.json()["detail"]
    for address in (asked.path, f"{asked.path}?{asked.query}&expires=x", f"{asked.path}?{asked.query}&expires=-1"):
        assert (await service.ask("GET", address, **FAR)).status_code == 422
    for method, address in (
        ("POST", links["a.bin"]),
        ("GET", f"/api/builds/1?{asked.query}"),
        ("GET", f"/api/builds/1/artifacts/a.bin?{asked.query}"),
        ("GET", f"/files?{asked.query}"),
    ):
        assert (await service.ask(method, address, **FAR)).status_code == 401, address


async def test_another_key_revokes_every_link_and_one_key_serves_several_machines(service: Service) -> None:
    """Issue. The key is a secret of its own, which nobody else can read."""
    links, folder = await links_of(service), service.orchestrator.config.secrets_dir
    key = read_secret(folder, SECRET)
    assert key is not None
    assert len(key) == 64
    assert (folder / SECRET).stat().st_mode & 0o777 == 0o600
    assert key not in links["a.bin"]

    delete_secret(folder, SECRET)
    revoked = await service.ask("GET", links["a.bin"], **FAR)
    assert revoked.status_code == 403
    assert "this link was revoked" in revoked.json()["detail"]
    set_secret(folder, SECRET, key)
    assert (await service.ask("GET", links["a.bin"], **FAR)).status_code == 200
    set_secret(folder, SECRET, "short")
    with pytest.raises(EnvironmentMissing, match="at least 32 letters"):
        await service.orchestrator.kept.links.check(1, "a", 1, "", "")

    made = await asyncio.gather(
        *(asyncio.to_thread(make_secret, folder, "at-once", lambda number=number: f"v{number}") for number in range(8))
    )
    assert len(set(made)) == 1  # whoever is first wins, for all
    assert not [path for path in folder.iterdir() if "at-once." in path.name]


async def test_a_link_lasts_a_week_at_most_and_is_for_readers(service: Service) -> None:
    """Ours. Nobody without a token is given one once there are tokens."""
    await links_of(service, 2, MOST_S)
    for seconds in (0, MOST_S + 1):
        _, token = await service.orchestrator.tokens.create(f"r{seconds}", "read")
        answer = await service.ask("GET", f"/api/builds/1/artifacts?link_s={seconds}", token=token)
        assert answer.status_code == 422
    assert (await service.ask("GET", "/api/builds/1/artifacts?link_s=60")).status_code == 401
    assert "url" not in (await service.ask("GET", "/api/builds/1/artifacts", token=token)).json()[0]


async def test_every_get_of_the_api_answers_head_without_a_body(service: Service) -> None:
    """HTTP: a HEAD is a GET without its body; what has no end stays refused."""
    for path in ("/api/builds", "/api/builds/1", "/api/builds/1/artifacts/a.bin", "/api/builds/9", "/metrics", "/"):
        told, head = await service.ask("GET", path), await service.ask("HEAD", path)
        assert (head.status_code, head.content) == (told.status_code, b""), path
        assert head.headers["content-type"] == told.headers["content-type"]
    assert (await service.ask("HEAD", "/api/builds/1/retry")).status_code == 405
    assert (await service.ask("HEAD", "/api/events")).status_code == 405
