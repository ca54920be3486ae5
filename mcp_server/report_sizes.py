"""What a build weighs as lines: app partition, memories, components; beside another build's with the differences.

May import: idf, model, text and other reports. Never: store, engine, hosts, a front.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pydantic import ValidationError

from mcp_server import report_parts as parts
from mcp_server.idf.size import AppPartition, Memory, Sizes
from mcp_server.model import Stage

if TYPE_CHECKING:  # views are only read here; the orchestrator brings a database along
    from mcp_server.views import BuildView

MOST_COMPONENTS = 12  # of a table; a change has its cause in the first few
MOST_PARTS = 4  # of a component's line
NEARLY_FULL = 95  # percent; from there on ESP-IDF's own check_sizes.py warns

Now = Mapping[str, int]


def size_lines(view: "BuildView", other: "BuildView | None") -> Iterator[str]:
    """Lines of every stage with sizes on record. Stages are compared by name; a single one with a single one."""
    now, then = _found(view), _found(other) if other else {}
    alone = len(now) == 1 and len(then) <= 1
    for name, sizes in now.items():
        if not alone:
            yield f"stage {name}:"
        yield from _of_stage(sizes, next(iter(then.values()), None) if alone else then.get(name))
    if other is not None:
        missing = [f"build {one.build.id}" for one, found in ((view, now), (other, then)) if not found]
        if missing and (now or then):
            yield f"no sizes by memory and component are on record of {' and '.join(missing)}"


def _found(view: "BuildView") -> dict[str, Sizes]:
    return {name: sizes for name, row in parts.newest(view).items() if (sizes := sizes_of(row)) is not None}


def sizes_of(row: Stage) -> Sizes | None:
    """The sizes on record of an attempt; None where there are none, or an older version wrote others."""
    kept = row.verdict.details.get("sizes") if row.verdict else None
    try:
        return Sizes.model_validate(kept) if isinstance(kept, dict) else None
    except ValidationError:
        return None


def _of_stage(now: Sizes, then: Sizes | None) -> Iterator[str]:
    if now.app is not None:
        yield _partition(now.app, then.app if then else None)
    if now.memory:
        before = {memory.name: memory for memory in then.memory} if then else {}
        yield "memory, bytes:"
        yield from (f"  {_memory(memory, before.get(memory.name), then is not None)}" for memory in now.memory)
    elif any(now.sections.values()):
        yield "sections, bytes: " + " · ".join(_numbers(now.sections, then.sections if then else None))
    if then is not None:
        yield from _changes(now.components, then.components)
    else:
        yield from _largest(now.components)
    if now.note:
        yield f"note: {now.note}"


def _partition(now: AppPartition, then: AppPartition | None) -> str:
    """`app partition factory 98 % full (1,012 of 1,024 kB), was 91 %: nearly full now`."""
    used, size = -(-now.used // 1024), now.size // 1024
    line = f"app partition {now.name} {int(now.percent)} % full ({used:,} of {size:,} kB)"
    if then is not None:
        resized = f" of {then.size // 1024:,} kB" if then.size != now.size else ""
        line += f", was {int(then.percent)} %{resized}"
    return line + _crossed(now.percent, then.percent if then else None)


def _crossed(now: float, then: float | None) -> str:
    """Which limit is reached; told with `now` where it was not before."""
    for limit, word in ((100.01, "does not fit"), (NEARLY_FULL, "nearly full")):
        if now >= limit:
            return f": {word} now" if then is not None and then < limit else f": {word}"
        if then is not None and then >= limit:
            return ": fits again" if limit > 100 else ": not nearly full any more"
    return ""


def _memory(now: Memory, then: Memory | None, compared: bool) -> str:
    percent = 100 * now.used / now.total if now.total else 0
    line = f"{now.name} {now.used:,}" + (f" of {now.total:,} ({int(percent)} %)" if now.total else "")
    if compared:
        line += _difference(now.used, then.used if then else None)
    if not now.total:
        return line
    return line + _crossed(percent, 100 * then.used / then.total if then and then.total else None)


def _difference(now: int, then: int | None) -> str:
    if then is None:
        return " new"
    return "" if now == then else f" {now - then:+,}"


def _numbers(now: Now, then: Now | None) -> Iterator[str]:
    for name, size in now.items():
        yield f"{name} {size:,}" + ("" if then is None else _difference(size, then.get(name, 0)))


def _largest(components: Mapping[str, Now]) -> Iterator[str]:
    ordered = sorted(components.items(), key=lambda item: -sum(item[1].values()))
    if ordered:
        yield "components, the largest first:"
    for name, sections in ordered[:MOST_COMPONENTS]:
        found = sorted(sections.items(), key=lambda item: -item[1])
        yield f"  {name} {sum(sections.values()):,}{_parts([f'{part} {size:,}' for part, size in found])}"
    if len(ordered) > MOST_COMPONENTS:
        yield f"  and {parts.plural(len(ordered) - MOST_COMPONENTS, 'smaller one')}"


def _changes(now: Mapping[str, Now], then: Mapping[str, Now]) -> Iterator[str]:
    """Components that changed, the largest change first, with where."""
    if not now or not then:
        return
    found: list[tuple[int, str, list[str]]] = []
    for name in {*now, *then}:
        ours, theirs = now.get(name, {}), then.get(name, {})
        by_part = {part: ours.get(part, 0) - theirs.get(part, 0) for part in {*ours, *theirs}}
        if weight := sum(map(abs, by_part.values())):
            shown = sorted(by_part.items(), key=lambda item: (-abs(item[1]), item[0]))
            found.append((weight, name, [f"{part} {size:+,}" for part, size in shown if size]))
    if not found:
        yield "components: unchanged"
        return
    yield "components, the largest changes first:"
    for _, name, where in sorted(found, key=lambda one: (-one[0], one[1]))[:MOST_COMPONENTS]:
        size, before = sum(now.get(name, {}).values()), sum(then.get(name, {}).values())
        if name not in now:
            yield f"  {name} gone, was {before:,}"
        else:
            yield f"  {name} {size:,}{' new' if name not in then else f' {size - before:+,}'}{_parts(where)}"
    if len(found) > MOST_COMPONENTS:
        yield f"  and {parts.plural(len(found) - MOST_COMPONENTS, 'smaller change')}"


def _parts(shown: list[str]) -> str:
    more = f" · and {len(shown) - MOST_PARTS} more" if len(shown) > MOST_PARTS else ""
    return f" ({' · '.join(shown[:MOST_PARTS])}{more})"
