"""A real PostgreSQL server of the tests' own, and a new database for whoever wants one.

The server comes from the wheel `pgserver`, else from the system's packages. It is as fast as one can be that need not
survive a power cut, and listens on a Unix socket and on loopback, so that a test may stand in between.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from mcp_server.store.database import Store

SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "shared_buffers": "32MB",
    "unix_socket_permissions": "0777",
    "listen_addresses": "127.0.0.1",
    "log_min_messages": "fatal",
}
URL = "BUILD_ORCHESTRATOR_DATABASE_URL"
MEMORY = Path("/dev/shm")
ENOUGH_BYTES = 2 << 30  # four servers' databases, 8 MB each, with their logs, many times over
OTHER_USER = "nobody"  # the server refuses to run as root


def programs() -> Path | None:
    """The folder with initdb and postgres; None where this machine has none."""
    if (spec := importlib.util.find_spec("pgserver")) is not None and spec.origin:
        return Path(spec.origin).parent / "pginstall" / "bin"
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return found[-1] if found else None


@dataclass(frozen=True)
class Server:
    """A server that runs. `pid` is that of its first process."""

    folder: Path
    port: int
    pid: int

    def url(self, database: str, port: int | None = None) -> str:
        """What BUILD_ORCHESTRATOR_DATABASE_URL is for a database; over loopback where a port is given."""
        if port is not None:
            return f"postgresql+psycopg://postgres@127.0.0.1:{port}/{database}"
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}&port={self.port}"

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """A connection for the test itself."""
        return psycopg.connect(f"host={self.folder} port={self.port} user=postgres dbname={database}", autocommit=True)

    @contextmanager
    def database(self) -> Generator[str]:
        """The name of a new, empty database."""
        name = f"t{uuid4().hex[:12]}"
        with self.connect() as c:
            c.execute(f"CREATE DATABASE {name} LC_COLLATE 'C' TEMPLATE template0".encode())
        try:
            yield name
        finally:
            with self.connect() as c:
                c.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


def given_database() -> dict[str, str]:
    """What a process with an environment of its own has to be given to use this test's database; {} on SQLite."""
    return {URL: os.environ[URL]} if URL in os.environ else {}


class Prepared:
    """Databases that have the schema already, one for each test; the next test has the one that was not touched."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._ask("CREATE DATABASE prepared LC_COLLATE 'C' TEMPLATE template0")
        store = Store(server.url("prepared"), server.folder)
        store.migrate()
        store.engine.dispose()
        self._name: str | None = None

    def url(self) -> str:
        """What BUILD_ORCHESTRATOR_DATABASE_URL is for a database that nobody has used."""
        if self._name is None:
            self._name = f"p{uuid4().hex[:12]}"
            for _ in range(400):
                try:
                    self._ask(f"CREATE DATABASE {self._name} TEMPLATE prepared")
                except psycopg.errors.ObjectInUse:  # a connection of just before takes a while to end
                    time.sleep(0.01)
                else:
                    break
            with self._server.connect(self._name) as c:
                c.execute("UPDATE meta SET value = %s WHERE key = 'uuid'", (uuid4().hex[:8],))
            with self._server.connect() as c:
                while self._used(c) != (1, 0):  # a session is counted at its end
                    time.sleep(0.002)
        return self._server.url(self._name)

    def used(self) -> None:
        """A test is over: drop its database, unless nothing ever connected to it."""
        if self._name is None:
            return
        with self._server.connect() as c:
            if self._used(c) != (1, 0):
                c.execute(f"DROP DATABASE IF EXISTS {self._name} WITH (FORCE)".encode())
                self._name = None

    def _ask(self, text: str) -> None:
        with self._server.connect() as c:  # a new one each time: tests end all that there are
            c.execute(text.encode())

    def _used(self, c: psycopg.Connection) -> tuple[int, int]:
        """Sessions that were, and those that are."""
        counts = (
            "SELECT pg_stat_get_db_sessions(oid), (SELECT count(*) FROM pg_stat_activity WHERE datid = d.oid) "
            "FROM pg_database AS d WHERE datname = %s"
        )
        row = c.execute(counts, (self._name,)).fetchone()
        assert row is not None
        return int(row[0]), int(row[1])


def memory() -> Path | None:
    """A folder in memory, where there is room for servers: each new database is 300 files, 0.1 s of a disk's."""
    roomy = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ENOUGH_BYTES
    return MEMORY if roomy else None


