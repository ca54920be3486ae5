"""How long ninja took for each file, from the `.ninja_log` that it leaves in a build directory.

A line a finished output, in the order they were finished: start and end in milliseconds since that ninja began, a time
of the file system, the output's path, the hash of its command. Formats 5 to 7 differ in the hash alone. The time is
that of the output or, since ninja 1.11, of the command's start; so of a run's own lines it is never before the run.
"""

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mcp_server.idf.installation import open_file
from mcp_server.idf.ninja_graph import longest_path_s
from mcp_server.model import Model

LOG: Final = ".ninja_log"
SUB_BUILDS: Final = ("bootloader",)
"""Folders below a build directory where ESP-IDF runs a ninja of its own."""

MAX_LOG_BYTES = (
    16 * 1024 * 1024
)  # an ESP-IDF app has 0.2 MB; of a longer one the end is read, where this run's lines are
MOST_FILES = 20
MOST_STEPS = 5
NAME_CHARS = 200
SLACK_S = 0.03  # an exit record's times are cut to 1/100 s, and a file system's clock may be a tick behind
FORMATS = range(5, 8)

_HEADER = re.compile(rb"# ninja log v(\d{1,4})\n")
_LINE = re.compile(rb"^(\d{1,10})\t(\d{1,10})\t(\d{1,19})\t([^\t\n]{1,4096})\t([0-9a-f]{1,16})$", re.MULTILINE)
_OBJECT = re.compile(r"(?P<source>.+)\.(?:o|obj)")
_CMAKE = re.compile(r"(?P<folder>(?:.*/)?)CMakeFiles/[^/]+\.dir/(?P<source>.+)")
_UNSHOWN = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")  # no database and no reader takes all of these
_SECONDS = 10**12  # a time below is in seconds, as ninja wrote it before 1.9; else in nanoseconds


class FileTime(Model):
    """One step of a build: the source that was compiled, or what was made."""

    file: str
    seconds: float


class CompileTimes(Model):
    """What ninja ran in one build. `wall_s` is from the first step's start to the last one's end, `total_s` the sum.

    `objects` of the `edges` compiled a source and took `objects_s`: `files` are the slowest of these, `steps` the
    slowest of the others. `longest_s` is the longest chain of steps that wait for each other, where that is known.
    """

    edges: int
    wall_s: float
    total_s: float
    objects: int
    objects_s: float
    longest_s: float | None = None
    files: tuple[FileTime, ...] = ()
    steps: tuple[FileTime, ...] = ()


@dataclass(frozen=True, slots=True)
class _Step:
    output: str
    start_ms: int
    end_ms: int

    @property
    def seconds(self) -> float:
        return (self.end_ms - self.start_ms) / 1000


def of_build(build_dir: Path, since: float) -> CompileTimes | None:
    """What ninja ran in this directory from `since` on (Unix seconds, by the clock of its file system). Reads the disk.

    None: nothing, or no log of a known format tells.
    """
    found = {name: text for name in ("", *SUB_BUILDS) if (text := _read(build_dir / name / LOG)) is not None}
    times = compile_times(found, since)
    outer = {step.output: step.seconds for step in _steps(found.get("", b""), since)}
    return times and times.model_copy(update={"longest_s": longest_path_s(build_dir, outer) if outer else None})


