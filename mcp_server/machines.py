"""The hosts of a home as fronts see them: what each is, whether it answers, how busy it is, whether it is trusted.

May import: model, config, clock, errors, hosts, idf, check_up. Never: store, engine, a front.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcp_server.clock import Clock
from mcp_server.config import Config, Server
from mcp_server.errors import BadInput, HostError
from mcp_server.hosts.probe import HostFacts, probe
from mcp_server.hosts.registry import Hosts
from mcp_server.model import Lease

if TYPE_CHECKING:
    from mcp_server.hosts.trust import OfferedKey
    from mcp_server.idf.doctor import Check

LOOK_S = 20  # at one host, dialling three times included; the others do not wait for it
HELD_THERE = ("port", "monitor", "dir")  # what builds hold of a host besides its slots


@dataclass(frozen=True, slots=True)
class HostView:
    """A host: what config.yaml says, who holds its slots, and, where it was asked, its facts or why there are none.

    `boards`: who holds what else is there: serial ports, sessions at them, working folders.
    """

    name: str
    server: Server
    slots: int
    held: Sequence[Lease] = ()
    facts: HostFacts | None = None
    trouble: str = ""
    boards: Sequence[Lease] = ()


class Machines:
    """The hosts of one front process; connections are made when first needed and kept."""

    def __init__(self, config: Config, environment: Mapping[str, str], clock: Clock) -> None:
        self.hosts = Hosts(config, environment)
        self._clock, self._environment = clock, environment

    def slots(self, reference: str) -> Mapping[str, int]:
        """The hosts that a name, alias or tag means, and how many stages may run on each; none where it is unknown."""
        try:
            return {name: self.hosts.slots(name) for name in self.hosts.resolve(reference)}
        except BadInput:
            return {}

    async def look(self, reference: str | None, held: Sequence[Lease], *, check: bool) -> Sequence[HostView]:
        """The hosts that a name, alias or tag means, or all; each asked at once with the others where `check`."""
        names = self.hosts.names() if reference is None else self.hosts.resolve(reference)
        return await asyncio.gather(*(self._look(name, held, check) for name in names))

    async def boards(self, name: str, port: str | None) -> "Sequence[Check]":
        """The serial ports of a host; with `port` that one and the board behind it, which is reset."""
        from mcp_server import check_up  # noqa: PLC0415 - asked for seldom, and slow to load

        idf_path = self.hosts.server(name).idf_path or ""
        return await check_up.examine_boards(self.hosts.get(name), port, idf_path=idf_path)

    async def _look(self, name: str, held: Sequence[Lease], check: bool) -> HostView:
        server = self.hosts.server(name)
        mine = [lease for lease in held if lease.resource == f"host:{name}"]
        there = [lease for lease in held if lease.resource.startswith(tuple(f"{kind}:{name}:" for kind in HELD_THERE))]
        facts, trouble = None, ""
        if check:
            try:
                facts = await self._clock.within(LOOK_S, probe(self.hosts.get(name), server.workdir))
            except HostError as error:
                trouble = str(error).removeprefix(f"host {name}: ")
            except TimeoutError:
                trouble = f"no answer within {LOOK_S} s"
        return HostView(name, server, self.hosts.slots(name), mine, facts, trouble, there)

    async def offered_key(self, name: str) -> "OfferedKey":
        """The key that an SSH host shows, and whether it is known. BadInput: unknown, or not reached over SSH."""
        from mcp_server.hosts import trust  # noqa: PLC0415 - brings the SSH library along

        return await trust.offered_key(name, self.hosts.server(self.hosts.resolve(name)[0]), self._environment)

    async def trust(self, key: "OfferedKey") -> None:
        """Make an unknown key known. HostError where another one is known for that host."""
        from mcp_server.hosts import trust  # noqa: PLC0415

        await asyncio.to_thread(trust.trust, key)

    async def aclose(self) -> None:
        """Let the connections go; jobs run on."""
        await self.hosts.aclose()
