"""What an agent's client writes into a project for itself: taken back, as no edit of the task asked for it."""

import contextlib
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

MAX_BYTES = 1_000_000  # a larger file is nobody's settings, and stays as it is


class OwnFiles:
    """The client's own files, by `names`, in a task's folder and in those above it up to the work tree's root.

    Kept when this is made. A file that an allowed edit named is the task's, and whatever is in it then stays.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder = Path(os.path.realpath(folder))
        places = [place / name for place in _up_to_the_root(self._folder) for name in names]
        self._before = {place: _content(place) for place in places if _plain_way(place)}
        self._edited: set[Path] = set()

    def edited(self, paths: Iterable[str]) -> None:
        """An edit of these was allowed."""
        real = {Path(os.path.realpath(self._folder / path)) for path in paths}
        self._edited |= real & self._before.keys()

    def put_back(self) -> str | None:
        """Make each as it was; the sentence that says of which, None where all were."""
        changed = [
            os.path.relpath(place, self._folder)
            for place, before in self._before.items()
            if place not in self._edited and _plain_way(place) and _put_back(place, before)
        ]
        return (
            f"{', '.join(changed)}: put back, as the agent's client changed it and no allowed edit did"
            if changed
            else None
        )


def _up_to_the_root(folder: Path) -> list[Path]:
    """A folder and those above it in its work tree; itself alone where it is in none."""
    above = [folder, *folder.parents]
    root = next((number for number, place in enumerate(above) if os.path.lexists(place / ".git")), 0)
    return above[: root + 1]


def _plain_way(place: Path) -> bool:
    """Whether the file's folder is what it seems, and the file none of those that are never written."""
    return os.path.realpath(place.parent) == str(place.parent) and not place.is_symlink()


def _content(place: Path) -> tuple[bytes, int] | None:
    """A regular file's bytes and mode; None: there is none, or nothing to be put back."""
    with contextlib.suppress(OSError):
        status = place.lstat()
        if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_BYTES:
            return place.read_bytes(), stat.S_IMODE(status.st_mode)
    return None


def _put_back(place: Path, before: tuple[bytes, int] | None) -> bool:
    """Whether it had to be; what is no small file now, is left for whoever looks at the changes."""
    now = _content(place)
    if now is None or now == before:
        return False
    with contextlib.suppress(OSError):
        if before is None:
            place.unlink()
        else:
            place.write_bytes(before[0])
            place.chmod(before[1])
        return True
    return False
