"""The other workers of a team: earlier ones of this machine, a copy of it, and those whose config.yaml differs."""

import logging
from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from mcp_server import config_prints
from mcp_server.clock import Clock
from mcp_server.engine.services import Services
from mcp_server.store import workers
from mcp_server.store.database import Store
from mcp_server.store.workers import There, Twin, WorkerRow

log = logging.getLogger(__name__)

MOST_BEAT_S = 5.0  # the longest time between two beats of a worker, however late it counts as lost
SIGN_S = MOST_BEAT_S + 1


async def bury(store: Store, clock: Clock, machine: str, home: str, lock: str) -> Sequence[int]:
    """Drop the rows of earlier workers of this machine; what the engine calls them. `lock` is the one that is ours.

    Who had the same lock is dead. Of another one (the machine was started anew, the data folder brought elsewhere, or
    copied) only silence tells that, for longer than between two beats. Twin: it gave a sign.
    """

    def dead(c: sa.Connection) -> tuple[list[WorkerRow], list[WorkerRow]]:
        rows = workers.of_machine(c, machine)
        unsure = [row for row in rows if row.alive and row.lock != lock]
        return _left(c, [row for row in rows if row not in unsure]), unsure

    def silent(c: sa.Connection) -> list[WorkerRow]:
        rows = workers.of_machine(c, machine)
        for row in rows:
            if row.alive and seen.get(row.id) != row.seen_at:
                raise Twin(row, home)
        return _left(c, rows)

    gone, unsure = await store.write(dead)
    if unsure:
        seen = {row.id: row.seen_at for row in unsure}
        left = max((row.until - row.seen_at).total_seconds() for row in unsure)
        await clock.sleep(min(left, SIGN_S))
        gone += await store.write(silent)
    return [row.number for row in gone if row.number is not None]


def _left(c: sa.Connection, rows: list[WorkerRow]) -> list[WorkerRow]:
    for row in rows:
        workers.leave(c, row.id)
    return rows


class Configs:
    """Whether all workers have the same config.yaml, as far as they must: what this one tells, what the leader says."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._of, self._prints = services.config, config_prints.prints(services.config)
        self._said: Mapping[str, Sequence[str]] = {}

    def mine(self) -> Mapping[str, str]:
        """The prints of this worker's, as it is now."""
        if self._of is not self._services.config:
            self._of, self._prints = self._services.config, config_prints.prints(self._services.config)
        return self._prints

    def compare(self, rows: Sequence[There]) -> None:
        """Say in the log, once, which workers' differs from this one's."""
        found = {row.id: config_prints.differing(self.mine(), row.config) for row in rows}
        for row in rows:
            if found[row.id] and found[row.id] != self._said.get(row.id):
                sections = ", ".join(found[row.id])
                log.warning("config.yaml of worker %s differs from this machine's in %s", row.name, sections)
        self._said = found
