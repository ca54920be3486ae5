"""What is on another machine of a team, and is not to be had from this one: logs of jobs that ran there itself.

May import: config_rules, errors, home, hosts, model, store. Never: engine, a front.
"""

import asyncio
from typing import TYPE_CHECKING

from mcp_server.config_rules import LOCAL
from mcp_server.errors import Conflict
from mcp_server.home import machine_id
from mcp_server.hosts.base import Host
from mcp_server.model import Build, Stage
from mcp_server.store import workers

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator


async def host_with_log(orchestrator: "Orchestrator", build: Build, row: Stage) -> Host:
    """The host whose job has written a stage's log. Conflict: it is another machine's own, and says which one's."""
    store = await orchestrator.store()
    if row.host == LOCAL and build.machine and store.is_shared:
        here = await asyncio.to_thread(machine_id, orchestrator.config.home)
        if build.machine != here:
            known = {one.machine: one for one in await store.read(workers.list_workers)}
            there = known.get(build.machine)
            name = f"{there.name} ({there.home} there)" if there else f"whose home's file `machine` has {build.machine}"
            raise Conflict(f"the log of {row.stage} is on another machine, {name}: that is where build {build.id} ran")
    return orchestrator.host(row.host)
