"""Which worker does or could do an open build, in words: who is there, who is away and since when.

May import: config_prints, places, store, text. Never: engine, orchestrator, a front.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from math import ceil

from mcp_server import config_prints, places
from mcp_server.store.workers import WorkerRow
from mcp_server.text import one_line

START = "start `build-orchestrator worker`"


def why_idle(
    rows: Sequence[WorkerRow],
    *,
    place: str | None,
    machine: str | None,
    worker: str | None,
    running: bool,
    cancelled: bool = False,
) -> str:
    """Why nobody works on an open build of a shared store, or could; "" where somebody does, or will at his turn."""
    there = {where for row in rows if row.alive for where in (None, *places.places_of_worker(row.home, row.machine))}
    needed = f"{places.MACHINE}{machine}" if machine and place else place
    if needed not in there:
        if needed is None:
            return f"no worker is running: {START}"
        return _of_place(rows, needed, cancelled=cancelled)
    if not running or worker is None:
        return ""
    mine = next((row for row in rows if row.id == worker), None)
    if mine is None:
        return "its worker has left; another takes it over"
    if mine.alive:
        return ""
    within = max(ceil((mine.until - mine.seen_at).total_seconds()), 1)
    return f"its worker {_called(mine)} is {away(mine)}; another takes it over within {within} s"


def away(row: WorkerRow) -> str:
    """`not heard of since 2026-01-02 03:04:05 UTC`."""
    return f"not heard of since {stamp(row.seen_at)}"


def name_of(rows: Sequence[WorkerRow], machine: str) -> str:
    """What a machine's worker is called; its id where none was seen lately."""
    known = [row for row in rows if row.machine == machine]
    return _called(max(known, key=lambda row: row.seen_at)) if known else machine


def differences(rows: Sequence[WorkerRow], config: Mapping[str, str] | None = None) -> Mapping[str, Sequence[str]]:
    """In which sections the config.yaml of each worker that is there differs from the leader's, by the worker's id.

    With `config`, the prints of another one, it is under "" compared as well.
    """
    leader = next((row for row in rows if row.leads), None)
    if leader is None:
        return {}
    told = {"": config, **{row.id: row.config for row in rows if row.alive}}
    found = {one: config_prints.differing(leader.config, theirs) for one, theirs in told.items()}
    return {one: sections for one, sections in found.items() if sections}


def team(rows: Sequence[WorkerRow]) -> str:
    """All workers in a sentence: `3 workers, a leads; b is not heard of since …; their versions differ: …`."""
    there = [row for row in rows if row.alive]
    said = [f"{len(there)} worker{'' if len(there) == 1 else 's'}" if there else f"no worker is running: {START}"]
    if leader := next((_called(row) for row in there if row.leads), None):
        said[0] += f", {leader} leads"
    elif there:
        said[0] += ", none leads yet"
    said += [f"{_called(row)} is {away(row)}" for row in rows if not row.alive][:3]
    versions = sorted({row.version for row in there})
    if len(versions) > 1:
        said.append(f"their versions differ: {', '.join(versions)}")
    other = differences(rows)
    said += [
        f"config.yaml of {_called(row)} differs from the leader's in {', '.join(other[row.id])}"
        for row in there
        if row.id in other
    ][:3]
    return "; ".join(said)


def stamp(at: datetime) -> str:
    """A time to the second."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _called(row: WorkerRow) -> str:
    return one_line(row.name, 60)


def _of_place(rows: Sequence[WorkerRow], needed: str, *, cancelled: bool) -> str:
    kind, _, what = needed.partition(":")
    known = [row for row in rows if (row.machine if f"{kind}:" == places.MACHINE else row.home) == what]
    last = max(known, key=lambda row: row.seen_at, default=None)
    if f"{kind}:" == places.HOME:
        return f"waits for a worker whose home is {what}" + (
            f"; {_called(last)} is {away(last)}" if last else f": {START}"
        )
    name = _called(last) if last else what
    since = f", {away(last)}" if last else f": no worker is running there, {START} there"
    if cancelled:
        return f"its jobs are ended when machine {name} is back{since}; cancel --force does not wait for it"
    return f"waits for machine {name}{since}"
