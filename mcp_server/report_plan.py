"""A pipeline's plan as text: what would run where and after what, as a table and as a Mermaid graph.

May import: pipelines, text. Never: store, engine, hosts, a front.
"""

from collections.abc import Container, Mapping, Sequence
from typing import Any, Protocol

from mcp_server.pipelines.pipeline import Pipeline
from mcp_server.pipelines.render import TASK_WIDTH, mermaid, plan_table, plan_text
from mcp_server.text import fit, one_line, size

PLAN_BYTES = 8000  # of table and graph; a graph that would pass this is left out


class Hosts(Protocol):
    """What a plan wants to know of the hosts."""

    def names(self) -> Sequence[str]: ...
    def resolve(self, reference: str) -> Sequence[str]: ...
    def slots(self, name: str) -> int: ...


def plan_report(pipeline: Pipeline, hosts: Hosts, usual: Mapping[str, float], channels: Container[str]) -> str:
    """For a model: the table with each command, the time it takes by earlier runs, and the graph where it is not long.

    Who waits for whom is told once: by the graph, and by the table where the graph is left out.
    """
    noted = "".join(f"\n{note}" for note in notes(pipeline, channels))
    table = _table(pipeline, hosts, usual, after=False, task_width=TASK_WIDTH)
    text = f"{table}{noted}\nnothing was started\n\n```mermaid\n{mermaid(pipeline)}```"
    if size(text) <= PLAN_BYTES:
        return text
    last = f"{noted}\nnothing was started; the graph is left out: it is too large"
    table = _table(pipeline, hosts, usual, after=True, task_width=TASK_WIDTH)
    return fit(table.splitlines(), PLAN_BYTES - size(last)) + last


def notes(pipeline: Pipeline, channels: Container[str]) -> Sequence[str]:
    """What will not be as the file has it: channels that config.yaml does not know hear nothing."""
    wanted = dict.fromkeys((*pipeline.on_failure.notify, *pipeline.on_success.notify))
    unknown = [one_line(name, 60) for name in wanted if name not in channels]
    return [f"note: notify: {name} is not in config.yaml's notifications: it is told nothing" for name in unknown]


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


def record(pipeline: Pipeline, hosts: Hosts, usual: Mapping[str, float]) -> dict[str, Any]:
    """Everything of a plan, for programs."""
    rows = plan_table(pipeline, hosts.resolve, usual)
    return {
        "name": pipeline.name,
        "params": dict(pipeline.params),
        "parallel_limit": pipeline.parallel_limit,
        "stages": [row.model_dump(mode="json") for row in rows],
        "mermaid": mermaid(pipeline),
    }
