"""What a front does to have its rows worked on: wake the worker of this home, or start one. Imports no engine."""

import contextlib
import fcntl
import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

from mcp_server import __version__, places
from mcp_server.engine.signals import WAKE, write_signal
from mcp_server.errors import StoreError, WorkerFailed
from mcp_server.home import machine_id
from mcp_server.model import Plan
from mcp_server.store.callbacks import next_time
from mcp_server.store.database import Store
from mcp_server.store.tables import SCHEMA_VERSION
from mcp_server.store.workers import one_is_missed

LOCK = "worker.lock"
ON_DEMAND = " on demand"  # what the lock's text ends with where a front started the worker
SHARED = " shared"  # before that, where the worker serves a database that machines share
LEAVE = "leave"  # asked of such a one through `wake` by one that was started as a service
BOOT = Path("/proc/sys/kernel/random/boot_id")
LOG_BYTES = 4_000_000  # the worker's own log is cut to half of this when a worker starts
HANDOVER_S = 10  # an older worker leaves within milliseconds; a stopped one never does

POKES, POKE_PAUSE_S = 4, 0.01
"""The lock is held and nobody reads: its holder starts or leaves (and looks itself), or only asked who holds it."""

EARLY_S, MOST_FAILURES = 30, 3
"""A worker that ends in error so soon was never able to serve; after so many it is not tried again at once."""

_started: list[tuple[subprocess.Popen[bytes], float]] = []
_failures: list[int] = []


def poke(home: Path, store: Store) -> None:
    """Wake this home's worker, or start one, after bringing a schema of one's own up to date. Blocks for milliseconds.

    The lock is taken here and handed down, not released in between: with a gap, every front that looks into it would
    start a worker of its own. Where machines share the store one is started only if it is missed here.
    """
    _look_after_children(home)
    for _ in range(POKES):
        with _lock(home) as lock:
            if lock is not None:
                if not store.is_shared:
                    store.migrate()
                if not store.is_shared or store.look(lambda c: one_is_missed(c, str(home), machine_id(home))):
                    _start_worker(home, lock, shared=store.is_shared)
                return
        if write_signal(home / WAKE, f"{__version__}\n".encode()):
            return
        time.sleep(POKE_PAUSE_S)


def place_for(plan: Plan, store: Store, home: Path, resolve: places.Resolve) -> str | None:
    """Where a plan can be done, of the machines that share the store; None: anywhere, or there is only this one."""
    return places.place_of(plan, home, machine_id(home), resolve) if store.is_shared else None


def make_ready(home: Path, store: Store) -> None:
    """Return once the schema is this version's. A worker of an older version is asked to leave first. Blocks.

    Whoever is to be called back still is: a worker is woken or started for that. A store that cannot be used is let go.
    StoreError, before anything is made: this home's worker serves another database.
    """
    try:
        if not store.is_shared and SHARED in (lock_holder(home) or ""):
            raise StoreError(
                f"the worker of {home} serves a shared database: set BUILD_ORCHESTRATOR_DATABASE_URL (or …_URL_FILE) "
                "as it has it, or BUILD_ORCHESTRATOR_HOME to another folder"
            )
        _bring_up_to_date(home, store)
        if store.look(next_time) is not None:
            poke(home, store)
    except BaseException:
        store.engine.dispose()
        raise


def _bring_up_to_date(home: Path, store: Store) -> None:
    if store.is_shared:
        # Older workers leave once it is changed, so a worker changes it: a command alone would leave nobody behind.
        found = store.schema_version()
        if found == 0:
            store.migrate()
        elif found < SCHEMA_VERSION:
            raise StoreError(
                f"the shared database is of an older build-orchestrator (schema {found}, this one makes "
                f"{SCHEMA_VERSION}): update its workers first, `build-orchestrator worker` brings it up to date"
            )
        return
    deadline = time.monotonic() + HANDOVER_S
    while store.schema_version() < SCHEMA_VERSION:
        with _lock(home) as lock:
            if lock is not None:
                store.migrate()
                return
        write_signal(home / WAKE, f"{__version__}\n".encode())
        if time.monotonic() > deadline:
            raise StoreError(f"an older worker ({lock_holder(home)}) keeps {home} busy: end it and try again")
        time.sleep(0.02)  # a lock that another process lets go of gives no other sign


