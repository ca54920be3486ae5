"""Two clients and one board: two real servers, the real esptool, a virtual chip; in one home, and in two.

Each project prints its own name, so nobody can pass by what the other's firmware said. Servers and projects are those
of the whole file; each test has a board of its own.
"""

import asyncio
import importlib.util
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio

from mcp_server.demo.chip import VirtualChip
from mcp_server.demo.chip.client import RunningChip
from mcp_server.demo.place import lay_out
from tests.conftest import NewDatabase
from tests.integration.mcp.conftest import COMMAND, environment_of, mend
from tests.integration.mcp.wire import Wire
from tests.support.workers import end_everything

pytestmark = [
    pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler"),
    pytest.mark.skipif(importlib.util.find_spec("esptool") is None, reason="no esptool: the extra [demo] brings it"),
    pytest.mark.timeout(90),
]

LIMIT_S = 60
ALLOWED = "security: {allow_flash: always}\n"
TAKEN = re.compile(r"/dev/pts/\d+ is open in .{1,110} \(pid (\d+)\), job [0-9a-f]{8}-\d+-\w+-1-1 of another build-orch")
SLOW = "slow=230400"
"""Some 2 s for the images: time to come second."""


@dataclass(frozen=True)
class Answer:
    text: str
    is_error: bool


@dataclass(frozen=True)
class Developer:
    """A client with a project of its own, which is built, and the board that this test is about."""

    wire: Wire
    project: str
    says: str
    port: str = ""

    async def use(self, tool: str, **arguments: object) -> Answer:
        return await asyncio.to_thread(self.call, tool, **arguments)

    def call(self, tool: str, **arguments: object) -> Answer:
        result = self.wire.ask("tools/call", name=tool, arguments=arguments)
        return Answer("".join(block["text"] for block in result["content"]), bool(result.get("isError")))

    async def flash(self, **more: object) -> Answer:
        return await self.use("idf_flash", project=self.project, port=self.port, expect=[self.says], **more)

    async def monitor(self, **more: object) -> Answer:
        return await self.use("serial_monitor", **({"port": self.port} if "session" not in more else {}), **more)

    def passed(self, answer: Answer) -> bool:
        """Whether the board was flashed with this project, and that is what it ran."""
        return not answer.is_error and self.says in answer.text and "verified" in answer.text


def developer(home: Path, folder: Path, database: dict[str, str]) -> Developer:
    """A real server in front of a home, with a project that it has built."""
    home.mkdir(exist_ok=True)
    (home / "config.yaml").write_text(ALLOWED)
    mend(lay_out(folder))
    app = folder / "main" / "app_main.c"
    app.write_text(app.read_text().replace('TAG = "greenhouse"', f'TAG = "{folder.name}"'))
    made = Developer(
        Wire(COMMAND, {**environment_of(home), "HOME": str(folder.parent), **database}),
        str(folder),
        f"{folder.name}: SELF TEST PASSED",
    )
    built = made.call("idf_build", project=made.project, target="esp32c3")
    assert not built.is_error, built.text
    return made


