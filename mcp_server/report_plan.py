"""A pipeline's plan as text: what would run where and after what, as a table and as a Mermaid graph.

May import: pipelines, text. Never: store, engine, hosts, a front.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from mcp_server.pipelines.pipeline import Pipeline
from mcp_server.pipelines.render import mermaid, plan_table, plan_text
from mcp_server.text import size

PLAN_BYTES = 8000  # of table and graph; a graph that would pass this is left out


class Hosts(Protocol):
    """What a plan wants to know of the hosts."""

    def names(self) -> Sequence[str]: ...
    def resolve(self, reference: str) -> Sequence[str]: ...
    def slots(self, name: str) -> int: ...


def plan_report(pipeline: Pipeline, hosts: Hosts, usual: Mapping[str, float]) -> str:
    """For a model: the table, the time it takes by earlier runs, and the graph where it is not too long."""
    table = table_text(pipeline, hosts, usual)
    drawn = mermaid(pipeline)
    text = f"{table}\nnothing was started\n\n```mermaid\n{drawn}```"
    return text if size(text) <= PLAN_BYTES else f"{table}\nnothing was started; the graph is left out: it is too large"


def table_text(pipeline: Pipeline, hosts: Hosts, usual: Mapping[str, float]) -> str:
    """The table alone, in 80 columns."""
    return plan_text(pipeline, hosts.resolve, usual, {name: hosts.slots(name) for name in hosts.names()})


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