def compile_times(logs: Mapping[str, bytes], since: float) -> CompileTimes | None:
    """The same, of the contents of logs by the folder below the build directory, "" for its own."""
    outer = _steps(logs.get("", b""), since)
    inner = {folder: _steps(text, since) for folder, text in logs.items() if folder}
    # The step around a ninja of its own is the sum of that one's steps.
    within = tuple(f"{folder}/" for folder in inner)
    stamps = tuple(f"{folder}-stamp/{folder}-build" for folder in inner)
    steps = [step for step in outer if not (step.output.startswith(within) or step.output.endswith(stamps))]
    for folder, found in inner.items():
        steps += [_Step(f"{folder}/{step.output}", step.start_ms, step.end_ms) for step in found]
    if not steps:
        return None
    named = [(source_of(step.output), step) for step in steps]
    compiled = [(source, step.seconds) for source, step in named if source is not None]
    others = [(step.output, step.seconds) for source, step in named if source is None]
    return CompileTimes(
        edges=len(steps),
        wall_s=round((_wall(outer) or sum(map(_wall, inner.values()))) / 1000, 3),
        total_s=round(sum(step.seconds for step in steps), 3),
        objects=len(compiled),
        objects_s=round(sum(seconds for _, seconds in compiled), 3),
        files=_slowest(compiled, MOST_FILES),
        steps=_slowest(others, MOST_STEPS),
    )


def source_of(output: str) -> str | None:
    """What an object file was compiled from, as ESP-IDF's people name it: `main/app.c`; None: it is no object file.

    CMake keeps the source's path below the target's folder, with `__` for `..`.
    """
    if (found := _OBJECT.fullmatch(output)) is None:
        return None
    name = found["source"]
    if (made := _CMAKE.fullmatch(name)) is not None:
        parts = [".." if part == "__" else part for part in made["source"].split("/")]
        name = posixpath.normpath(made["folder"] + "/".join(parts))
    folder, _, rest = name.partition("esp-idf/")  # where ESP-IDF has CMake build its components
    return folder + rest if rest and folder in ("", *(f"{sub}/" for sub in SUB_BUILDS)) else name


def _steps(text: bytes, since: float) -> list[_Step]:
    """This run's steps in the order of their ends, each once: one may have several outputs, and run again."""
    header = _HEADER.match(text)
    if header is None or int(header[1]) not in FORMATS:
        return []
    earliest = round((since - SLACK_S) * 1e9)
    found: dict[bytes, tuple[int, int, bytes]] = {}
    for start, end, when, output, command in _LINE.findall(text):
        time = int(when)
        begin, over = int(start), int(end)
        if over >= begin and (time * 10**9 + 10**9 - 1 if time < _SECONDS else time) >= earliest:
            found.pop(output, None)  # the last line of an output is the one that counts, and where it counts
            found[output] = begin, over, command
        else:
            found.pop(output, None)
    outputs: dict[tuple[int, int, bytes], bytes] = {}
    for output, step in found.items():
        if len(output) < len(outputs.setdefault(step, output)):
            outputs[step] = output
    return [_Step(output.decode("utf-8", "replace"), step[0], step[1]) for step, output in outputs.items()]


def _wall(steps: Iterable[_Step]) -> int:
    """Milliseconds: of each ninja from its first step to its last. An end before the last one is another ninja's."""
    total, first, last = 0, 0, -1
    for step in steps:
        if step.end_ms < last or last < 0:
            total += max(last - first, 0)
            first = step.start_ms
        first, last = min(first, step.start_ms), step.end_ms
    return total + max(last - first, 0)


def _slowest(found: list[tuple[str, float]], most: int) -> tuple[FileTime, ...]:
    ordered = sorted(found, key=lambda one: (-one[1], one[0]))
    found = [(_UNSHOWN.sub("\ufffd", name[:NAME_CHARS]), round(seconds, 3)) for name, seconds in ordered[:most]]
    return tuple(FileTime(file=name, seconds=seconds) for name, seconds in found)


def _read(path: Path) -> bytes | None:
    """The log; of one that is too long its header and its end."""
    try:
        with open_file(path) as file:
            text = file.read(MAX_LOG_BYTES)
            if (size := file.seek(0, 2)) <= len(text):
                return text
            file.seek(size - MAX_LOG_BYTES)
            header, tail = text.partition(b"\n")[0], file.read(MAX_LOG_BYTES)
    except (OSError, ValueError):
        return None
    return header[:64] + b"\n" + tail.partition(b"\n")[2]
