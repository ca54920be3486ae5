"""What nothing foresaw: a problem for who asked, a line on stderr, the traceback in HOME/logs/serve.log."""

import asyncio
import errno
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from mcp_server import process_log
from mcp_server.config import load_config
from mcp_server.errors import Conflict, HostFull, OrchestratorError, StoreError
from mcp_server.orchestrator import Orchestrator
from mcp_server.web.feed import Feed
from mcp_server.web.serve import serve
from tests.support.web_service import Service, web_service
from tests.unit.web.test_floods import Client

pytestmark = [pytest.mark.timeout(30), pytest.mark.usefixtures("root_logger")]


@pytest_asyncio.fixture
async def service(home: Path) -> AsyncIterator[Service]:
    async with web_service() as service:
        yield service


def failing(monkeypatch: pytest.MonkeyPatch, service: Service, name: str, error: Exception) -> None:
    """One operation of the orchestrator fails from now on."""

    async def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(service.orchestrator, name, fails)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyError("a secret detail"), 500, "by a fault of its own"),
        (OSError(errno.ENOSPC, "No space left on device", "/a/secret/detail"), 507, "no space left on its disk"),
        (HostFull("local", "no space left in /jobs"), 507, "no space left in /jobs"),
        (StoreError("the database was locked for 5 s"), 503, "locked for 5 s"),
    ],
)
async def test_an_error_is_a_problem_and_its_traceback_goes_to_the_log(
    service: Service,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    status: int,
    said: str,
) -> None:
    """Ours. Nothing of what is inside is shown to who asks, and stderr has one line at most."""
    process_log.configure("serve", {})
    failing(monkeypatch, service, "list", error)
    answer = await service.ask("GET", "/api/builds")
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["status"] == status and said in answer.json()["detail"]
    assert "secret detail" not in answer.text and "Traceback" not in answer.text
    err, log = capsys.readouterr().err, home / "logs" / "serve.log"
    assert "Traceback" not in err and err.count("\n") <= 1
    if status == 500:
        assert err == "build-orchestrator: ERROR 'GET /api/builds': internal error: KeyError\n"
        assert "a secret detail" in log.read_text()


async def test_what_fails_before_any_route_is_a_problem_too(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours. The guard asks the database for tokens, and that may be locked."""

    async def locked(_: object) -> bool:
        raise StoreError("the database was locked for 5 s by another process: try again")

    monkeypatch.setattr(type(service.orchestrator.tokens), "any", locked)
    for path in ("/api/builds", "/mcp"):
        answer = await service.ask("GET", path)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:build-orchestrator:store")
    client = Client(service)
    async with asyncio.timeout(5):
        await client.served
    assert [(one["type"], one.get("code")) for one in client.got] == [("websocket.close", 1011)]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (StoreError("the database was locked"), "the database was locked"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            r"could not be started: \[Errno 28\] No space left on device",
        ),
        (KeyError("x"), "could not be started: see .*serve.log"),
    ],
)
async def test_a_service_that_does_not_start_says_so_and_does_not_say_that_it_is_open(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, said: str
) -> None:
    """Ours. It returned 0, after having said that it is open."""

    async def fails(_: Feed) -> None:
        raise error

    monkeypatch.setattr(Feed, "start", fails)
    orchestrator, told = Orchestrator(load_config()), list[str]()
    try:
        with pytest.raises(OrchestratorError, match=said) as refused:
            async with asyncio.timeout(10):
                await serve(orchestrator, "127.0.0.1", 0, told.append)
    finally:
        await orchestrator.aclose()
    assert isinstance(refused.value, StoreError | Conflict)
    assert told == [] and capsys.readouterr().err == ""
    assert "Traceback" in (home / "logs" / "serve.log").read_text()
