"""What lies on another machine of those that share the store, asked for here: where it is, and what is had of it here.

A job on `local` ran on the machine of its worker. Asking the `local` of this machine for it would be wrong.

May import: errors, home, hosts, logs, model, record, references, store, whereabouts. Never: engine, a front.
"""

import asyncio
import dataclasses
import zlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, cast

from mcp_server import record, whereabouts
from mcp_server.config_rules import LOCAL
from mcp_server.errors import ArchiveError, Elsewhere, EnvironmentMissing, NotFound
from mcp_server.home import known_machine
from mcp_server.hosts.base import Host
from mcp_server.logs import LogSlice, Wish, slice_log
from mcp_server.model import Build, Stage
from mcp_server.store import workers
from mcp_server.views import BuildView

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

MOST_PACKED, MOST_BYTES = 32 << 20, 64 << 20  # of a log that is held to be looked through
PIECE = 1 << 18
BY_LINE = ("grep", "around", "line")


class _Kept:
    """The log of a job that is over, as a host gives one; the whole of it is here."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def read_log(self, _: str, offset: int, max_bytes: int = 65_536) -> bytes:
        start = max(0, len(self._content) + offset) if offset < 0 else offset
        return self._content[start : start + max_bytes]

    async def log_hole(self, _: str) -> tuple[int, int] | None:
        return None

    async def follow(self, _: str, offset: int = 0) -> AsyncIterator[bytes]:
        for start in range(offset, len(self._content), PIECE):
            yield self._content[start : start + PIECE]


async def machine_of(orchestrator: "Orchestrator", build: Build) -> str | None:
    """The other machine that has what a build left on its worker's own disk, by name; None: this one, or unknown."""
    store = await orchestrator.store()
    if not store.is_shared:
        return None
    rows = await store.read(workers.list_workers)
    machine = build.machine or next((row.machine for row in rows if row.id == build.worker), None)
    mine = await asyncio.to_thread(known_machine, orchestrator.config.home)
    return None if machine in (None, mine) else whereabouts.name_of(rows, machine or "")


async def host_of(orchestrator: "Orchestrator", view: BuildView, row: Stage) -> Host:
    """What gives the log of an attempt. Elsewhere: it is on another machine, and cannot be had from here."""
    other = await machine_of(orchestrator, view.build) if row.host == LOCAL and view.build.machine else None
    if other is None:
        return orchestrator.host(row.host)
    what = f"the log of stage {row.stage} is on machine {other}"
    if view.build.status.is_open:
        kept = orchestrator.config.artifacts.is_remote
        raise Elsewhere(
            f"{what}: `build-orchestrator logs {view.build.id} {row.stage}` there shows it as it grows, here "
            f"{'it' if kept else 'its end'} is to be had once build {view.build.id} is over"
        )
    try:
        packed = await orchestrator.kept.log(view.build.id, f"{row.stage}-{row.round}-{row.attempt}.log", MOST_PACKED)
    except NotFound:
        raise Elsewhere(f"{what}: read it there; {orchestrator.kept.hint}") from None
    unpacker = zlib.decompressobj(wbits=31)
    content = await asyncio.to_thread(unpacker.decompress, packed, MOST_BYTES)
    if unpacker.unconsumed_tail:
        raise Elsewhere(f"{what}: it is longer than {MOST_BYTES >> 20} MB, read it there")
    return cast("Host", _Kept(content))


async def slice_of(orchestrator: "Orchestrator", view: BuildView, row: Stage, wish: Wish) -> LogSlice:
    """A slice of an attempt's log. Where it is not to be had, its end as the build's record has it, if it has."""
    try:
        host, note = await host_of(orchestrator, view, row), ""
    except (Elsewhere, ArchiveError, EnvironmentMissing) as error:
        output, decided = view.build.build_output, record.deciding(view)
        by_line = any(wish.get(name) is not None for name in BY_LINE)
        if view.build.status.is_open or not output or decided != row or by_line:
            raise
        host, note = cast("Host", _Kept(output.encode())), f"{error}; this is what the build's record has of its end"
    piece = await slice_log(host, row.job_id or "", row.stage, **wish)
    return dataclasses.replace(piece, note="; ".join(part for part in (note, piece.note) if part)) if note else piece
