"""Boards, emulators and serial sessions, as every front asks for them.

May import: model, config, errors, device_plans, product_lookup, serial_sessions, references, hosts, idf, store.
Never: engine, a front.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server import device_plans, product_lookup
from mcp_server.config_rules import LOCAL
from mcp_server.device_plans import Firmware, Watching
from mcp_server.errors import BadInput, Conflict
from mcp_server.hosts.ports import find_port
from mcp_server.idf.patterns import compile_patterns
from mcp_server.idf.project import DEFAULT_TARGET
from mcp_server.model import Plan
from mcp_server.orders import NEVER_FLASH, Order
from mcp_server.serial_sessions import Reading, Sessions

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator
    from mcp_server.views import Started

WATCHED_S = 10.0
EMULATED_S = 30.0


class Devices:
    """What is done with boards and emulators, over the builds that the orchestrator starts."""

    def __init__(self, orchestrator: "Orchestrator") -> None:
        self._orchestrator = orchestrator
        self._sessions = Sessions(orchestrator)

    async def flash(
        self,
        project: str,
        *,
        build: int | str | None = None,
        port: str | None = None,
        host: str = "local",
        erase: bool = False,
        expect: Sequence[str] = (),
        fail_on: Sequence[str] = (),
        seconds: float = WATCHED_S,
        triggered_by: str = "manual",
        agreed: bool = False,
    ) -> "Started":
        """Write what a build left to a board, then watch it boot for so long.

        BadInput: no such port, an unusable pattern. NotFound, Conflict: nothing was built, or it has changed since.
        NotAgreed: nobody was asked.
        """
        order = await self.order_flash(
            project, build=build, port=port, host=host, erase=erase, expect=expect, fail_on=fail_on, seconds=seconds
        )
        return await self.start(order, triggered_by, agreed=agreed)

    async def order_flash(
        self,
        project: str,
        *,
        build: int | str | None = None,
        port: str | None = None,
        host: str = "local",
        erase: bool = False,
        expect: Sequence[str] = (),
        fail_on: Sequence[str] = (),
        seconds: float = WATCHED_S,
    ) -> Order:
        """What `flash` would start, once a person said yes to it."""
        orchestrator = self._orchestrator
        await orchestrator.refresh()
        if orchestrator.config.security.allow_flash == "never":
            raise Conflict(NEVER_FLASH)
        watching = watched(expect, fail_on, seconds)
        firmware = await self._firmware(project, build)
        _for_a_board(firmware)
        name = orchestrator.machines.hosts.resolve(host)[0]
        found = await find_port(orchestrator.host(name), port)
        plan = device_plans.flash_and_watch(firmware, watching, host=name, port=found.stable or found.path, erase=erase)
        return _order(firmware, plan, "idf_flash")

    async def emulate(
        self,
        project: str,
        *,
        build: int | str | None = None,
        expect: Sequence[str] = (),
        fail_on: Sequence[str] = (),
        seconds: float = EMULATED_S,
        triggered_by: str = "manual",
    ) -> "Started":
        """Run what a build left in the emulator of its chip, until what it prints decides. As `flash`."""
        watching = watched(expect, fail_on, seconds)
        firmware = await self._firmware(project, build)
        plan = Plan(stages=(device_plans.emulate(firmware, watching),))
        return await self.start(_order(firmware, plan, "qemu_run"), triggered_by)

    async def order_run(
        self,
        project: str,
        *,
        target: str | None = None,
        clean: bool = False,
        host: str = "local",
        qemu: bool = False,
        flash: bool = False,
        port: str | None = None,
        expect: Sequence[str] = (),
        fail_on: Sequence[str] = (),
    ) -> Order:
        """Build on a host, then run in the emulator and flash the board of this machine, both at once.

        BadInput, Conflict, EnvironmentMissing as `start_build` and `flash`.
        """
        orchestrator = self._orchestrator
        order = await orchestrator.order_build(project, target=target, clean=clean, host=host)
        made = order.plan.stages[0]
        params = made.params
        firmware = Firmware(
            order.folder, params["build_dir"], order.target or DEFAULT_TARGET, installation=params.get("installation")
        )
        stages, after = [made], (made.name,)
        if qemu:
            stages.append(device_plans.emulate(firmware, watched(expect, fail_on, EMULATED_S), after=after))
        if flash:
            watching = watched(expect, fail_on, WATCHED_S)
            _for_a_board(firmware)
            found = await find_port(orchestrator.host(LOCAL), port)
            where = found.stable or found.path
            board = device_plans.flash_and_watch(firmware, watching, host=LOCAL, port=where, erase=False, after=after)
            stages += board.stages
        return _order(firmware, Plan(stages=tuple(stages)), "run")

    async def start(self, order: Order, triggered_by: str = "manual", *, agreed: bool = False) -> "Started":
        """Start what was ordered here. NotAgreed, Conflict: a board would be overwritten, and nobody was asked."""
        return await self._orchestrator.start(order, triggered_by, agreed=agreed)

    async def _firmware(self, project: str, build: int | str | None) -> Firmware:
        orchestrator = self._orchestrator
        made = await product_lookup.built(await orchestrator.store(), project, build)
        return Firmware(
            made.project,
            made.build_dir,
            made.target or "linux",
            build=made.build,
            images=made.images,
            installation=dict(made.installation) if made.installation else None,
            changed=made.changed,
        )

    # -- sessions ----------------------------------------------------------------------------------------------------

    async def open_session(
        self, port: str | None, host: str = "local", *, baud: int | None = None, triggered_by: str = "manual"
    ) -> "Started":
        """A serial session, or the open one on that port. Without `baud`: as it was last heard, else 115200."""
        return await self._sessions.open(port, host, baud=baud, triggered_by=triggered_by)

    async def read(self, session: int | str, *, wait_for: str | None, timeout_s: float, max_bytes: int) -> Reading:
        """What is new in a session."""
        return await self._sessions.read(session, wait_for=wait_for, timeout_s=timeout_s, max_bytes=max_bytes)

    async def send(self, session: int | str, data: str, *, reset: bool = False) -> str:
        """Speak to a session's board."""
        return await self._sessions.send(session, data, reset=reset)

    async def close_session(self, session: int | str) -> str:
        """End a session."""
        return await self._sessions.close(session)


def _order(firmware: Firmware, plan: Plan, name: str) -> Order:
    return Order(firmware.project, plan, name, Path(firmware.project).name, firmware.target)


def _for_a_board(firmware: Firmware) -> None:
    if firmware.target == "linux":
        which = f"build {firmware.build} is" if firmware.build else "it is"
        raise BadInput("project", f"{which} for the linux target, which runs on no board: qemu_run runs it")


def watched(expect: Sequence[str], fail_on: Sequence[str], seconds: float) -> Watching:
    compile_patterns("expect", list(expect))
    compile_patterns("fail_on", list(fail_on))
    return Watching(tuple(expect), tuple(fail_on), seconds)
