"""The `patch` agent: applies a given unified diff inside a folder, all of it or nothing.

`python -m mcp_server.agents.patch DIFF FOLDER` prints a line for each file and exits 0, or one sentence and 1. A file
that has its change already is left as it is, so that an interrupted run may be repeated. Where lines moved, a hunk is
found again if it fits in one place only; context must match to the byte, but for the line ends of a CRLF file.
"""

import contextlib
import stat
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mcp_server.agents.unified_diff import DiffRefused, FileDiff, Hunk, parse, split_lines

_USAGE = "usage: python -m mcp_server.agents.patch DIFF FOLDER"


@dataclass(frozen=True, slots=True)
class Change:
    """One file of a diff, worked out: its content before and after, None where there is no file.

    `done`: it was so before.
    """

    path: str
    target: Path
    before: bytes | None
    after: bytes | None
    old_mode: int
    mode: int
    done: bool
    summary: str


def apply(diff: bytes, folder: Path) -> list[Change]:
    """Change the files below `folder`; what was done, in the diff's order. DiffRefused leaves every file as it was."""
    if not folder.is_dir():
        raise DiffRefused(f"{folder} is not a folder")
    changes: dict[Path, Change] = {}
    for file in parse(diff):
        change = _work_out(file, _inside(file.path, folder.resolve()))
        if change.target in changes:
            raise DiffRefused(f"{file.path}: the diff has this file twice")
        changes[change.target] = change
    _write([change for change in changes.values() if not change.done])
    return list(changes.values())


