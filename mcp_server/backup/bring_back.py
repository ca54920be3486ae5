"""`restore`: a backup's store into this home's database. All is checked first; then all of it happens, or nothing."""

import asyncio
import contextlib
import fcntl
import os
import secrets as randomness
import shutil
import sqlite3
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from mcp_server.backup import bundle, rows
from mcp_server.backup.settle import above, rebind, renamed, settle
from mcp_server.backup.take import take_now
from mcp_server.clock import Clock
from mcp_server.config import Config
from mcp_server.engine.start import LOCK, lock_holder
from mcp_server.errors import BadInput, Conflict, StoreError
from mcp_server.home import machine_id
from mcp_server.places import MACHINE
from mcp_server.store import identity
from mcp_server.store.database import Store
from mcp_server.store.tables import SCHEMA_VERSION

BUSY_MS = 2000


@dataclass(slots=True)
class Restored:
    """What was done. `aside`: where what was here before lies now; `ended`: open builds that are over by it."""

    taken_at: datetime
    tables: dict[str, int]
    ended: int = 0
    resumed: bool = False
    config: str = ""
    results: int | None = None
    secrets: int | None = None
    aside: list[str] = field(default_factory=list[str])
    tokens: int = 0


async def restore(config: Config, clock: Clock, path: Path, *, force: bool = False, resume: bool = False) -> Restored:
    """Bring a backup in. Nothing is overwritten: what was here is put aside, and that only with `force`.

    Without `resume` it is a copy: what was open is over, nobody is told of anything, and the store has a new uuid, so
    that it takes no job for its own that the other store has begun since. With it the store goes on as the one it was:
    only where the other is gone for good.

    BadInput: no whole backup, or a newer version's. Conflict: there are builds here, a worker runs, the database is in
    use. StoreError: the database cannot be written.
    """
    return await asyncio.to_thread(_Restore(config, clock, path, force, resume).run)


