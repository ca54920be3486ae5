"""`idf.monitor`: a session on a serial port. It ends when it is closed, left alone for long enough, or cancelled."""

import asyncio

from mcp_server.config_rules import LOCAL
from mcp_server.engine.stages.base import Observer, Prepared, StageContext, result_of
from mcp_server.errors import BadInput, Conflict
from mcp_server.hosts.base import Exit, ExitReason
from mcp_server.hosts.ports import SerialPort, find_port, lock_folder, refuse_stranger
from mcp_server.idf import monitor
from mcp_server.idf.environment import job_environment
from mcp_server.model import Progress, Verdict

AFTER_FLASH_S = 3  # a board with USB of its own is away for a moment after a reset
LOOK_S = 0.3


class SessionLog:
    """Counts what the board says, and keeps its last line."""

    def __init__(self) -> None:
        self.board = monitor.BoardBytes()
        self._tail = b""

    def feed(self, data: bytes) -> None:
        self._tail = (self._tail + self.board.feed(data))[-monitor.LONGEST_LINE :]

    @property
    def progress(self) -> Progress | None:
        message = self.last_line or (self.board.remarks[-1] if self.board.remarks else "")
        return Progress(done=self.board.lines, message=message) if message else None

    @property
    def last_line(self) -> str:
        """What the board said last, at most 200 letters."""
        lines = [line.strip() for line in self._tail.decode("utf-8", "replace").split("\n")]
        return next((line for line in reversed(lines) if line), "")[:200]

    @property
    def decided(self) -> bool:
        return False


class IdfMonitor:
    """Params: `port` (None: the only one), `baud`, `reset`, `idle_s` (0: it never closes by itself).

    `resolved` has `port`, `key` (its name for `idf.monitor`), `baud`, `baud_said`: it was not for want of another.
    """

    live = True

    async def ready(self, context: StageContext) -> None:
        pass

    async def prepare(self, context: StageContext) -> Prepared:
        params, host = context.params, context.host
        port = await port_of(context)
        refuse_stranger(port, await context.host.directory())
        await refuse_if_watched(context, port)
        await context.hold(f"monitor:{host.name}:{port.key}", f"the monitor of {port.path}")
        session = monitor.Session(
            port=port.stable or port.path,
            folder=lock_folder(await host.directory(), port.key),
            baud=monitor.checked_baud(params.get("baud") or monitor.BAUD),
            reset=bool(params.get("reset")),
            idle_s=_seconds("idle_s", params.get("idle_s", monitor.IDLE_S)),
        )
        return job_of(context, port, session, baud_said=bool(params.get("baud")))

    def observe(self, context: StageContext) -> Observer:
        return SessionLog()

    async def finish(self, context: StageContext, end: Exit, observer: Observer) -> Verdict:
        assert isinstance(observer, SessionLog)
        board, resolved = observer.board, context.stage.resolved or {}
        details = {"port": resolved.get("port"), "lines": board.lines, "remarks": list(board.remarks)}
        verdict = result_of(end)
        if end.reason is ExitReason.EXIT:
            last = board.remarks[-1] if board.remarks else ""
            summary = f"{board.lines} lines of {resolved.get('port')}; {last or 'closed'}"
            verdict = verdict.model_copy(update={"summary": summary if end.code == 0 else why_ended(end, board)})
        return verdict.model_copy(update={"details": details})


async def port_of(context: StageContext) -> SerialPort:
    """The port that is meant. After another stage it may be away for a moment: BadInput only then."""
    tries = round(AFTER_FLASH_S / LOOK_S) if context.spec.depends_on else 0
    for _ in range(tries):
        try:
            return await find_port(context.host, context.params.get("port"))
        except BadInput:
            await asyncio.sleep(LOOK_S)
    return await find_port(context.host, context.params.get("port"))


async def refuse_if_watched(context: StageContext, port: SerialPort) -> None:
    """Conflict, with its holder, where another session has the port; it is not waited for."""
    owner = await monitor.owner(context.host, port.key)
    if owner is None or owner.purpose != "monitor":
        return
    build = _build_of(owner.job, context.store_id)
    if build == context.build.id:  # an earlier attempt of this very stage, about to end
        return
    whose = f"the session of build {build}" if build is not None else f"another one's monitor (process {owner.pid})"
    lent = f", and lent to {owner.lent} for now" if owner.lent else ""
    next_step = f"read on there, or build_cancel({build})" if build is not None else "close that one first"
    raise Conflict(f"port {port.path} is held by {whose}{lent}: {next_step}")


def job_of(context: StageContext, port: SerialPort, session: monitor.Session, *, baud_said: bool) -> Prepared:
    """The job of a monitor. It locks the port by itself, so that it can lend it."""
    far = context.host.name != LOCAL
    environment = dict(context.server.env)
    if not far:
        environment = job_environment({}, context.environment, context.config.env_pass) | environment
    return Prepared(
        argv=monitor.monitor_argv(session, far=far, idf_path=context.server.idf_path),
        cwd="/",
        env=environment,
        login=far,
        resolved={
            "port": port.path,
            "key": port.key,
            "baud": session.baud,
            "baud_said": baud_said,
            "described": port.described,
        },
        note=f"{port.described}, {session.baud} baud",
    )


def why_ended(end: Exit, board: monitor.BoardBytes) -> str:
    """One sentence on a monitor that could not do its work: its own last words are the best ones."""
    return board.remarks[-1] if board.remarks else monitor.sentence(end.code)


def _build_of(job: str, store_id: str) -> int | None:
    """The number of the build that a job of this home belongs to."""
    store, _, rest = job.partition("-")
    number = rest.partition("-")[0]
    return int(number) if store == store_id and number.isdigit() else None


def _seconds(argument: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 604_800:
        raise BadInput(argument, f"{str(value)[:40]!r} should be a number of seconds, 0 for no end, 604800 at most")
    return float(value)