def _inside(path: str, folder: Path) -> Path:
    """Where a diff's path leads: to a regular file below `folder`, or to nothing yet, and never to Git's own files."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
        raise DiffRefused(f"{path or 'a file without a name'}: only files inside the folder are changed")
    if any(part.lower() == ".git" for part in parts):
        raise DiffRefused(f"{path}: Git's own files are not changed")
    target = folder.joinpath(*parts)
    if target.parent.resolve() != target.parent:
        raise DiffRefused(f"{path}: a symbolic link lies on the way to it")
    if target.is_symlink() or (target.exists() and not target.is_file()):
        raise DiffRefused(f"{path}: it is not a regular file")
    return target


def _work_out(file: FileDiff, target: Path) -> Change:
    before = target.read_bytes() if target.is_file() else None
    old_mode = stat.S_IMODE(target.stat().st_mode) if before is not None else 0o644
    mode = old_mode if file.mode is None else old_mode | 0o111 if file.mode & 0o100 else old_mode & ~0o111

    def change(after: bytes | None, *, done: bool, summary: str) -> Change:
        return Change(file.path, target, before, after, old_mode, mode, done, summary)

    if before is None and file.deleted:
        return change(None, done=True, summary="already deleted")
    if before is None and not file.created:
        raise DiffRefused(f"{file.path}: there is no such file")
    hunks = _with_line_ends(file.hunks, before or b"")
    if file.created and before is not None:
        if before != b"".join(line for hunk in hunks for line in hunk.new):
            raise DiffRefused(f"{file.path}: the diff creates it, but it is there with another content")
        return change(before, done=True, summary="already created")
    after, known = _applied(file.path, split_lines(before or b""), hunks)
    if file.deleted and (after or (known and hunks)):
        raise DiffRefused(f"{file.path}: the diff deletes it, but it holds something else than the diff says")
    if known and mode == old_mode and before is not None and not file.deleted:
        return change(before, done=True, summary="already changed")
    added = sum(len(hunk.new) - hunk.leading - hunk.trailing for hunk in hunks)
    removed = sum(len(hunk.old) - hunk.leading - hunk.trailing for hunk in hunks)
    verb = "created" if file.created else "deleted" if file.deleted else "changed"
    return change(None if file.deleted else after, done=False, summary=f"{verb}, +{added} -{removed}")


def _with_line_ends(hunks: Sequence[Hunk], content: bytes) -> list[Hunk]:
    """The hunks with CRLF, where every line of the file has it and the diff has none: it lost them on its way."""
    lines = split_lines(content)
    lost = not any(b"\r" in line for hunk in hunks for line in (*hunk.old, *hunk.new))
    if not (lost and lines and all(line.endswith(b"\r\n") for line in lines[:-1] or lines)):
        return list(hunks)

    def crlf(side: Iterable[bytes]) -> tuple[bytes, ...]:
        return tuple(line.removesuffix(b"\n") + b"\r\n" if line.endswith(b"\n") else line for line in side)

    return [Hunk(h.number, h.old_at, crlf(h.old), h.new_at, crlf(h.new), h.leading, h.trailing) for h in hunks]


def _applied(path: str, lines: list[bytes], hunks: list[Hunk]) -> tuple[bytes, bool]:
    """The content after the hunks, and whether it was so before."""
    backwards = [hunk.reversed() for hunk in hunks]
    # What fits where it says, either way round, tells more than what fits somewhere else.
    for nearby in (False, True):
        if (found := _try(lines, hunks, nearby)) is not None:
            return b"".join(found), found == lines
        if _try(lines, backwards, nearby) is not None:
            return b"".join(lines), True
    raise DiffRefused(f"{path}, {_misfit(lines, hunks)}")


def _try(lines: list[bytes], hunks: Sequence[Hunk], nearby: bool) -> list[bytes] | None:
    result: list[bytes] = []
    done = shift = 0
    for hunk in hunks:
        places = _places(lines, hunk, done, hunk.old_at + shift, nearby)
        if len(places) != 1:
            return None
        result += [*lines[done : places[0]], *hunk.new]
        done = places[0] + len(hunk.old)
        shift = places[0] - hunk.old_at
    return result + lines[done:]


def _places(lines: list[bytes], hunk: Hunk, done: int, expected: int, nearby: bool) -> list[int]:
    """Where the hunk fits: the expected place if it does there, else all others."""

    def fits(at: int) -> bool:
        end = at + len(hunk.old)
        if lines[at:end] != list(hunk.old):
            return False
        # What only inserts would fit again beside itself, so a missing context must be the file's begin or end.
        inserts = len(hunk.old) == hunk.leading + hunk.trailing
        return not inserts or ((hunk.leading > 0 or at == 0) and (hunk.trailing > 0 or end == len(lines)))

    if done <= expected <= len(lines) and fits(expected):
        return [expected]
    return [at for at in range(done, len(lines) + 1) if fits(at)] if nearby else []


def _misfit(lines: list[bytes], hunks: Sequence[Hunk]) -> str:
    """Why the first hunk that has no place has none."""
    number = next((n for n in range(1, len(hunks) + 1) if _try(lines, hunks[:n], nearby=True) is None), 1)
    hunk = hunks[number - 1]
    name = f"hunk {number} (line {hunk.old_at + 1})"
    others = _places(lines, hunk, 0, -1, nearby=True)
    if len(others) > 1:
        shown = ", ".join(str(at + 1) for at in others[:3])
        return (
            f"{name}: it fits at lines {shown}{' …' if len(others) > 3 else ''}, but not at its own: add context lines"
        )
    for offset, wanted in enumerate(hunk.old):
        at = hunk.old_at + offset
        if at >= len(lines):
            return f"{name}: the file ends at line {len(lines)}, the diff expects {_shown(wanted)} after it"
        if lines[at] != wanted:
            return f"{name}: line {at + 1} is {_shown(lines[at])}, the diff expects {_shown(wanted)}"
    return f"{name}: it lacks context lines around what it inserts"


def _shown(line: bytes) -> str:
    text = line.decode("utf-8", "replace")
    return repr(text if len(text) <= 80 else text[:77] + "…")


def _write(changes: Sequence[Change]) -> None:
    """Write everything beside its place first; then only renames can fail, and those are taken back."""
    fresh = {change.target: change.target.with_name(f".{change.target.name}.patching") for change in changes}
    done: list[Change] = []
    try:
        for change in changes:
            _put(fresh[change.target], change.after, change.mode)
        for change in changes:
            done.append(change)
            if change.after is None:
                change.target.unlink()
            else:
                fresh[change.target].replace(change.target)
    except OSError as error:
        for change in done:
            with contextlib.suppress(OSError):
                _put(change.target, change.before, change.old_mode)
        raise DiffRefused(f"{error.filename or 'a file'}: {error.strerror}; nothing was changed") from error
    finally:
        for path in fresh.values():
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _put(path: Path, content: bytes | None, mode: int) -> None:
    path.unlink(missing_ok=True)
    if content is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # "x": a link that somebody put there is never followed.
    with path.open("xb") as file:
        file.write(content)
    path.chmod(mode)


def main(argv: Sequence[str]) -> int:
    """The command line; 0 applied or applied before, 1 refused."""
    if len(argv) != 2:
        sys.stderr.write(_USAGE + "\n")
        return 1
    try:
        changes = apply(Path(argv[0]).read_bytes(), Path(argv[1]))
    except DiffRefused as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"{error.filename}: {error.strerror}\n")
        return 1
    sys.stdout.write("".join(f"{change.path}: {change.summary}\n" for change in changes))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
