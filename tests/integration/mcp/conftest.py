"""Real servers over real pipes, in front of a real worker; a project that the demo's simulated ESP-IDF builds."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters

from mcp_server.demo.place import lay_out, simulated_installation
from mcp_server.engine.start import lock_holder
from tests.integration.mcp.wire import Wire
from tests.support.faults import processes_with
from tests.support.workers import end_everything

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
    """What a client gives its server."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ["HOME"],
        "BUILD_ORCHESTRATOR_HOME": str(home),
        "IDF_PATH": str(simulated_installation()),
    }


@pytest.fixture
def connect(environment: dict[str, str]) -> Connect:
    """Start a server and connect to it: `async with connect(mode="legacy") as client`."""

    @asynccontextmanager
    async def connected(mode: str = "auto", **more: str) -> AsyncGenerator[Client]:
        parameters = StdioServerParameters(command=COMMAND[0], args=COMMAND[1:], env={**environment, **more})
        async with Client(parameters, mode=mode) as client:
            yield client

    return connected


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
