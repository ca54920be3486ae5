"""What tests of several rooms start: an orchestrator whose worker is a real process, and commands in this process."""

from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from mcp_server.cli import app
from mcp_server.config import load_config
from mcp_server.orchestrator import Orchestrator
from tests.support.workers import end_everything, worker_inside


@pytest_asyncio.fixture
async def orchestrator(home: Path, request: pytest.FixtureRequest) -> AsyncIterator[Orchestrator]:
    """Of this test's home; its worker starts with the first build and ends with everything it left.

    A process of its own, or a task of this one where the test or its file is marked `worker_inside`.
    """
    inside = request.node.get_closest_marker("worker_inside") is not None
    orchestrator = Orchestrator(load_config())
    async with worker_inside(home) if inside else nullcontext():
        yield orchestrator
        await orchestrator.aclose()
    end_everything(home)


@dataclass(frozen=True)
class Said:
    """What a command left, by the names that subprocess has for it."""

    returncode: int
    stdout: str
    stderr: str


Cli = Callable[..., Said]


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """`cli("builds", "--json", IDF_PATH="/x")`: all of the program but the start of an interpreter, 0.5 s each.

    For what a command says and answers; what a signal, a terminal or a closed pipe does to it needs a process.
    """

    def run(*arguments: str, **environment: str) -> Said:
        capfd.readouterr()
        with monkeypatch.context() as changed:
            for name, value in environment.items():
                changed.setenv(name, value)
            changed.chdir(tmp_path)
            code = app.main(list(arguments))
        said = capfd.readouterr()
        return Said(code, said.out, said.err)

    return run
