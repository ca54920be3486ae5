"""Projects of the simulated ESP-IDF, and a home whose worker ends with the test."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mcp_server.demo.place import lay_out
from mcp_server.engine.start import lock_holder
from tests.support.faults import processes_with, worker_pid
from tests.support.workers import end_everything

Lay = Callable[..., str]


@pytest.fixture(autouse=True)
def nothing_is_left(home: Path) -> Iterator[None]:
    """Whatever a test starts, its worker and its jobs are gone afterwards."""
    yield
    deadline = time.monotonic() + 5
    while lock_holder(home) == "starting" and time.monotonic() < deadline:
        time.sleep(0.01)  # it has the lock but has not said who it is yet, and nothing else tells when
    end_everything(home)
    assert worker_pid(home) is None
    assert processes_with(str(home / "jobs")) == []


@pytest.fixture
def lay(tmp_path: Path) -> Lay:
    """`lay()` gives a project that cannot be compiled, `lay(mended=True)` one that can."""

    def make(name: str = "project", *, mended: bool = False) -> str:
        folder = lay_out(tmp_path / name)
        if mended:
            source = folder / "main" / "thermostat.c"
            source.write_text(source.read_text().replace("valve_opne", "valve_open"))
        return str(folder)

    return make