@pytest.fixture(scope="module")
def developers(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Iterator[list[Developer]]:
    """Two of one home, and one of another's: another user, or CI, on the same machine."""
    folder = tmp_path_factory.mktemp("developers")
    home, other_home = folder / "home", folder / "other-home"
    ours, theirs = new_database(), new_database()
    made: list[Developer] = []
    try:
        for at, name, database in ((home, "one", ours), (home, "two", ours), (other_home, "other", theirs)):
            made.append(developer(at, folder / name, database))
        yield made
    finally:
        for one in made:
            one.wire.kill()
        end_everything(home)
        end_everything(other_home)


@pytest.fixture
def one(developers: list[Developer], chip: RunningChip) -> Developer:
    return replace(developers[0], port=chip.port)


@pytest.fixture
def two(developers: list[Developer], chip: RunningChip) -> Developer:
    """Of the home of `one`."""
    return replace(developers[1], port=chip.port)


@pytest.fixture
def other(developers: list[Developer], chip: RunningChip) -> Developer:
    """Of another home."""
    return replace(developers[2], port=chip.port)


@pytest_asyncio.fixture
async def chip(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RunningChip]:
    faults = getattr(request, "param", ())
    async with VirtualChip(flash=tmp_path / "flash", faults=faults).running() as chip:
        yield chip


def number_in(answer: Answer) -> int:
    found = re.search(r"session (\d+)", answer.text)
    assert found, answer.text
    return int(found[1])


async def test_a_session_is_joined_and_lends_its_port_to_the_other_clients_flash(
    one: Developer, two: Developer, chip: RunningChip
) -> None:
    """Issue: a flash takes the port, and the monitor has it back after."""
    async with asyncio.timeout(LIMIT_S):
        session = number_in(await one.monitor())
        joined = await two.monitor()
        flashed = await two.flash()
        seen = await one.monitor(session=session, wait_for="two: .* valve", timeout_s=20)
        await one.monitor(session=session, close=True)

    assert number_in(joined) == session
    assert two.passed(flashed), flashed.text
    assert "the port is lent to flash of build" in seen.text
    assert "the port is lent to build " in seen.text
    assert seen.text.count("the port is back after") == 1  # not between the flash and the watch of its boot
    assert not seen.is_error


@pytest.mark.parametrize("chip", [(SLOW,)], indirect=True)
async def test_of_two_flashes_in_one_home_the_second_waits_for_the_first_boot(
    one: Developer, two: Developer, chip: RunningChip
) -> None:
    """Issue: leases. The port is held from the write to the end of the watch, so each sees its own firmware."""
    async with asyncio.timeout(LIMIT_S):
        first = asyncio.create_task(one.flash())
        await chip.wait_for("stub")  # esptool's own loader runs: the flash is under way
        at_once = await two.flash(wait_s=1)
        number = int(re.findall(r"build (\d+)", at_once.text)[0])
        second = await two.use("build_wait", build=number)

    assert one.passed(await first), (await first).text
    assert two.passed(second), second.text
    assert f"waiting for the port {chip.port}, which build {number - 1} uses" in at_once.text


@pytest.mark.parametrize("chip", [(SLOW,)], indirect=True)
async def test_another_home_is_told_who_flashes_and_leaves_the_board_alone(
    one: Developer, other: Developer, chip: RunningChip
) -> None:
    """Design: a second home is noticed, too. Its locks are not ours; the process that has the port open can be seen."""
    async with asyncio.timeout(LIMIT_S):
        first = asyncio.create_task(one.flash())
        await chip.wait_for("stub")
        refused = await other.flash()
        listened = await other.monitor()

    assert one.passed(await first), (await first).text
    for answer in (refused, listened):
        assert answer.is_error
        assert TAKEN.search(answer.text), answer.text
        assert "esptool" in answer.text
        assert len(answer.text.encode()) <= 500


async def test_another_home_is_told_whose_session_has_the_port(
    one: Developer, other: Developer, chip: RunningChip
) -> None:
    """Issue: a second session is told who holds the port. It never gets half of what the board says."""
    async with asyncio.timeout(LIMIT_S):
        session = number_in(await one.monitor())
        refused = [await other.monitor(), await other.flash()]
        await one.monitor(session=session, close=True)
        flashed = await other.flash()

    for answer in refused:
        assert answer.is_error
        assert TAKEN.search(answer.text), answer.text
        assert "a serial monitor of build-orchestrator" in answer.text
    assert other.passed(flashed), flashed.text


async def test_of_two_homes_that_flash_at_the_same_moment_one_does_and_the_other_touches_nothing(
    one: Developer, other: Developer, chip: RunningChip
) -> None:
    """Ours. Neither sees the other in time: esptool's kernel lock of the port decides; its holder is named after."""
    async with asyncio.timeout(LIMIT_S):
        answers = await asyncio.gather(one.flash(), other.flash())

    passed = [who.passed(answer) for who, answer in zip((one, other), answers, strict=True)]
    assert any(passed), answers
    for answer in (answer for answer, well in zip(answers, passed, strict=True) if not well):
        assert answer.is_error
        # Whoever held it may have let go before it could be named.
        assert TAKEN.search(answer.text) or "is open in another program" in answer.text, answer.text
        assert "last lines" not in answer.text


async def test_of_two_homes_that_listen_at_the_same_moment_one_hears_all_and_the_other_nothing(
    one: Developer, other: Developer, chip: RunningChip
) -> None:
    """Ours. A session that never had its port is an error, and says who has it."""
    async with asyncio.timeout(LIMIT_S):
        answers = sorted(await asyncio.gather(one.monitor(), other.monitor()), key=lambda answer: answer.is_error)

    assert [answer.is_error for answer in answers] == [False, True], answers
    assert "open at 115200 baud" in answers[0].text
    assert "a serial monitor of build-orchestrator" in answers[1].text
    assert re.search(r"\((pid|process) \d+\)", answers[1].text), answers[1].text
    assert "virtual chip" not in answers[1].text
