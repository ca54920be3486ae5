"""A decoded panic in a few lines, for a reader who has not seen the log."""

from collections.abc import Sequence
from typing import Any

from mcp_server.idf.panic.model import Decoded, Frame
from mcp_server.text import clip, one_line, size

LIMIT_BYTES = 600
SHOWN_FRAMES = 5
SHOWN_BEFORE = 3
KEPT_FRAMES = 32
KEPT_BEFORE = 10
PLACE_PARTS = 3  # of a path outside the project: components/heap/heap_caps.c


def panic_report(decoded: Decoded, more: Sequence[str] = (), *, limit: int = LIMIT_BYTES) -> list[str]:
    """Cause, first frames, the lines ahead of it, then `more`: at most `limit` bytes, counted with a line end each."""
    panic = decoded.panic
    core = f", core {panic.core}" if panic.core is not None else ""
    task = f", task {panic.task}" if panic.task and panic.task not in panic.cause else ""
    head = [one_line(f"panic: {panic.cause}{core}{task}", 200)]
    if panic.file and panic.kind != "assert":
        where = f" in {panic.function}" if panic.function else ""
        head.append("  at " + one_line(f"{_short(panic.file)}:{panic.line}{where}", 120))
    head += ["  note: " + one_line(note, 160) for note in decoded.notes[:1]]
    frames = ["  " + one_line(text, 110) for text in _frames(decoded.cause_frames or decoded.frames)]
    before = ["  | " + one_line(line, 100) for line in panic.before[-SHOWN_BEFORE:]]
    left = limit - sum(size(line) + 1 for line in more)
    return [*_fitting(head, frames, ["before it:", *before] if before else [], left), *more]


def panic_details(decoded: Decoded) -> dict[str, Any]:
    """The same for a program, as JSON has it: of the panic what is known, all frames, no stack and no core dump.

    {"kind", "cause", "frames": [{"function", "file", "line", …}], "before": […], "notes": […], …}, at most some 12 KB.
    """
    panic = decoded.panic
    about = panic.model_dump(
        mode="json",
        exclude_defaults=True,
        include={"core", "task", "tasks", "file", "line", "function", "expression", "elf_sha256", "reboots"},
    )
    frames = [frame.model_dump(mode="json", exclude_defaults=True) for frame in decoded.frames[:KEPT_FRAMES]]
    for frame in frames:
        frame["address"] = f"0x{frame['address']:08x}"
        if "function" in frame:
            frame["function"] = clip(frame["function"], 200)
    return {
        "kind": panic.kind,
        "cause": panic.cause,
        **about,
        **({} if panic.pc is None else {"pc": f"0x{panic.pc:08x}"}),
        "frames": frames,
        "before": list(panic.before[-KEPT_BEFORE:]),
        "notes": [*panic.notes, *decoded.notes],
    }


def _frames(frames: Sequence[Frame]) -> list[str]:
    shown = [_frame(frame) for frame in frames[:SHOWN_FRAMES]]
    return [*shown, f"… and {len(frames) - len(shown)} more frames"] if len(frames) > len(shown) else shown


def _frame(frame: Frame) -> str:
    if frame.function is None and frame.file is None:
        return f"0x{frame.address:08x}"
    place = _short(frame.place)
    doubt = "" if frame.certain else "? "
    return f"{doubt}{(frame.function or '??').partition('(')[0]} {place}".rstrip()


def _short(place: str) -> str:
    return "/".join(place.split("/")[-PLACE_PARTS:]) if place.startswith("/") else place


def _fitting(head: list[str], frames: list[str], before: list[str], limit: int) -> list[str]:
    """The head whole; then frames and the last of the lines before it, while there is room."""
    lines = list(head)
    left = limit - sum(size(line) + 1 for line in head)
    kept_frames: list[str] = []
    for frame in frames:
        if size(frame) + 1 > left:
            break
        kept_frames.append(frame)
        left -= size(frame) + 1
    kept_before: list[str] = []
    if before and len(kept_frames) == len(frames):
        left -= size(before[0]) + 1
        for line in reversed(before[1:]):
            if size(line) + 1 > left:
                break
            kept_before.insert(0, line)
            left -= size(line) + 1
    lines += kept_frames + ([before[0], *kept_before] if kept_before else [])
    return lines if sum(size(line) + 1 for line in lines) <= limit else [clip("\n".join(lines), limit - 1)]
