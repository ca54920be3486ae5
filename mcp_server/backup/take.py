"""`backup`: a copy of the store as of one moment, with what lies beside it, while builds go on."""

import asyncio
import os
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mcp_server import __version__
from mcp_server.backup import bundle, rows
from mcp_server.clock import Clock
from mcp_server.config import Config
from mcp_server.errors import BadInput
from mcp_server.store.database import Store
from mcp_server.store.tables import SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class Taken:
    """What the file holds. `results` and `secrets` count files; None: they were not asked for."""

    path: Path
    size: int
    tables: dict[str, int]
    config: bool
    results: int | None
    secrets: int | None


async def take(
    config: Config, store: Store, clock: Clock, path: Path, *, artifacts: bool = False, secrets: bool = False
) -> Taken:
    """Write the backup, 0600. Nobody waits for it. Conflict: the file is there; BadInput: it cannot be written."""
    return await asyncio.to_thread(take_now, config, store, clock, path, artifacts, secrets)


def take_now(config: Config, store: Store, clock: Clock, path: Path, artifacts: bool, secrets: bool) -> Taken:
    """As `take`, for code without an event loop."""
    path = path.expanduser().absolute()
    if not path.parent.is_dir():
        raise BadInput("FILE", f"the folder {path.parent} is not there")
    results = secret_files = None
    began = clock.now()
    with bundle.writing(path) as made, tempfile.TemporaryDirectory(prefix=".backup-", dir=path.parent) as folder:
        snapshot = store.look(lambda c: rows.write_tables(c, Path(folder)))
        for name in snapshot.tables:
            made.add(f"store/{name}.jsonl", Path(folder, f"{name}.jsonl"))
        has_config = made.add("config.yaml", config.file)
        if secrets:
            secret_files = sum(made.add(f"secrets/{one.name}", one) for one in _secrets(config.secrets_dir))
        if artifacts:
            root = config.artifacts_dir
            results = sum(made.add(f"artifacts/{name}", root / name) for name in _results(root))
        made.finish(
            {
                "version": __version__,
                "schema": SCHEMA_VERSION,
                "taken_at": began.isoformat(),
                "machine": platform.node(),
                "database": store.engine.dialect.name,
                "home": str(config.home),
                "artifacts_dir": str(config.artifacts_dir),
                "meta": snapshot.meta,
                "tables": snapshot.tables,
                "highest": snapshot.highest,
                "with": [name for name, there in (("artifacts", artifacts), ("secrets", secrets)) if there],
            }
        )
    return Taken(path, path.stat().st_size, snapshot.tables, has_config, results, secret_files)


def _secrets(folder: Path) -> list[Path]:
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if path.is_file() and not path.is_symlink() and not path.name.startswith("."))


def _results(root: Path) -> Iterator[str]:
    """Paths below the archive; what is on its way there, or on its way out, is none of it."""
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith((".gone.", ".new.", ".staging")))
        for name in sorted(names):
            if not name.startswith((".new.", ".gone.")):
                yield Path(parent, name).relative_to(root).as_posix()
