"""idf_flash, qemu_run, serial_monitor, serial_send: who is asked, what is passed on, what comes back."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio
from mcp import Client
from mcp.client.context import ClientRequestContext
from mcp_types import ElicitRequestParams, ElicitResult

from mcp_server.config import Security
from mcp_server.serial_sessions import Reading
from mcp_server.server import Server
from tests.unit.tools.calls import call
from tests.unit.tools.fake import Fake, succeeded_view

Asked = list[str]


@pytest.fixture(autouse=True)
def passed(fake: Fake) -> None:
    """What is started ends well."""
    fake.push(succeeded_view())


@pytest_asyncio.fixture
async def asking(server: Server, mode: str) -> AsyncIterator[tuple[Client, Asked, list[str]]]:
    """A client whose user answers what the third part says, and what it was asked."""
    asked, answers = Asked(), ["accept"]

    async def answer(_: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action=answers[0], content={"ok": True} if answers[0] == "accept" else None)  # pyright: ignore[reportArgumentType]

    async with held(lambda: Client(server, mode=mode, elicitation_callback=answer)) as client:  # pyright: ignore[reportArgumentType]
        yield client, asked, answers


def held(make: Callable[[], Client]) -> "Held":
    return Held(make)


class Held:
    """Opens and closes a client in one task, as its cancel scopes demand."""

    def __init__(self, make: Callable[[], Client]) -> None:
        self._make, self._done = make, asyncio.Event()

    async def __aenter__(self) -> Client:
        ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()

        async def hold() -> None:
            async with self._make() as client:
                ready.set_result(client)
                await self._done.wait()

        self._task: Awaitable[None] = asyncio.create_task(hold())
        return await ready

    async def __aexit__(self, *_: object) -> None:
        self._done.set()
        await self._task


async def test_a_person_is_asked_before_a_board_is_overwritten(
    asking: tuple[Client, Asked, list[str]], fake: Fake
) -> None:
    """interfaces: flashing asks (elicitation) unless confirm=true."""
    client, asked, _ = asking

    _, is_error = await call(client, "idf_flash", project="/p", port="/dev/ttyUSB0", expect=["ready"], erase=True)

    assert not is_error
    assert asked == ["Erase all of /dev/ttyUSB0 and write build 41 of p to it?"]
    assert fake.called("flash")["expect"] == ["ready"]
    assert fake.called("flash")["erase"] is True


@pytest.mark.parametrize(
    ("action", "why"), [("decline", "said no"), ("cancel", "nobody answered the question. Ask whether")]
)
async def test_a_no_flashes_nothing(asking: tuple[Client, Asked, list[str]], fake: Fake, action: str, why: str) -> None:
    """interfaces. Whom nobody answered is told what to do: a client without a person dismisses every question."""
    client, asked, answers = asking
    answers[0] = action

    text, is_error = await call(client, "idf_flash", project="/p")

    assert is_error
    assert len(asked) == 1
    assert f"nothing was flashed: {why}" in text or f"who was asked {why}" in text
    assert "flash" not in [name for name, _ in fake.calls]


async def test_a_client_that_cannot_ask_is_told_what_to_pass(client: Client, fake: Fake) -> None:
    """interfaces: where the client cannot ask, the error says what to pass."""
    text, is_error = await call(client, "idf_flash", project="/p")
    assert is_error
    assert "pass confirm=true" in text
    assert fake.calls == []

    _, is_error = await call(client, "idf_flash", project="/p", confirm=True)
    assert not is_error
    assert fake.called("flash")["seconds"] == 10


async def test_config_may_have_said_yes_for_good(client: Client, fake: Fake) -> None:
    """interfaces: security.allow_flash."""
    fake.config = fake.config.model_copy(update={"security": Security(allow_flash="always")})

    _, is_error = await call(client, "idf_flash", project="/p")

    assert not is_error


async def test_the_emulator_is_asked_the_same(client: Client, fake: Fake) -> None:
    """Issue: qemu_run answers the same question with the same plan and no board."""
    _, is_error = await call(client, "qemu_run", project="/p", build=42, expect=["ready"], timeout_s=5)

    assert not is_error
    assert fake.called("emulate") == {
        "project": "/p",
        "build": 42,
        "expect": ["ready"],
        "fail_on": [],
        "seconds": 5,
        "triggered_by": "mcp",
    }


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("ready", ["ready"]),
        ("[0-9]+ (ok|done), .*", ["[0-9]+ (ok|done), .*"]),  # a regex, whatever of JSON it looks like
        ('["a", "b"]', ["a", "b"]),  # a list that a client sends as text
        (["a"], ["a"]),
        ("", []),
        (None, []),
    ],
)
async def test_a_bare_text_is_one_pattern(client: Client, fake: Fake, given: object, taken: list[str]) -> None:
    """Issue. Models write expect="ready"; the schema says a list, and stays as short."""
    asks: tuple[tuple[str, str, dict[str, object]], ...] = (
        ("qemu_run", "emulate", {}),
        ("idf_flash", "flash", {"confirm": True}),
    )
    for tool, called, more in asks:
        text, is_error = await call(client, tool, project="/p", expect=given, fail_on=given, **more)
        assert not is_error, text
        asked = fake.called(called)
        assert (asked["expect"], asked["fail_on"]) == (taken, taken)


async def test_what_is_no_text_is_refused_in_a_sentence(client: Client, fake: Fake) -> None:
    """interfaces: one sentence that names the argument."""
    text, is_error = await call(client, "qemu_run", project="/p", expect=[7])
    assert (text, is_error, fake.calls) == ("expect: 7 is not a list of texts", True, [])


async def test_a_session_is_opened_read_on_and_closed(client: Client, fake: Fake) -> None:
    """Issue. What was waited for and did not come is an error; so is nothing else."""
    fake.reading = Reading(42, "[0.1] I (1) boot\n", open=True)
    text, is_error = await call(client, "serial_monitor", port="/dev/ttyUSB0")
    assert (text.splitlines(), is_error) == (["[0.1] I (1) boot", "session 42 open"], False)

    fake.reading = Reading(42, "[0.2] x\n", open=True, wait_for="ready")
    text, is_error = await call(client, "serial_monitor", session=42, wait_for="ready")
    assert is_error
    assert text.splitlines()[-1] == "session 42 open · no line matched 'ready' in that time"

    fake.reading = Reading(42, "--- [0.0] /dev/ttyUSB0 is in use by picocom\n", open=False, broken=True)
    text, is_error = await call(client, "serial_monitor", session=42)
    assert is_error
    assert text.splitlines() == ["--- [0.0] /dev/ttyUSB0 is in use by picocom", "session 42 closed"]

    text, is_error = await call(client, "serial_monitor", session=42, close=True)
    assert (text, is_error) == ("session 42 closed", False)
    text, is_error = await call(client, "serial_monitor", close=True)
    assert is_error
    assert "session" in text


async def test_what_is_sent_is_told(client: Client, fake: Fake) -> None:
    """Issue: send, reset lines."""
    text, is_error = await call(client, "serial_send", session=42, data="help\n", reset=True)

    assert (text, is_error) == ("session 42: sent", False)
    assert fake.called("send") == {"session": 42, "data": "help\n", "reset": True}
