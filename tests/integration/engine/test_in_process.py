"""The worker inside this process: its time is moved, and a call that blocks its event loop is an error."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest_asyncio
from blockbuster import blockbuster_ctx

from mcp_server.clock import SystemClock
from mcp_server.config import load_config
from mcp_server.demo.place import lay_out
from mcp_server.engine.worker import IDLE_S, Worker, take_lock
from mcp_server.model import BuildStatus
from mcp_server.orchestrator import Orchestrator
from mcp_server.store.database import Store
from tests.support.moved_clock import MovedClock


@pytest_asyncio.fixture
async def store(home: Path) -> AsyncIterator[Store]:
    config = load_config()
    config.make_home()
    store = Store(config.database_url, home)
    store.migrate()
    yield store
    await store.aclose()


async def test_a_worker_with_nothing_to_do_leaves_after_a_while(store: Store) -> None:
    """Design: fifteen minutes. Until then it costs a look a second."""
    clock = MovedClock()
    serving = asyncio.create_task(Worker(load_config(), store, clock).serve())
    with anyio.fail_after(20):
        while not serving.done() and clock.monotonic() < IDLE_S - 1:
            clock.advance(0.5)
            await asyncio.sleep(0)
        stayed = not serving.done()
        while not serving.done():
            clock.advance(1)
            await asyncio.sleep(0)

    assert stayed
    await serving


async def test_nothing_blocks_the_workers_event_loop_during_a_build(store: Store, home: Path, tmp_path: Path) -> None:
    """Design: never block. Reading, hashing and committing are done in threads."""
    lock = take_lock(home, None)
    assert lock is not None  # no other worker is started by the orchestrator
    firmware = lay_out(tmp_path / "firmware")
    orchestrator = Orchestrator(load_config())
    serving = asyncio.create_task(Worker(load_config(), store, SystemClock()).serve())
    with anyio.fail_after(40), blockbuster_ctx("mcp_server") as blocked:
        # One unlink of a FIFO, in the clean-up of a wait that may be being cancelled: no await may stand there.
        blocked.functions["os.unlink"].can_block_in("engine/signals.py", "watch")
        started = await orchestrator.start_build(str(firmware))
        view = await orchestrator.wait(started.build.id, 30)
    serving.cancel()
    await asyncio.wait({serving})
    await orchestrator.aclose()

    assert view.build.status is BuildStatus.FAILED
    assert view.build.reason == "exit"
