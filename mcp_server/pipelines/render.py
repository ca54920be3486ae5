"""A pipeline for the eye: as a table of what would run, and as a Mermaid graph."""

import re
from collections.abc import Callable, Mapping, Sequence
from unicodedata import east_asian_width

from mcp_server.model import Model
from mcp_server.pipelines.graph import Graph, critical_path, eta_s, order
from mcp_server.pipelines.pipeline import Pipeline, PipelineStage

WIDTH = 80  # columns
TASK_WIDTH = 100  # of a stage's command for a program, which folds nothing
MAX_EDGES = 500  # of a drawing; Mermaid itself draws no more, nor a text of more than 50,000 characters
MAX_NODES = 400
MAX_ROWS = 60  # of a table for people; `plan_table` has all

Hosts = Callable[[str], Sequence[str]]
"""The hosts that a server's reference stands for."""


class PlanRow(Model):
    """A stage of a plan. `number` is its place in the order; `after` are the places of those it waits for.

    `hosts` are where it may run, `typical_s` what it took before (None: not known), `critical` whether a delay of it
    delays the whole pipeline.
    """

    number: int
    stage: str
    servers: tuple[str, ...]
    hosts: tuple[str, ...]
    after: tuple[int, ...]
    depends_on: tuple[str, ...]
    timeout_s: float
    retries: int
    task: str
    skip: str = ""
    typical_s: float | None = None
    critical: bool = False


def plan_table(
    pipeline: Pipeline, hosts: Hosts | None = None, durations: Mapping[str, float] | None = None
) -> tuple[PlanRow, ...]:
    """The stages in the order they could run one by one. `durations` are seconds of earlier runs by stage."""
    known = durations or {}
    names = order(pipeline.graph)
    numbers = {name: place + 1 for place, name in enumerate(names)}
    stages = {stage.name: stage for stage in pipeline.stages}
    on_path = set(critical_path(runnable(pipeline), known)) if known else set[str]()
    return tuple(_row(stages[name], numbers, hosts, known, critical=name in on_path) for name in names)


def _row(
    stage: PipelineStage, numbers: Mapping[str, int], hosts: Hosts | None, known: Mapping[str, float], *, critical: bool
) -> PlanRow:
    found = [host for server in stage.servers for host in (hosts(server) if hosts else (server,))]
    return PlanRow(
        number=numbers[stage.name],
        stage=stage.name,
        servers=stage.servers,
        hosts=tuple(dict.fromkeys(found)),
        after=tuple(sorted(numbers[name] for name in stage.depends_on)),
        depends_on=stage.depends_on,
        timeout_s=stage.timeout_s,
        retries=stage.retry.times,
        task=stage.command or stage.uses or "",
        skip=stage.skip,
        typical_s=known.get(stage.name),
        critical=critical,
    )


def runnable(pipeline: Pipeline) -> dict[str, tuple[str, ...]]:
    """The graph of what is run. A skipped stage hands what it waits for on to those that wait for it."""
    stages = {stage.name: stage for stage in pipeline.stages}
    waits: dict[str, tuple[str, ...]] = {}
    for name in order(pipeline.graph):
        after: dict[str, None] = {}
        for other in stages[name].depends_on:
            after |= dict.fromkeys(waits[other] if stages[other].skip else (other,))
        waits[name] = tuple(after)
    return {stage.name: waits[stage.name] for stage in pipeline.stages if not stage.skip}


def plan_text(
    pipeline: Pipeline,
    hosts: Hosts | None = None,
    durations: Mapping[str, float] | None = None,
    slots: Mapping[str, int] | None = None,
    *,
    after: bool = True,
    task_width: int = WIDTH,
) -> str:
    """What would run: a row a stage, its command below it, and a line about the time it takes; at most 80 columns.

    `after` False leaves out who waits for whom, for where a graph tells it; `task_width` is for the commands.
    """
    rows = plan_table(pipeline, hosts, durations)
    lines = [_heading(pipeline), *table([_cells(row) for row in rows[:MAX_ROWS]], after=after, task_width=task_width)]
    if len(rows) > MAX_ROWS:
        lines.append(f"and {len(rows) - MAX_ROWS} more")
    return "\n".join([*lines, *_times(pipeline, rows, durations or {}, slots or {})])


def _heading(pipeline: Pipeline) -> str:
    run = sum(not stage.skip for stage in pipeline.stages)
    skipped = len(pipeline.stages) - run
    words = [f"{run} stage" + ("s" if run != 1 else "")] + ([f"{skipped} skipped"] if skipped else [])
    words.append(f"at most {pipeline.parallel_limit} at a time")
    return clip(f"{clip(pipeline.name, 40)} · {' · '.join(words)}", WIDTH)


