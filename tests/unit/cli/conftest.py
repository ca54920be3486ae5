"""Runs commands in this process, with an orchestrator that has nothing behind it."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from mcp_server.cli import app, session
from tests.unit.cli.builders import FakeOrchestrator


@dataclass(frozen=True)
class Result:
    """What a command left."""

    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeOrchestrator:
    """The orchestrator that every command of the test gets."""
    orchestrator = FakeOrchestrator()
    monkeypatch.setattr(session, "make_orchestrator", lambda: orchestrator)
    return orchestrator


@pytest.fixture
def cli(fake: FakeOrchestrator, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """`cli("builds", "--json", width=40)`: exit code, stdout and stderr, neither of them a terminal."""

    def run(*arguments: str, width: int = 80) -> Result:
        monkeypatch.setenv("COLUMNS", str(width))
        code = app.main(list(arguments))
        captured = capfd.readouterr()
        return Result(code, captured.out, captured.err)

    return run
