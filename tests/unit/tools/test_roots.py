"""What `.` means to a client that has roots, in both eras; one that never answers holds nobody up."""

import anyio
import pytest
from mcp import Client
from mcp.client.session import ClientRequestContext
from mcp_types import ErrorData, ListRootsResult, Root
from pydantic import FileUrl

from mcp_server.server import make_server
from mcp_server.tools import answers
from tests.unit.tools.calls import call
from tests.unit.tools.fake import Fake, succeeded_view


class Editor:
    """A client's roots, and how often it was asked for them."""

    def __init__(self, *urls: str) -> None:
        self.roots = [Root(uri=FileUrl(url)) for url in urls]
        self.asked = 0

    async def __call__(self, context: ClientRequestContext) -> ListRootsResult | ErrorData:
        self.asked += 1
        return ListRootsResult(roots=self.roots)


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second choice, where the roots do not tell."""
    monkeypatch.setenv("CLAUDE_PROJECT_DIR", "/second/choice")


async def built(fake: Fake, mode: str, editor: Editor, **arguments: str) -> str:
    """The folder that was built for a client with these roots."""
    fake.push(succeeded_view())
    async with Client(make_server(fake.open), mode=mode, list_roots_callback=editor) as client:
        text, is_error = await call(client, "idf_build", **arguments)
    assert not is_error, text
    return fake.called("start_build")["project"]


async def test_the_only_root_is_the_project(fake: Fake, mode: str) -> None:
    """interfaces: `.` is the client's only root."""
    editor = Editor("file:///home/me/my%20blink")

    assert await built(fake, mode, editor) == "/home/me/my blink"
    assert editor.asked == 1


async def test_a_relative_path_starts_at_the_root(fake: Fake, mode: str) -> None:
    """Ours. What a model sees as its folder is where its paths begin."""
    assert await built(fake, mode, Editor("file:///home/me"), project="./blink") == "/home/me/blink"


async def test_of_several_roots_none_is_guessed(fake: Fake, mode: str) -> None:
    """interfaces: never guess."""
    assert await built(fake, mode, Editor("file:///a", "file:///b")) == "/second/choice"


async def test_an_absolute_path_asks_for_no_roots(fake: Fake, mode: str) -> None:
    """Ours. A round trip less."""
    editor = Editor("file:///a")

    assert await built(fake, mode, editor, project="/p") == "/p"
    async with Client(make_server(fake.open), mode=mode, list_roots_callback=editor) as client:
        await call(client, "build_list")
    assert editor.asked == 0


async def test_a_client_that_never_answers_costs_a_bounded_time(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours. Only the older era can hang: the newer one asks within the call."""
    monkeypatch.setattr(answers, "ROOTS_S", 0.05)

    class Silent(Editor):
        async def __call__(self, context: ClientRequestContext) -> ListRootsResult | ErrorData:
            await anyio.sleep_forever()
            raise AssertionError

    with anyio.fail_after(5):
        assert await built(fake, "legacy", Silent()) == "/second/choice"


async def test_a_client_that_refuses_its_roots_has_none(fake: Fake) -> None:
    """Ours. Declared but not given."""

    class Refusing(Editor):
        async def __call__(self, context: ClientRequestContext) -> ListRootsResult | ErrorData:
            return ErrorData(code=-32603, message="no")

    assert await built(fake, "legacy", Refusing()) == "/second/choice"
