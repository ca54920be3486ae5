"""Files and logs of another machine's builds, read from the object store by whoever asks on a machine without them."""

import asyncio
import shutil
import urllib.request
from collections.abc import AsyncIterator, Iterator
from urllib.parse import unquote

import psycopg
import pytest
import pytest_asyncio
from mcp import Client

from mcp_server.config import load_config
from mcp_server.errors import Elsewhere
from mcp_server.model import BuildStatus
from mcp_server.orchestrator import Orchestrator
from mcp_server.secret_store import delete_secret, set_secret
from mcp_server.server import make_server
from mcp_server.views import BuildView
from tests.integration.conftest import Cli
from tests.support import extras
from tests.support.team import Team
from tests.support.web_service import Service, web_service
from tests.unit.tools.calls import call

extras.need("obstore", "team")
extras.need("moto", "test")

from tests.support.s3 import S3, s3_server  # noqa: E402

IN_TIME = 60
TEXT = """
pipeline:
  name: pack
  stages: [{{name: make, server: local, workdir: {work}, artifacts: [a.bin],
    command: "echo firmware > a.bin; seq 1 3000; echo the end"}}]
"""


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture
def stored_team(team: Team, s3: S3) -> Team:
    """With an object store that two machines may use."""
    team.config += s3.config().replace("{", "{{").replace("}", "}}")
    for number in (0, 1):
        (team.home(number) / "secrets").mkdir(mode=0o700)
        set_secret(team.home(number) / "secrets", "s3", "of-the-bucket")
    return team


@pytest_asyncio.fixture
async def view(stored_team: Team, database: psycopg.Connection) -> BuildView:
    """A build that was done in a folder of machine 1, and is stored."""
    team = stored_team
    there = Orchestrator(load_config(team.environment(1)), environment=team.environment(1))
    try:
        await there.store()
        team.start(1)
        async with asyncio.timeout(IN_TIME):
            while not team.names(database):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        pipeline = await there.read_pipeline(text=TEXT.format(work=team.work))
        number = (await there.start_pipeline(pipeline, team.work, agreed=True)).build.id
        found = await there.wait(number, IN_TIME)
        note = there.config.artifacts_dir / "stored" / str(number)
        async with asyncio.timeout(IN_TIME):
            while not note.exists():  # noqa: ASYNC110 - a worker tells nobody
                await asyncio.sleep(0.02)
    finally:
        await there.aclose()
    assert found.build.status is BuildStatus.SUCCESS
    return found


@pytest_asyncio.fixture
async def here(stored_team: Team, view: BuildView, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """A service on machine 0, which has nothing of it: nor has any path of that machine anything here."""
    shutil.rmtree(stored_team.home(1) / "artifacts")
    (stored_team.work / "a.bin").unlink()
    for name, value in stored_team.environment(0).items():
        monkeypatch.setenv(name, value)
    async with web_service() as service:
        yield service


async def test_files_and_logs_of_another_machine_are_had_over_rest_by_command_and_by_tools(
    here: Service, view: BuildView, cli: Cli
) -> None:
    """Issue: artifacts in S3 with signed links. Whoever asks need not know where the build ran."""
    number, whole = view.build.id, "".join(f"{n}\n" for n in range(1, 3001)) + "the end\n"
    file = await here.ask("GET", f"/api/builds/{number}/artifacts/make/a.bin")
    assert file.status_code == 307
    read = await asyncio.to_thread(lambda: urllib.request.urlopen(file.headers["location"]).read())
    assert read == b"firmware\n"
    log = await here.ask("GET", f"/api/builds/{number}/log/make", params={"offset": 0})
    assert log.text == whole
    found = await here.ask("GET", f"/api/builds/{number}/log/make", params={"grep": "^299"})
    assert (found.headers["X-Log-Matches"], found.text.splitlines()[0]) == ("11", "299: 299")

    written = bytearray()
    await here.orchestrator.follow_log(number, "make", written.extend)
    assert written.decode() == whole
    told = await asyncio.to_thread(cli, "logs", str(number), "--tail", "1")
    assert (told.returncode, told.stdout) == (0, "the end\n")

    async def opener() -> Orchestrator:
        return here.orchestrator

    async with Client(make_server(opener)) as client:
        assert "the end" in (await call(client, "build_log", build=number))[0]
        text, wrong = await call(client, "build_get", build=number, detail="artifacts")
        assert ("a.bin" in text and "not here, in s3://results/builds" in text, wrong) == (True, False), text
        [resource] = (await client.read_resource(f"build://{number}/artifacts/make/a.bin")).contents
        assert getattr(resource, "text", None) == "firmware\n"


async def test_what_the_store_has_not_or_does_not_give_is_said_with_the_machine_that_has_it(
    here: Service, view: BuildView, stored_team: Team, database: psycopg.Connection
) -> None:
    """Ours. Of a log there is still the end that the build's record has."""
    number, asked = view.build.id, f"/api/builds/{view.build.id}"
    database.execute("UPDATE stages SET attempt = 2 WHERE build = %s", (number,))  # a log that was not brought
    with pytest.raises(Elsewhere) as refused:
        await here.orchestrator.log(number, "make", grep="x")
    hint = "it is not in s3://results/builds, or not yet: `doctor` there says why"
    assert str(refused.value) == f"the log of stage make is on machine machine1: read it there; {hint}"

    row = "jsonb_set(verdict::jsonb, '{artifacts,0,sha256}', to_jsonb(repeat('0', 64)))::json"
    database.execute(f"UPDATE stages SET verdict = {row} WHERE build = %s".encode(), (number,))
    file = await here.ask("GET", f"{asked}/artifacts/a.bin")
    assert (file.status_code, file.json()["detail"]) == (
        404,
        f"'a.bin' of build {number} is on machine machine1: take it there; {hint}",
    )

    delete_secret(stored_team.home(0) / "secrets", "s3")
    file, log = await here.ask("GET", f"{asked}/artifacts/a.bin"), await here.ask("GET", f"{asked}/log/make")
    assert "the secret s3 is not set" in file.json()["detail"]
    assert log.text.endswith("the end")
    assert "the secret s3 is not set" in unquote(log.headers["X-Log-Note"])