@contextlib.contextmanager
def _lock(home: Path) -> Generator[int | None]:
    """A descriptor that holds the worker lock, None where another process does."""
    lock = os.open(home / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield lock
    finally:
        os.close(lock)


def lock_text(pid: int, *, shared: bool, on_demand: bool) -> bytes:
    """What the holder of the lock says of itself."""
    return f"pid {pid} version {__version__}{SHARED * shared}{ON_DEMAND * on_demand}\n".encode()


def lock_holder(home: Path) -> str | None:
    """`pid 12 version 1.0` of the worker that holds the lock, then SHARED and ON_DEMAND; None where none does."""
    with contextlib.suppress(OSError):
        lock = os.open(home / LOCK, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return os.read(lock, 100).decode("ascii", "replace").strip() or "starting"
        finally:
            os.close(lock)
    return None


def lock_id(home: Path) -> str:
    """Tells this home's lock from that of any other home, copies on other machines included; "" where there is none.

    Containers of one machine that have a volume one after the other have the same, whatever they are called.
    """
    try:
        boot = BOOT.read_text("ascii").strip()
    except OSError:  # macOS
        boot = socket.gethostname()
    try:
        found = (home / LOCK).stat()
    except FileNotFoundError:
        return ""
    return f"{boot}:{found.st_dev}:{found.st_ino}"


def newer(version: str, than: str) -> bool:
    """Whether one dotted version is above another; what is no number counts as 0."""

    def key(text: str) -> list[int]:
        return [int(part) if part.isdigit() else 0 for part in text.split(".")]

    return key(version) > key(than)


def _look_after_children(home: Path) -> None:
    """Reap workers of ours that are over; WorkerFailed where one after the other ended in error at once."""
    for child, began in list(_started):
        if (code := child.poll()) is None:
            continue
        _started.remove((child, began))
        early = code > 0 and time.monotonic() - began < EARLY_S  # a signal is somebody's wish, not a fault
        _failures[:] = [*_failures, code] if early else []
    if len(_failures) >= MOST_FAILURES:
        _failures.clear()
        log = home / "logs" / "worker.log"
        lines = log.read_text("utf-8", "replace").strip().splitlines() if log.exists() else []
        raise WorkerFailed(f"the worker ends as soon as it starts: {lines[-1][:300] if lines else '?'}; see {log}")


def _start_worker(home: Path, lock: int, *, shared: bool) -> None:
    logs = home / "logs"
    logs.mkdir(mode=0o700, exist_ok=True)
    path = logs / "worker.log"
    if path.exists() and path.stat().st_size > LOG_BYTES:
        path.write_bytes(path.read_bytes()[-LOG_BYTES // 2 :])
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        # -P and cwd: a project's own folder named mcp_server must not be imported in place of ours
        argv = [sys.executable, "-P", "-m", "mcp_server", "worker", "--lock-fd", str(lock)]
        environment = {**os.environ, "BUILD_ORCHESTRATOR_HOME": str(home)}
        null = subprocess.DEVNULL
        child = subprocess.Popen(
            argv, stdin=null, stdout=log, stderr=log, start_new_session=True, pass_fds=[lock], cwd="/", env=environment
        )
        _started.append((child, time.monotonic()))
        # Known from now on; the worker itself writes the same once it has loaded.
        os.ftruncate(lock, 0)
        os.pwrite(lock, lock_text(child.pid, shared=shared, on_demand=True), 0)
    finally:
        os.close(log)
