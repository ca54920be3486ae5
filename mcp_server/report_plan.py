"""A pipeline's plan as text: what would run where and after what, as a table and as a Mermaid graph.

May import: config, pipelines, text. Never: store, engine, hosts, a front.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from mcp_server.config import Config
from mcp_server.pipelines.pipeline import Pipeline, PipelineStage
from mcp_server.pipelines.render import TASK_WIDTH, mermaid, plan_table, plan_text
from mcp_server.text import fit, one_line, size

FLASH = "idf.flash"
PLAN_BYTES = 8000  # of table and graph; a graph that would pass this is left out


class Hosts(Protocol):
    """What a plan wants to know of the hosts."""

    def names(self) -> Sequence[str]: ...
    def resolve(self, reference: str) -> Sequence[str]: ...
    def slots(self, name: str) -> int: ...


def plan_report(pipeline: Pipeline, hosts: Hosts, usual: Mapping[str, float], config: Config) -> str:
    """For a model: the table with each command, the time it takes by earlier runs, and the graph where it is not long.

    Who waits for whom is told once: by the graph, and by the table where the graph is left out.
    """
    noted = "".join(f"\n{note}" for note in notes(pipeline, config))
    table = _table(pipeline, hosts, usual, after=False, task_width=TASK_WIDTH)
    text = f"{table}{noted}\nnothing was started\n\n```mermaid\n{mermaid(pipeline)}```"
    if size(text) <= PLAN_BYTES:
        return text
    last = f"{noted}\nnothing was started; the graph is left out: it is too large"
    table = _table(pipeline, hosts, usual, after=True, task_width=TASK_WIDTH)
    return fit(table.splitlines(), PLAN_BYTES - size(last)) + last


def notes(pipeline: Pipeline, config: Config) -> Sequence[str]:
    """What the file does not say: which stages overwrite a board, and which channels hear nothing of it."""
    flashes = [_flash_note(stage, config.security.allow_flash) for stage in pipeline.stages if _flashes(stage)]
    wanted = dict.fromkeys((*pipeline.on_failure.notify, *pipeline.on_success.notify))
    unknown = [one_line(name, 60) for name in wanted if name not in config.notifications]
    silent = [f"note: notify: {name} is not in config.yaml's notifications: it is told nothing" for name in unknown]
    return [*flashes, *silent]


def _flashes(stage: PipelineStage) -> bool:
    return stage.uses == FLASH and not stage.skip


def _flash_note(stage: PipelineStage, allowed: str) -> str:
    name = one_line(stage.name, 60)
    if allowed == "never":
        return f"note: {name}: security.allow_flash of config.yaml is `never`: the pipeline will be refused"
    where = one_line(str(stage.with_.get("port") or "the connected board"), 60)
    ask = "asks before the pipeline starts" if allowed == "ask" else "asks nobody: security.allow_flash is `always`"
    return f"note: {name}: overwrites {where}, and {ask}"


def table_text(pipeline: Pipeline, hosts: Hosts, usual: Mapping[str, float]) -> str:
    """The table alone, in 80 columns."""
    return _table(pipeline, hosts, usual)


def _table(
    pipeline: Pipeline, hosts: Hosts, usual: Mapping[str, float], *, after: bool = True, task_width: int = 80
) -> str:
    slots = {name: hosts.slots(name) for name in hosts.names()}
    return plan_text(pipeline, hosts.resolve, usual, slots, after=after, task_width=task_width)


def graph_text(pipeline: Pipeline) -> str:
    """The Mermaid flowchart alone."""
    return mermaid(pipeline)


def record(pipeline: Pipeline, hosts: Hosts, usual: Mapping[str, float], config: Config) -> dict[str, Any]:
    """Everything of a plan, for programs."""
    rows = plan_table(pipeline, hosts.resolve, usual)
    return {
        "name": pipeline.name,
        "params": dict(pipeline.params),
        "parallel_limit": pipeline.parallel_limit,
        "stages": [row.model_dump(mode="json") for row in rows],
        "mermaid": mermaid(pipeline),
        "notes": list(notes(pipeline, config)),
    }
