"""A pipeline's plan as text: what would run where and after what, as a table and as a Mermaid graph.

May import: config, pipelines, text. Never: store, engine, hosts, a front.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from mcp_server.config import Config, Security
from mcp_server.pipelines.pipeline import Pipeline, PipelineStage
from mcp_server.pipelines.render import TASK_WIDTH, mermaid, plan_table, plan_text, seconds
from mcp_server.pipelines.stage import ROUNDS
from mcp_server.text import fit, one_line, size

FLASH, PUSH, COMMIT = "idf.flash", "git.push", "git.commit"
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
    """What the table does not say: what is overwritten, committed, pushed, who writes code, and who hears nothing."""
    told = [_note(stage, config.security) for stage in pipeline.stages if not stage.skip]
    if pipeline.fix is not None:
        told.append(_fix_note(pipeline.fix))
    wanted = dict.fromkeys((*pipeline.on_failure.notify, *pipeline.on_success.notify))
    unknown = [one_line(name, 60) for name in wanted if name not in config.notifications]
    silent = [f"note: notify: {name} is not in config.yaml's notifications: it is told nothing" for name in unknown]
    return [*(note for note in told if note), *silent]


def _note(stage: PipelineStage, security: Security) -> str:
    name, with_ = one_line(stage.name, 60), stage.with_
    branch = one_line(str(with_.get("branch") or ""), 60)
    if stage.uses == FLASH:
        where = one_line(str(with_.get("port") or "the connected board"), 60)
        return f"note: {name}: {_asked(f'overwrites {where}', 'allow_flash', security.allow_flash)}"
    if stage.uses == PUSH:
        where = f"branch {branch} of {one_line(str(with_.get('remote') or 'origin'), 60)}"
        return f"note: {name}: {_asked(f'pushes to {where}', 'allow_push', security.allow_push)}"
    if stage.uses == COMMIT:
        what = _listed(with_.get("paths")) or "what was changed"
        default = "" if security.push_to_default else ", unless that is the default one"
        return f"note: {name}: commits {what} to {f'branch {branch}' if branch else f'the current branch{default}'}"
    if stage.uses == "qa" and with_.get("agent"):
        return f"note: {name}: {_who(with_['agent'])} reads a copy, and adds remarks that decide nothing"
    return ""


def _asked(deed: str, key: str, allowed: str) -> str:
    if allowed == "never":
        return f"security.{key} of config.yaml is `never`: the pipeline will be refused"
    asks = "asks before the pipeline starts" if allowed == "ask" else f"asks nobody: security.{key} is `always`"
    return f"{deed}, and {asks}"


def _fix_note(fix: PipelineStage) -> str:
    """Who will write code, where, how often at most, and what else he may."""
    name, with_ = one_line(fix.name, 60), fix.with_
    if fix.skip:
        return f"note: {name}: no agent writes code: {one_line(fix.skip, 100)}"
    who = _who(with_.get("agent"))
    rounds = int(with_.get("max_rounds", ROUNDS))
    often = f"{rounds} rounds, so {rounds - 1} time{'s' * (rounds > 2)}"
    where = "the pipeline's folder" if with_.get("project") in (None, ".") else one_line(with_["project"], 60)
    limit = f", each {seconds(fix.timeout_s)}" if fix.timeout_s else ""
    only = f"; it may change {_listed(with_.get('allow'))}" if with_.get("allow") else ""
    runs = f"; it may run {_listed(with_.get('commands'))}" if with_.get("commands") else ""
    return f"note: {name}: {who} mends what fails, in a copy of {where}: at most {often}{limit}{only}{runs}"


def _who(agent: str | None) -> str:
    return f"agent {one_line(agent, 60)}" if agent and agent != "default" else "the default agent"


def _listed(names: Sequence[str] | None) -> str:
    return one_line(", ".join(names or ()), 100)


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
