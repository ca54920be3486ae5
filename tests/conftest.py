"""Closes every test off from the user's machine: its own HOME, a short environment, no network but loopback."""

import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from mcp_server import process_log
from tests.support.postgres import URL, Prepared, Server, memory, running

for _number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    # `pytest &` and nohup leave these ignored, and every process that a test starts would inherit it.
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number is signal.SIGINT else signal.SIG_DFL)

# A container's image may forbid bytecode to stay small. Here it would have each of some hundred processes compile the
# whole package anew, and each of pytest's workers all tests: a seventh of the whole time.
sys.dont_write_bytecode = False

# What each run can afford; `HYPOTHESIS_PROFILE=thorough pytest tests/unit` looks further.
settings.register_profile("quick", max_examples=60, deadline=None)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

# Nothing is collected while the tests are: an eighth of that time, in each of pytest's workers.
gc.disable()

DATABASE = os.environ.get("BO_TEST_DATABASE", "sqlite")
"""What the stores of tests are in that do not say: `sqlite` or `postgres`."""

KEEP = ("PATH", "LANG", "TERM", "TMPDIR", "VIRTUAL_ENV", "CI")


def pytest_collection_finish() -> None:
    """What was collected stays, so no later search for garbage has to go through it."""
    gc.freeze()
    gc.enable()


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a database that there is none of."""
    if DATABASE not in ("sqlite", "postgres"):
        raise pytest.UsageError(f"BO_TEST_DATABASE is sqlite or postgres, not {DATABASE!r}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On PostgreSQL, leave out what is about SQLite's file."""
    if DATABASE == "postgres":
        for item in items:
            if item.get_closest_marker("sqlite_only") is not None:
                item.add_marker(pytest.mark.skip("is about SQLite's file"))


NewDatabase = Callable[[], dict[str, str]]

_connect = socket.socket.connect


def _connect_to_loopback_only(self: socket.socket, address: Any) -> None:
    host = address[0] if isinstance(address, tuple) else ""
    if self.family in (socket.AF_INET, socket.AF_INET6) and not str(host).startswith(("127.", "::1", "localhost")):
        raise AssertionError(f"a test dialled {address!r}")
    _connect(self, address)


@pytest.fixture(autouse=True)
def closed_off(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """HOME and BUILD_ORCHESTRATOR_HOME lie in the test's folder; of the environment only `KEEP` is left.

    With BO_TEST_DATABASE=postgres the database is a new one of a server, and no store may have been made elsewhere.
    """
    for name in list(os.environ):
        if name not in KEEP and not name.startswith(("PYTEST_", "COV_")):
            monkeypatch.delenv(name)
    user_home = tmp_path / "user"
    user_home.mkdir()
    monkeypatch.setenv("HOME", str(user_home))
    monkeypatch.setenv("BUILD_ORCHESTRATOR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(socket.socket, "connect", _connect_to_loopback_only)
    monkeypatch.setattr(process_log, "_name", "mcp")  # whichever process the test before this one was
    if DATABASE == "sqlite":
        yield
        return
    prepared: Prepared = request.getfixturevalue("prepared")
    monkeypatch.setenv(URL, prepared.url())
    yield
    prepared.used()
    strays = list(tmp_path.glob("*/orchestrator.db"))
    assert not strays, f"{URL} did not reach whoever made {strays[0]}"


@pytest.fixture(scope="session")
def prepared(postgres: Server) -> Prepared:
    """Databases for tests that do not ask for one."""
    return Prepared(postgres)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """BUILD_ORCHESTRATOR_HOME of this test; made where a test wants it there already."""
    path = tmp_path / "home"
    path.mkdir(exist_ok=True)
    return path


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server, started when the first test of this process wants one."""
    with running(place=memory()) as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Server) -> Iterator[str]:
    """What BUILD_ORCHESTRATOR_DATABASE_URL is for a new, empty database."""
    with postgres.database() as name:
        yield postgres.url(name)


@pytest.fixture(scope="module")
def new_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewDatabase]:
    """`new_database()` is what a process of a whole file's fixture is given to use a new database; {} on SQLite."""
    if DATABASE == "sqlite":
        yield dict
        return
    server: Server = request.getfixturevalue("postgres")
    before = set(tmp_path_factory.getbasetemp().glob("*/*/orchestrator.db"))
    with ExitStack() as databases:
        yield lambda: {URL: server.url(databases.enter_context(server.database()))}
    strays = set(tmp_path_factory.getbasetemp().glob("*/*/orchestrator.db")) - before
    assert not strays, f"{URL} did not reach whoever made {strays}"


@pytest.fixture(params=["sqlite", "postgres"] if DATABASE == "sqlite" else ["postgres"])
def database_url(request: pytest.FixtureRequest, home: Path) -> str:
    """A new, empty database of each kind."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{home}/orchestrator.db"
