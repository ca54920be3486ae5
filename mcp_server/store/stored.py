"""Notes beside an archive on what of it is in the object store, and on what keeps the rest from coming there.

<archive>/stored/<build>      the address of the store that has it
<archive>/stored/<build>.why  why this one cannot be brought as it is
<archive>/stored/.trouble     the last failure, until what waits was brought
"""

import json
from collections.abc import Container, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mcp_server.store.archive import MANIFEST

STORED, TROUBLE = "stored", ".trouble"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why what waits is not in the store, since when, and when it is tried again at the latest."""

    why: str
    since: datetime
    again_at: datetime


class Notes:
    """Of the archive below `root`. Reads and writes files, so call it in a thread."""

    def __init__(self, root: Path) -> None:
        self._root, self._folder = root, root / STORED

    def waiting(self, store: str) -> Sequence[int]:
        """Archived builds that are not in `store`, by number."""
        found = [path.parent.name for path in (self._root / "builds").glob(f"*/{MANIFEST}")]
        return sorted(int(name) for name in found if name.isdecimal() and self.where(int(name)) != store)

    def where(self, build: int) -> str | None:
        """The store that has this build; None: none is known to have it."""
        return self._read(str(build))

    def is_here(self, build: int) -> bool:
        """Whether it is archived on this machine."""
        return (self._root / "builds" / str(build) / MANIFEST).exists()

    def brought(self, build: int, store: str) -> None:
        """It is there now."""
        self._write(str(build), store)
        (self._folder / f"{build}.why").unlink(missing_ok=True)

    def unfit(self, build: int, why: str) -> None:
        """It cannot be brought as it is."""
        self._write(f"{build}.why", why[:500])

    def why_unfit(self, build: int) -> str | None:
        """Why; None: it can, as far as is known."""
        return self._read(f"{build}.why")

    def forget(self, there: Container[int]) -> None:
        """What is noted on builds that are neither here any more nor among those which are in the store."""
        for note in self._folder.glob("[0-9]*"):
            number = note.name.partition(".")[0]
            if not (number.isdecimal() and int(number) in there) and not (self._root / "builds" / number).exists():
                note.unlink(missing_ok=True)

    def trouble(self) -> Trouble | None:
        """What keeps builds from the store; None: nothing that is known."""
        try:
            told = json.loads(self._read(TROUBLE) or "null")
            return told and Trouble(told["why"], *(datetime.fromisoformat(told[at]) for at in ("since", "again_at")))
        except (ValueError, KeyError, TypeError):
            return None

    def failed(self, why: str, now: datetime, again_at: datetime) -> None:
        """It could not be brought, once more."""
        before = self.trouble()
        since = (before.since if before else now).isoformat()
        self._write(TROUBLE, json.dumps({"why": why[:500], "since": since, "again_at": again_at.isoformat()}))

    def worked(self) -> None:
        """Nothing waits any more."""
        (self._folder / TROUBLE).unlink(missing_ok=True)

    def _read(self, name: str) -> str | None:
        try:
            return (self._folder / name).read_text("utf-8").strip()
        except FileNotFoundError:
            return None

    def _write(self, name: str, text: str) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside = self._folder / f".{name}.new"
        aside.write_text(f"{text}\n", "utf-8")
        aside.replace(self._folder / name)