def _times(
    pipeline: Pipeline, rows: Sequence[PlanRow], durations: Mapping[str, float], slots: Mapping[str, int]
) -> list[str]:
    graph = runnable(pipeline)
    known = {name: durations[name] for name in graph if name in durations}
    if not known:
        return []
    hosts = {row.stage: row.hosts[0] for row in rows if row.hosts}
    total = eta_s(graph, known, hosts=hosts, slots=slots, parallel_limit=pipeline.parallel_limit)
    unknown = len(graph) - len(known)
    took = f"about {seconds(total)}, by earlier runs" + (f"; of {unknown} nothing is known" if unknown else "")
    return [took, clip("longest path: " + " → ".join(critical_path(graph, known)), WIDTH)]


_HEADS = ("#", "stage", "server", "after", "limit", "retry")
_WIDEST = (4, 26, 16, 10, 8, 5)
_AFTER = _HEADS.index("after")
_INDENT = "     "  # of a stage's command, below its row


def _cells(row: PlanRow) -> tuple[str, ...]:
    task = row.skip if row.skip else row.task
    return (
        str(row.number),
        row.stage,
        ",".join(row.hosts or row.servers),
        ",".join(map(str, row.after)) or "-",
        seconds(row.timeout_s) if row.timeout_s else "none",
        str(row.retries) if row.retries else "-",
        f"skipped: {task}" if row.skip else task,
    )


def table(rows: Sequence[Sequence[str]], *, after: bool = True, task_width: int = WIDTH) -> list[str]:
    """The rows under their heads, clipped to 80 columns; the last cell of each on a line of its own."""
    cells = [_HEADS, *([clip(_line(text), 200) for text in row[:-1]] for row in rows)]
    shown = [place for place in range(len(_HEADS)) if after or place != _AFTER]
    widths = {place: min(_WIDEST[place], max(columns(row[place]) for row in cells)) for place in shown}
    head, *lines = ["  ".join(_padded(row[place], widths[place]) for place in shown).rstrip() for row in cells]
    told = [head]
    for line, row in zip(lines, rows, strict=True):
        task = clip(_line(row[-1]), task_width - len(_INDENT))
        told += [line, f"{_INDENT}{task}"] if task else [line]
    return told


def _line(text: str) -> str:
    """A text of several lines, or with characters that move a cursor, as one that does not."""
    return "".join(letter if letter.isprintable() else " " for letter in " ".join(text.split()))


def columns(text: str) -> int:
    """How wide a terminal shows it; Korean and Chinese letters take two columns."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def clip(text: str, width: int) -> str:
    """`text` in at most `width` columns; "…" stands for what is cut off."""
    if columns(text) <= width:
        return text
    kept, used = "", 1
    for letter in text:
        used += columns(letter)
        if used > width:
            break
        kept += letter
    return kept + "…"


def _padded(text: str, width: int) -> str:
    text = clip(text, width)
    return text + " " * (width - columns(text))


def seconds(value: float) -> str:
    """`3h`, `1h30m`, `45s`: as a duration is written in a file; at most two units, so 1 h 0 min 5 s is `1h`."""
    rest = round(value) if value >= 1 else 0
    if rest == 0:
        return f"{value:.2g}s" if value else "0s"
    parts: list[tuple[str, int]] = []
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        parts.append((unit, rest // size))
        rest %= size
    first = next(place for place, (_, count) in enumerate(parts) if count)
    return "".join(f"{count}{unit}" for unit, count in parts[first : first + 2] if count)


def mermaid(source: Pipeline | Graph) -> str:
    """The graph as a Mermaid flowchart. Stages have ids of our own, so that no name can be taken for syntax."""
    graph = source.graph if isinstance(source, Pipeline) else source
    stages = {stage.name: stage for stage in source.stages} if isinstance(source, Pipeline) else {}
    names = dict.fromkeys([*graph, *(other for after in graph.values() for other in after)])
    ids = {name: f"s{place}" for place, name in enumerate(names)}
    lines = ["flowchart LR"]
    for name, id_ in list(ids.items())[:MAX_NODES]:
        stage = stages.get(name)
        where = f"<br/>{_quoted(', '.join(stage.servers))}" if stage and stage.servers != ("local",) else ""
        lines.append(f'    {id_}["{_quoted(name)}{where}"]' + (":::skipped" if stage and stage.skip else ""))
    drawn = set(list(ids)[:MAX_NODES])
    edges = [(other, name) for name, after in graph.items() for other in after if {name, other} <= drawn]
    lines += [f"    {ids[other]} --> {ids[name]}" for other, name in edges[:MAX_EDGES]]
    if len(edges) > MAX_EDGES:
        lines.append(f"    more[and {len(edges) - MAX_EDGES:,} more arrows]")
    if len(ids) > MAX_NODES:
        lines.append(f"    rest[and {len(ids) - MAX_NODES:,} more stages]")
    if any(stage.skip for stage in stages.values()):
        lines.append("    classDef skipped stroke-dasharray: 4")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """`text` for a label in quotes: what Mermaid or HTML would read is written as a character code."""
    one_line = clip(_line(text), 60)
    return re.sub(r"[^\w .,/:@+-]", lambda found: f"#{ord(found[0])};", one_line)
