"""Copies files into a workspace: bounded, and never by or through a link that leads out of where they come from."""

import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from mcp_server.errors import BadInput

MAX_BYTES = 2 << 30
MAX_FILES = 200_000


def copy_inputs(project: Path, folder: Path, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Copy what builds need and Git does not know; the names that were copied, and a sentence for each left out.

    What is in `folder` already stays: the snapshot brought it.
    """
    copied: list[str] = []
    left_out: list[str] = []
    for name in names:
        source, target = project / name, folder / name
        if not os.path.lexists(source) or os.path.lexists(target):
            continue
        if source.parent.resolve() != source.parent or target.parent.resolve() != target.parent:
            left_out.append(f"{name}: a link lies on the way to it")
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        left_out += [f"{name}/{one}".removesuffix("/.") for one in copy_tree(source, target, skip=())]
        if os.path.lexists(target):
            copied.append(name)
    return copied, left_out


def copy_tree(source: Path, target: Path, skip: Sequence[str]) -> list[str]:
    """Copy a file or folder; a sentence for each thing left out: links that lead out, sockets, what cannot be read.

    `skip` are names at the top; `.git` is skipped everywhere. BadInput: over 2 GB or 200,000 files.
    """
    left_out: list[str] = []
    total = count = 0
    inside = source if source.is_dir() and not source.is_symlink() else source.parent
    for entry, status in _walk(source, skip):
        relative = entry.relative_to(source)
        place = target / relative
        try:
            if stat.S_ISDIR(status.st_mode):
                place.mkdir(exist_ok=True)
                continue
            total, count = total + status.st_size, count + 1
            if total > MAX_BYTES or count > MAX_FILES:
                raise BadInput("project", f"{source} has over {MAX_BYTES >> 30} GB or {MAX_FILES:,} files to copy")
            if stat.S_ISLNK(status.st_mode):
                if not leads_inside(entry, inside):
                    left_out.append(f"{relative}: a link that leads out")
                else:
                    place.symlink_to(entry.readlink())
            elif stat.S_ISREG(status.st_mode):
                shutil.copy2(entry, place, follow_symlinks=False)
            else:
                left_out.append(f"{relative}: no regular file")
        except OSError as error:
            left_out.append(f"{relative}: {error.strerror}")
    return left_out


def leads_inside(link: Path, folder: Path) -> bool:
    """Whether a relative link leads to something below `folder`, both as it is written and as the disk has it."""
    text = str(link.readlink())
    if text.startswith("/"):
        return False
    written = Path(os.path.normpath(link.parent / text))
    real = Path(os.path.realpath(link))
    return written.is_relative_to(folder) and real.is_relative_to(os.path.realpath(folder))


def _walk(source: Path, skip: Sequence[str]) -> Iterator[tuple[Path, os.stat_result]]:
    """`source` and all below it, folders before what is in them."""
    waiting = [source]
    while waiting:
        entry = waiting.pop()
        try:
            status = entry.lstat()
        except OSError:
            continue
        yield entry, status
        if stat.S_ISDIR(status.st_mode):
            try:
                below = sorted(entry.iterdir(), reverse=True)
            except OSError:
                continue
            waiting += [one for one in below if one.name != ".git" and not (entry == source and one.name in skip)]
