"""Boards, emulators and serial sessions, as every front asks for them.

May import: model, config, errors, device_plans, product_lookup, serial_sessions, references, hosts, idf, store.
Never: engine, a front.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mcp_server import device_plans, product_lookup
from mcp_server.config_rules import LOCAL
from mcp_server.device_plans import BAUD, Firmware, Watching
from mcp_server.errors import BadInput, Conflict
from mcp_server.hosts.ports import find_port
from mcp_server.idf.patterns import compile_patterns
from mcp_server.idf.project import DEFAULT_TARGET
from mcp_server.model import Plan
from mcp_server.orders import NEVER_FLASH
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
    ) -> "Started":
        """Write what a build left to a board, then watch it boot for so long. The front has asked for a yes.

        BadInput: no such port, an unusable pattern. NotFound, Conflict: nothing was built, or it has changed since.
        """
        orchestrator = self._orchestrator
        self._allowed("")
        watching = _watching(expect, fail_on, seconds)
        firmware = await self._firmware(project, build)
        self._allowed(firmware.target)
        name = orchestrator.machines.hosts.resolve(host)[0]
        found = await find_port(orchestrator.host(name), port)
        plan = device_plans.flash_and_watch(firmware, watching, host=name, port=found.stable or found.path, erase=erase)
        return await self._start(firmware, plan, "idf_flash", triggered_by)

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
        watching = _watching(expect, fail_on, seconds)
        firmware = await self._firmware(project, build)
        plan = Plan(stages=(device_plans.emulate(firmware, watching),))
        return await self._start(firmware, plan, "qemu_run", triggered_by)

    async def build_and_run(
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
        triggered_by: str = "manual",
    ) -> "Started":
        """Build on a host, then run in the emulator and flash the board of this machine, both at once.

        The front has asked for a yes to flash. BadInput, Conflict, EnvironmentMissing as `start_build` and `flash`.
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
            stages.append(device_plans.emulate(firmware, _watching(expect, fail_on, EMULATED_S), after=after))
        if flash:
            watching = _watching(expect, fail_on, WATCHED_S)
            self._allowed(firmware.target)
            found = await find_port(orchestrator.host(LOCAL), port)
            where = found.stable or found.path
            board = device_plans.flash_and_watch(firmware, watching, host=LOCAL, port=where, erase=False, after=after)
            stages += board.stages
        return await self._start(firmware, Plan(stages=tuple(stages)), "run", triggered_by)

    def _allowed(self, target: str) -> None:
        """Conflict, BadInput: this machine flashes no board, or not with such firmware."""
        if self._orchestrator.config.security.allow_flash == "never":
            raise Conflict(NEVER_FLASH)
        if target == "linux":
            raise BadInput("project", "its target is linux, which runs on no board: qemu_run runs it")

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
        )

    async def _start(self, firmware: Firmware, plan: Plan, name: str, triggered_by: str) -> "Started":
        return await self._orchestrator.start_plan(
            firmware.project, plan, name=name, target=firmware.target, triggered_by=triggered_by
        )

    # -- sessions ----------------------------------------------------------------------------------------------------

    async def open_session(
        self, port: str | None, host: str = "local", *, baud: int = BAUD, triggered_by: str = "manual"
    ) -> "Started":
        """A serial session, or the open one on that port."""
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


def _watching(expect: Sequence[str], fail_on: Sequence[str], seconds: float) -> Watching:
    compile_patterns("expect", list(expect))
    compile_patterns("fail_on", list(fail_on))
    return Watching(tuple(expect), tuple(fail_on), seconds)
