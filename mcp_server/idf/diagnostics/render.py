"""A diagnosis as a few lines for a person or a model, never longer than asked for."""

from dataclasses import dataclass, replace

from mcp_server.idf.diagnostics.text import first_sentences, harmless, head, readable, shorten, size
from mcp_server.model import Diagnosis, Diagnostic

LIMIT_BYTES = 700
_FIRST_MESSAGE, _NEXT_MESSAGE = 330, 190  # bytes of a message: the first cause may say more
_SOURCE, _NOTE, _HINT = 110, 160, 220
_HINTS = 900  # position of hints behind all diagnostics
_STOPPED = "there may be more: the build stopped at the first failed step"


@dataclass(frozen=True)
class _Item:
    """A line that may be shown: the most urgent ones are, in the order of their positions."""

    urgency: int
    position: tuple[int, int]
    text: str
    errors: int = 0


def render(
    diagnosis: Diagnosis,
    limit_bytes: int = LIMIT_BYTES,
    build: int | None = None,
    more: str | None = None,
    warnings: int = 0,
) -> str:
    """The errors with their source lines and notes, then hints, then what was left out; the most telling ones first.

    `more` is the last line (how to read on); with `build` the errors left out are said to be in build_get(build).
    At most `warnings` of the listed warnings are shown where there is room for them.
    """
    footer = head(readable(more), max(limit_bytes // 3, 0)) if more else ""
    room = limit_bytes - (size(footer) + 1 if footer else 0)
    items = _items(diagnosis, warnings)
    chosen = _choose(items, room)
    left = _left(diagnosis, chosen)
    lines = [item.text for item in chosen]
    if left > 0:
        line = _left_out(left, build)
        items = [item for item in items if item.text != _STOPPED]
        chosen = _choose(items, room - size(line) - 1)
        lines = [item.text for item in chosen]
        lines.append(_left_out(_left(diagnosis, chosen), build))
    if footer:
        lines.append(footer)
    return head("\n".join(lines), limit_bytes)


def _left(diagnosis: Diagnosis, chosen: list[_Item]) -> int:
    return max(diagnosis.error_count, sum(d.count for d in diagnosis.errors)) - sum(item.errors for item in chosen)


def _left_out(left: int, build: int | None) -> str:
    return f"and {left} more: build_get({build})" if build is not None else f"and {left} more"


def _items(diagnosis: Diagnosis, warnings: int = 0) -> list[_Item]:
    items = [
        _Item(600 + number, (_HINTS + 2, number), harmless(_headline(warning, _NEXT_MESSAGE)))
        for number, warning in enumerate(diagnosis.warnings[:warnings])
    ]
    if not diagnosis.errors:
        return [_Item(0, (0, 0), f"no errors, {_plural(diagnosis.warning_count, 'warning')}"), *items]
    for number, diagnostic in enumerate(diagnosis.errors):
        items += _diagnostic_items(number, diagnostic)
    for number, hint in enumerate(diagnosis.hints[:3]):
        text = f"hint: {first_sentences(readable(hint), _HINT)}"
        items.append(_Item(18 + 40 * number, (_HINTS, number), text))
    if diagnosis.more_may_follow:
        items.append(_Item(500, (_HINTS + 1, 0), _STOPPED))
    return [replace(item, text=harmless(item.text)) for item in items]


def _diagnostic_items(number: int, diagnostic: Diagnostic) -> list[_Item]:
    urgency = 10 * number
    limit = _FIRST_MESSAGE if number == 0 else _NEXT_MESSAGE
    items = [_Item(urgency, (number, 0), _headline(diagnostic, limit), diagnostic.count)]
    if diagnostic.source:
        label = f"{diagnostic.line:>5} | " if diagnostic.line is not None else "      | "
        items.append(_Item(urgency + 3, (number, 1), label + shorten(diagnostic.source, _SOURCE)))
    for place, note in enumerate(diagnostic.notes):
        later = 5 if place == 0 and (number == 0 or diagnostic.kind != "link") else 60 + 10 * place
        items.append(_Item(urgency + later, (number, 2 + place), "      " + shorten(note, _NOTE)))
    return items


def _headline(diagnostic: Diagnostic, limit: int) -> str:
    place = ":".join(str(part) for part in (diagnostic.file, diagnostic.line, diagnostic.column) if part is not None)
    times = f" ({diagnostic.count} times)" if diagnostic.count > 1 else ""
    label = (
        diagnostic.severity
        if diagnostic.file or diagnostic.kind == "unknown"
        else f"{diagnostic.kind} {diagnostic.severity}"
    )
    if diagnostic.kind == "interrupted":
        label = "interrupted"
    return f"{place} {label}: {shorten(diagnostic.message, limit)}{times}".strip()


def _choose(items: list[_Item], room: int) -> list[_Item]:
    """The most urgent items that fit; a diagnostic's details only with its headline."""
    chosen: list[_Item] = []
    shown: set[int] = set()
    for item in sorted(items, key=lambda item: (item.urgency, item.position)):
        first = not chosen
        number, part = item.position
        if part and number < _HINTS and number not in shown:
            continue
        if size(item.text) + 1 > room + 1 and not first:
            continue
        text = item.text if not first else shorten(item.text, max(room, 0))
        chosen.append(replace(item, text=text))
        room -= size(text) + 1
        if part == 0:
            shown.add(number)
    return sorted(chosen, key=lambda item: item.position)


def _plural(count: int, word: str) -> str:
    return f"{count or 'no'} {word}{'' if count == 1 else 's'}"