@dataclass(slots=True)
class _Restore:
    config: Config
    clock: Clock
    path: Path
    force: bool
    resume: bool
    stamp: str = ""

    def run(self) -> Restored:
        found = bundle.checked(self.path.expanduser().absolute())
        schema = int(found.facts["schema"])
        if schema > SCHEMA_VERSION:
            raise BadInput(
                "FILE",
                f"it was made by version {found.facts['version']} (schema {schema}, this one knows {SCHEMA_VERSION}): "
                "install that version, or a newer one",
            )
        self.config.make_home()
        self.stamp = f"before-restore-{self.clock.now():%Y%m%d-%H%M%S}-{randomness.token_hex(2)}"
        with _no_worker(self.config.home):
            if self.config.database_url.startswith("sqlite"):
                return self._into_file(found)
            return self._into_database(found)

    # -- the database ------------------------------------------------------------------------------------------------

    def _into_file(self, found: bundle.Bundle) -> Restored:
        """Into a new file beside the database, which then takes its name."""
        place = Path(Store(self.config.database_url, self.config.home).engine.url.database or "")
        given: Mapping[str, int] = self._given(place) if place.exists() else dict[str, int]()
        if place.exists():
            _close_others(place)
        aside = place.with_name(f".restoring-{randomness.token_hex(4)}.db")
        try:
            store = Store(f"sqlite:///{aside}", self.config.home)
            try:
                store.migrate()
                done = self._load(store, found, given)
            finally:
                store.engine.dispose()
            _settle_file(aside)
            with self._beside(found, done):
                done.aside += _put_aside(place, self.stamp)
                _replace(aside, place)
        finally:
            for end in ("", "-wal", "-shm"):
                Path(f"{aside}{end}").unlink(missing_ok=True)
        return done

    def _given(self, place: Path) -> Mapping[str, int]:
        """The greatest numbers of what is here. Conflict: there are builds, and nobody said `force`."""
        store = Store(self.config.database_url, self.config.home)
        try:
            self._refuse(store.look(rows.count_builds), str(place))
            return store.look(rows.highest_numbers)
        except StoreError as error:  # damaged: that may be why somebody restores
            if self.force:
                return {}
            raise Conflict(f"{error}; `--force` puts it aside and restores") from None
        finally:
            store.engine.dispose()

    def _refuse(self, count: int, place: str) -> None:
        if count and not self.force:
            what = "1 build" if count == 1 else f"{count} builds"
            raise Conflict(f"{place} has {what} already: `--force` puts it aside and restores")

    def _into_database(self, found: bundle.Bundle) -> Restored:
        """Into a database's own tables, in one transaction."""
        store = Store(self.config.database_url, self.config.home)
        try:
            given: Mapping[str, int] = {}
            kept: list[str] = []
            if store.schema_version():
                if store.look(rows.working):
                    raise Conflict("workers serve the database: end them all first with TERM, their jobs run on")
                count, given = store.look(rows.count_builds), store.look(rows.highest_numbers)
                self._refuse(count, "the database")
                store.migrate()  # what is put aside is as this version has it
                if count:
                    before = self.config.home / f"{self.stamp}.tar.gz"
                    take_now(self.config, store, self.clock, before, False, False)
                    kept.append(str(before))
            else:
                store.migrate()
            done = Restored(_time(found), {})
            with self._beside(found, done):
                loaded = self._load(store, found, given)
            done.tables, done.ended, done.resumed, done.tokens = (
                loaded.tables,
                loaded.ended,
                loaded.resumed,
                loaded.tokens,
            )
            done.aside += kept
            return done
        finally:
            store.engine.dispose()

    def _load(self, store: Store, found: bundle.Bundle, given: Mapping[str, int]) -> Restored:
        facts, now = found.facts, self.clock.now()
        done = Restored(_time(found), dict(facts["tables"]), resumed=self.resume)
        done.tokens = done.tables.get("tokens", 0)
        homes = {facts["artifacts_dir"]: str(self.config.artifacts_dir), facts["home"]: str(self.config.home)}
        highest = {name: max(int(facts["highest"].get(name, 0)), given.get(name, 0)) for name in facts["highest"]}

        def change(table: str, row: dict[str, Any]) -> dict[str, Any]:
            column = {"builds": "artifacts_path", "projects": "path"}.get(table)
            if column is not None and (path := row[column]) is not None:
                row[column] = _moved(path, homes)
            if table == "builds":
                row["worker"] = None  # it is another one's turn
            return row

        def statements(c: rows.sa.Connection) -> None:
            if c.dialect.name == "postgresql":
                rows.empty(c)
            rows.read_tables(c, found.tables(), change)
            rows.set_highest(c, above(highest))
            meta = facts["meta"] if self.resume else renamed(facts["meta"])
            identity.put_meta(c, {**meta, "schema": str(SCHEMA_VERSION)})
            if self.resume and (facts["database"] == "sqlite") is store.is_shared:
                machine = machine_id(self.config.home) if store.is_shared else None
                rebind(c, machine and f"{MACHINE}{machine}", machine)
            if not self.resume:
                done.ended = settle(c, done.taken_at, now)

        asyncio.run(store.write(statements))
        return done

    # -- what lies beside it -----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _beside(self, found: bundle.Bundle, done: Restored) -> Generator[None]:
        """Files of the backup, written beside their places before the block; moved there once it has ended well."""
        home, moves = self.config.home, list[tuple[Path, Path]]()
        work = home / f".restoring-{randomness.token_hex(4)}"
        results = self.config.artifacts_dir.with_name(f".restoring-{randomness.token_hex(4)}")
        try:
            work.mkdir(mode=0o700)
            self._unpack(found, done, work, results, moves)
            yield
            for source, target in moves:
                if target.exists():
                    target.rename(old := target.with_name(f"{target.name}.{self.stamp}"))
                    done.aside.append(str(old))
                source.rename(target)
            if not self.resume:  # what was brought to a bucket was brought under another name
                shutil.rmtree(self.config.artifacts_dir / "stored", ignore_errors=True)
        except OSError as error:
            raise StoreError(f"not restored: {error.filename or home}: {error.strerror}; nothing is lost") from None
        finally:
            shutil.rmtree(work, ignore_errors=True)
            shutil.rmtree(results, ignore_errors=True)

    def _unpack(
        self, found: bundle.Bundle, done: Restored, work: Path, results: Path, moves: list[tuple[Path, Path]]
    ) -> None:
        there = self.config.file.read_bytes() if self.config.file.exists() else None
        if (text := found.content("config.yaml")) is not None and text != there:
            if there is None or self.force:
                moves.append((_written(work / "config.yaml", text), self.config.file))
                done.config = str(self.config.file)
            else:
                other = self.config.file.with_name(f"config.yaml.{self.stamp.replace('before-restore', 'of-backup')}")
                moves.append((_written(work / "config.yaml", text), other))
                done.config = str(other)
        if "secrets" in found.facts["with"]:
            done.secrets = found.extract("secrets/", work / "secrets")
            self._take_place(work / "secrets", self.config.secrets_dir, moves)
        if "artifacts" in found.facts["with"]:
            done.results = found.extract("artifacts/", results)
            self._take_place(results, self.config.artifacts_dir, moves)

    def _take_place(self, source: Path, target: Path, moves: list[tuple[Path, Path]]) -> None:
        source.mkdir(mode=0o700, exist_ok=True)
        if target.is_dir() and any(target.iterdir()):
            if not self.force:
                raise Conflict(f"{target} has files already: `--force` puts them aside and restores")
        elif target.is_dir():
            target.rmdir()
        moves.append((source, target))


