"""Servers in front of a real worker, each a process or inside this one; a project that a simulated ESP-IDF builds.

A server costs 1.5 s of a processor to start, its worker another 0.7 s. `connect` and `worker_inside` do without both:
for what a tool does and says. `spawn` and `serve` start processes, for what a pipe, a signal or an end changes.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from mcp import Client, StdioServerParameters

from mcp_server.demo.place import lay_out, simulated_installation
from mcp_server.engine.start import lock_holder
from mcp_server.server import make_server
from tests.integration.mcp.wire import Wire
from tests.support.faults import processes_with
from tests.support.postgres import given_database
from tests.support.workers import end_everything, worker_inside

Serve = Callable[..., Wire]
Connect = Callable[..., AbstractAsyncContextManager[Client]]

COMMAND = [sys.executable, "-m", "mcp_server", "mcp"]


@pytest.fixture(autouse=True)
def nothing_left(home: Path) -> Iterator[None]:
    """No worker is left, also none that was just being started, and no job.

    Killed, not asked: a worker that leaves while a build is open starts its successor.
    """
    yield
    deadline = time.monotonic() + 10
    while lock_holder(home) is not None:
        for pid in processes_with(f"BUILD_ORCHESTRATOR_HOME={home}"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert time.monotonic() < deadline, f"the worker of {home} does not leave"
        time.sleep(0.02)  # the lock's last holder gives no sign when it is gone
    end_everything(home)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A fresh copy of the demo's firmware, its planted mistake included."""
    return lay_out(tmp_path / "greenhouse")


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    return environment_of(home)


def environment_of(home: Path) -> dict[str, str]:
    """What a client gives its server."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ["HOME"],
        "BUILD_ORCHESTRATOR_HOME": str(home),
        "IDF_PATH": str(simulated_installation()),
        **given_database(),
    }


@pytest.fixture
def spawn(environment: dict[str, str]) -> Connect:
    """Start a server and connect to it: `async with spawn(mode="legacy") as client`."""

    @asynccontextmanager
    async def connected(mode: str = "auto", **more: str) -> AsyncGenerator[Client]:
        parameters = StdioServerParameters(command=COMMAND[0], args=COMMAND[1:], env={**environment, **more})
        async with Client(parameters, mode=mode) as client:
            yield client

    return connected


@pytest_asyncio.fixture
async def connect(environment: dict[str, str], home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Connect]:
    """As `spawn`, the server and the worker being tasks of this process, and its environment theirs."""

    @asynccontextmanager
    async def connected(mode: str = "auto", **more: str) -> AsyncGenerator[Client]:
        for name, value in {**environment, **more}.items():
            monkeypatch.setenv(name, value)
        async with Client(make_server(), mode=mode) as client:
            yield client

    async with worker_inside(home):
        yield connected


@pytest.fixture
def serve(environment: dict[str, str]) -> Iterator[Serve]:
    """Start a server and speak to it by hand; killed after the test where the test has not ended it."""
    wires: list[Wire] = []

    def served(command: list[str] = COMMAND, **more: str) -> Wire:
        wires.append(Wire(command, {**environment, **more}))
        return wires[-1]

    yield served
    for wire in wires:
        wire.kill()


def mend(project: Path) -> None:
    """Correct the planted mistake."""
    source = project / "main" / "thermostat.c"
    source.write_text(source.read_text().replace("valve_opne", "valve_open"))
