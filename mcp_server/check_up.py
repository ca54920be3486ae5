"""What `doctor` looks at: ESP-IDF and this machine, serial ports and boards, then who would be told of a build.

May import: model, config, clock, errors, hosts, idf, notify, secret_store. Never: store, engine, a front.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from mcp_server.clock import SystemClock
from mcp_server.config import Config
from mcp_server.config_rules import LOCAL
from mcp_server.errors import BadInput, HostError, OrchestratorError
from mcp_server.hosts.base import ExitReason, Host, JobSpec
from mcp_server.hosts.ports import Look, SerialPort, find_port, lock_folder, look_at_ports, permission
from mcp_server.hosts.registry import Hosts
from mcp_server.idf import doctor
from mcp_server.idf.activation import Runner
from mcp_server.idf.board import BoardError, read_board
from mcp_server.idf.doctor import SERIAL_PORTS, Check, Status
from mcp_server.idf.environment import choose_installation, find_installations
from mcp_server.idf.flash_tool import FIND, find_esptool
from mcp_server.idf.installation import Installation
from mcp_server.notify.channels import Channels
from mcp_server.secret_store import Secrets

MOST_PORTS = 8
LOG_BYTES = 65_536
LINK_S = 15  # more than a run itself may take: to start its job, and to hear of its end


async def examine(
    config: Config,
    environment: Mapping[str, str],
    project: Path | None,
    port: str | None,
    host: Host | None = None,
    *,
    named: bool = True,
    installation: Installation | None = None,
) -> Sequence[Check]:
    """Every check; a channel that cannot deliver is named, one that can is not worth a line. `host` is this machine.

    With `port` the board there is asked what it is, which resets it. Not `named`: `project` may be any folder.
    `installation` is the one that builds, where that is known; else the one that `environment` leads to.
    """
    extra = [Path(config.local.idf_path)] if config.local.idf_path else []
    async with _this_machine(config, environment, host) as here:
        boards = examine_boards(here, port, lambda: _esptool_here(environment, extra))
        checks, boards = await asyncio.gather(
            doctor.examine(config, environment, project, named=named, installation=installation), boards
        )
    checks += boards
    if not config.notifications:
        return checks
    channels = Channels(config.notifications, Secrets(config, environment), SystemClock())
    problems = await asyncio.to_thread(channels.problems)
    return [*checks, *(Check(name="notifications", status="warn", found=problem) for problem in problems)]


def _esptool_here(environment: Mapping[str, str], extra: Sequence[Path]) -> Sequence[str]:
    """The esptool that a flash from here would run. EnvironmentMissing: there is none that is new enough. Blocks."""
    try:
        installation = choose_installation(find_installations(environment, extra), environment.get("ESP_IDF_VERSION"))
    except OrchestratorError:
        installation = None
    return find_esptool(installation, environment)


async def examine_boards(
    host: Host, port: str | None, esptool: Callable[[], Sequence[str]] | None = None, *, idf_path: str = ""
) -> Sequence[Check]:
    """The serial ports of any host, one check each; with `port` that one and the board behind it, which is reset.

    `esptool` finds the beginning of its command line, in a thread; without it the host itself looks for one,
    in its `idf_path` too. fail: the named port, or all of another host, is not to be had.
    """
    try:
        if port is None:
            look = await look_at_ports(host)
            checks = [_of_port(one, look) for one in look.ports[:MOST_PORTS]]
            if len(look.ports) > MOST_PORTS:
                checks.append(_check(SERIAL_PORTS, "ok", f"and {len(look.ports) - MOST_PORTS} more"))
            return checks or [_check(SERIAL_PORTS, "ok", "none connected: no build needs one")]
        found = await find_port(host, port)
        return [_of_port(found, Look()), await _of_board(host, found, esptool, idf_path)]
    except BadInput as error:
        return [_of_refusal(port or SERIAL_PORTS, str(error).removeprefix(f"{error.argument}: "))]
    except HostError as error:
        if host.name != LOCAL:  # nothing of it can be told
            return [_check(f"host {host.name}", "fail", str(error).removeprefix(f"host {host.name}: "))]
        return [_check(port or SERIAL_PORTS, "fail" if port else "warn", f"could not be looked at: {error}")]


@asynccontextmanager
async def _this_machine(config: Config, environment: Mapping[str, str], host: Host | None) -> AsyncGenerator[Host]:
    if host is not None:
        yield host
        return
    hosts = Hosts(config, environment)
    try:
        yield hosts.get("local")
    finally:
        await hosts.aclose()


def _check(name: str, status: Status, found: str, mend: str | None = None) -> Check:
    return Check(name=name, status=status, found=found, mend=mend, about="board")


# -- ports -------------------------------------------------------------------------------------------------------------


def _of_port(port: SerialPort, look: Look) -> Check:
    serial = f"serial {port.serial}" if port.serial else ""
    found = ", ".join(word for word in (port.text or "unknown device", serial, port.driver) if word)
    if not port.accessible:
        found += f"; user {look.user or '?'} may not open it (group {port.group or '?'})"
        return _check(port.path, "warn", found, permission(look, port))
    if not port.holders:
        return _check(port.path, "ok", found)
    strangers = [holder for holder in port.holders if holder.job is None]
    found += f"; open in {_holders(port)}"
    if not strangers:
        return _check(port.path, "ok", found)
    return _check(port.path, "warn", found, f"end it before a flash: kill {strangers[0].pid}")


def _holders(port: SerialPort) -> str:
    """`pid 71 (python -m esp_idf_monitor …)`, `job 0123abcd-7-monitor-1-1`."""
    told = [f"job {one.job}" if one.job else f"pid {one.pid} ({one.command[:60]})" for one in port.holders]
    return ", ".join(dict.fromkeys(told[:3]))


def _of_refusal(name: str, sentence: str) -> Check:
    """Why the port that was named cannot be used, with the next step."""
    sentence = sentence.removeprefix(f"{name} ")
    if "may not open" in sentence:
        found, _, mend = sentence.partition("): ")
        return _check(name, "fail", f"{found})", mend)
    absent, others = "is not there" in sentence, not sentence.endswith("connected: none")
    return _check(name, "fail", sentence, "plug it in" + ", or name one of those" * others if absent else None)


# -- the board behind one ----------------------------------------------------------------------------------------------


async def _of_board(host: Host, port: SerialPort, esptool: Callable[[], Sequence[str]] | None, idf_path: str) -> Check:
    name = f"board on {port.path}"
    if port.holders:
        found = f"not asked, as {_holders(port)} has the port open"
        return _check(name, "warn", found, "end that, then ask again")
    try:
        argv = await asyncio.to_thread(esptool) if esptool else ["sh", "-c", FIND, "sh", idf_path]
        lock = lock_folder(await host.directory(), port.key)
        board = await read_board(argv, port.path, {}, runner=_as_job(host, lock))
    except BoardError as error:
        status: Status = "fail" if error.trouble.name in ("no_port", "unreachable") else "warn"
        return _check(name, status, error.trouble.sentence, error.trouble.mend)
    except HostError:
        raise  # it is the host that is to be told
    except OrchestratorError as error:
        found, _, mend = str(error).partition(": ")
        return _check(name, "warn", found, mend or None)
    if board.guarded:
        return _check(name, "warn", board.text, board.guarded)
    return _check(name, "ok", board.text)


def _as_job(host: Host, lock: str) -> Runner:
    """Runs esptool as a job that holds the port's lock, on whichever host, so that no flash begins meanwhile."""

    async def run(argv: Sequence[str], env: Mapping[str, str], timeout_s: float) -> tuple[int, str, str]:
        job_id = f"{secrets.token_hex(4)}-doctor-board-1-1"
        job = JobSpec(job_id, argv, "/", env, timeout_s=timeout_s, lock=lock, login=True)
        try:
            async with asyncio.timeout(timeout_s + LINK_S):
                await host.start(job)
                end = await host.wait(job.id)
                log = (await host.read_log(job.id, 0, LOG_BYTES)).decode("utf-8", "replace")
        finally:
            await _remove(host, job)
        if end.reason is ExitReason.TIMEOUT:
            raise TimeoutError
        return end.code if end.code is not None else 1, log, log

    return run


async def _remove(host: Host, job: JobSpec) -> None:
    try:
        async with asyncio.timeout(LINK_S):
            await host.kill(job.id, grace_s=0)
            await host.remove(job.id)
    except (OrchestratorError, TimeoutError):
        return  # it ends by its own limit, and is cleaned away with the other old jobs