@contextlib.contextmanager
def _no_worker(home: Path) -> Generator[None]:
    """While nobody works on this home, and nobody can begin to. Conflict: somebody does."""
    lock = os.open(home / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = lock_holder(home) or "another process"
            raise Conflict(f"a worker ({holder}) runs {home}: end it first with TERM, its jobs run on") from None
        yield
    finally:
        os.close(lock)


def _close_others(place: Path) -> None:
    """Have the database in one file, without a log of its own beside it. Conflict: somebody has it open."""
    connection = sqlite3.connect(place, isolation_level=None, timeout=BUSY_MS / 1000)
    try:
        connection.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "busy" in str(error):
            raise Conflict(
                f"{place} is in use: end `build-orchestrator serve` and clients with the plugin first"
            ) from None
    except sqlite3.DatabaseError:  # damaged: put aside as it is
        return
    finally:
        connection.close()


def _settle_file(path: Path) -> None:
    """All of it in one file, and on the disk. StoreError: it is not what it should be."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=DELETE")
        [[found]] = connection.execute("PRAGMA quick_check(1)").fetchall()
        broken = connection.execute("PRAGMA foreign_key_check").fetchone()
    finally:
        connection.close()
    if found != "ok" or broken:
        raise StoreError(f"the backup's rows make no sound database: {found if found != 'ok' else broken}")
    path.chmod(0o600)


def _put_aside(place: Path, stamp: str) -> list[str]:
    """Give the database that is here another name as well; its own is taken over in one step, by the new one.

    So at no time is there none: a process that looked then would make an empty one.
    """
    kept: list[str] = []
    for end in ("-wal", "-shm", ""):
        if not (source := Path(f"{place}{end}")).exists():
            continue
        target = Path(f"{place}.{stamp}{end}")
        if end or not _linked(source, target):  # only a damaged one still has files beside it
            source.rename(target)
        kept.append(str(target))
    return kept


def _linked(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        return False
    return True


def _replace(source: Path, target: Path) -> None:
    source.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _written(path: Path, content: bytes) -> Path:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    return path


def _moved(path: str, homes: Mapping[str, str]) -> str:
    """A path below one of these folders, in the one that stands for it here."""
    for old, new in homes.items():
        if path == old or path.startswith(f"{old}/"):
            return new + path[len(old) :]
    return path


def _time(found: bundle.Bundle) -> datetime:
    return datetime.fromisoformat(found.facts["taken_at"])