@contextmanager
def running(settings: Mapping[str, str] = SETTINGS, place: Path | None = None) -> Generator[Server]:
    """A server, as long as the context lasts; without settings it writes to the disk as any does.

    Its data lie in `place`, else where temporary files do.
    """
    found = programs()
    if found is None:
        pytest.skip("no PostgreSQL here: neither the wheel pgserver nor a package")
    with _folders(place) as (top, data):
        if os.geteuid() == 0:  # whose files are root's cannot be read by it everywhere
            found = _copied(found, top / "program")
        make = [found / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, cwd=data, user=_other_user(), env=_environment())
        with _served(found, top, data, settings) as server:
            yield server


@contextmanager
def standby(of: Server, settings: Mapping[str, str] = SETTINGS, place: Path | None = None) -> Generator[Server]:
    """A server that follows another one, and can be promoted to be the one that takes writes."""
    found = Path(f"/proc/{of.pid}/exe").readlink().parent
    with _folders(place) as (top, data):
        copy = [found / "pg_basebackup", "-D", data, "-h", of.folder, "-p", str(of.port), "-U", "postgres"]
        more = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
        subprocess.run([*copy, *more], check=True, cwd=data, user=_other_user(), env=_environment())
        with _served(found, top, data, settings) as server:
            yield server


def _other_user() -> int | None:
    return pwd.getpwnam(OTHER_USER).pw_uid if os.geteuid() == 0 else None


def _environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}


@contextmanager
def _folders(place: Path | None) -> Generator[tuple[Path, Path]]:
    """One for the program and its log, one for its data."""
    top, data = (Path(tempfile.mkdtemp(prefix="bo-pg-", dir=where)) for where in (None, place))
    top.chmod(0o755)
    if os.geteuid() == 0:
        who = pwd.getpwnam(OTHER_USER)
        os.chown(data, who.pw_uid, who.pw_gid)
    try:
        yield top, data
    finally:
        for folder in (top, data):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _served(programs: Path, top: Path, data: Path, settings: Mapping[str, str]) -> Generator[Server]:
    port = _free_port()
    options = [f"-c{name}={value}" for name, value in settings.items()]
    # However the tests end, it ends with them.
    leash = ["setpriv", "--pdeathsig", "QUIT"] if shutil.which("setpriv") else []
    start = [*leash, programs / "postgres", "-D", data, "-k", data, "-p", str(port), *options]
    with (top / "log").open("wb") as log:
        server = subprocess.Popen(start, stdout=log, stderr=log, cwd=data, user=_other_user(), env=_environment())
    try:
        _wait(server, data, port, top / "log")
        yield Server(data, port, server.pid)
    finally:
        server.send_signal(signal.SIGQUIT)  # at once
        server.wait(20)


def _copied(programs: Path, into: Path) -> Path:
    """The programs at another place, with the libraries that a wheel has beside them."""
    if programs.parent.name != "pginstall":
        return programs
    package = programs.parents[1]
    shutil.copytree(package, into / "pgserver", symlinks=True)
    if (libraries := package.with_name("pgserver.libs")).is_dir():
        shutil.copytree(libraries, into / libraries.name)
    return into / "pgserver" / "pginstall" / "bin"


def _wait(server: subprocess.Popen[bytes], data: Path, port: int, log: Path) -> None:
    for _ in range(400):
        try:
            psycopg.connect(f"host={data} port={port} user=postgres dbname=postgres").close()
            return
        except psycopg.OperationalError:
            try:
                server.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            break
    raise AssertionError(f"PostgreSQL did not start: {log.read_text()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
