"""Hosts as text for a model or a pipe: a line each, then what is wrong with it.

May import: model, text and other reports. Never: store, engine, hosts, a front.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server.report_parts import plural
from mcp_server.text import clip, duration, fit, one_line

if TYPE_CHECKING:  # views are only read here; the orchestrator brings a database along
    from mcp_server.hosts.probe import HostFacts
    from mcp_server.machines import HostView

HOSTS_BYTES = 1500
LINE_BYTES = 300  # of one host; less where there are many
MOST_WARNINGS = 3
GIB = 1 << 30


def host_list(views: "Sequence[HostView]", config: Path) -> str:
    """One line a host: name and alias, whether it answers, load, disk, slots, jobs, others' builds, tasks, warnings."""
    each = max(HOSTS_BYTES // max(len(views), 1) - 2, 80)
    lines = [clip(host_line(view), min(max(each, 80), 2 * LINE_BYTES)) for view in views]
    if all(view.name == "local" for view in views):
        lines.append(one_line(f"no other hosts: `servers` in {config} names them", 300))
    return fit(lines, HOSTS_BYTES)


def host_line(view: "HostView") -> str:
    """`yocto-builder (yocto) · 12 ms · load 3.2 of 16 cpus · slots 1/3 · tasks: bitbake {task} · ! its clock …`."""
    server = view.server
    called = [*([server.alias] if server.alias else []), *(f"tag {tag}" for tag in server.tags)]
    names = f"{view.name} ({', '.join(called)})" if called else view.name
    words = [names, *_state(view), f"slots {len(view.held)}/{view.slots}"]
    words += _work(view)
    tasks = "" if view.name == "local" else f"tasks: {server.build}" if server.build else "no `build`: needs a command"
    purpose = one_line(server.purpose, 40) if server.purpose else ""
    folder = "" if view.name == "local" else workdir(server.workdir)
    warnings = [f"! {warning}" for warning in (view.facts.warnings if view.facts else ())[:MOST_WARNINGS]]
    return one_line(" · ".join(word for word in [*words, folder, tasks, purpose, *warnings] if word), LINE_BYTES * 2)


def _state(view: "HostView") -> Sequence[str]:
    if view.trouble:
        return [f"unreachable: {one_line(view.trouble, 200)}"]
    if view.facts is None:
        return []
    facts = view.facts
    return [milliseconds(facts.latency_s), load(facts), disk(facts), memory(facts)]


def _work(view: "HostView") -> Sequence[str]:
    facts = view.facts
    if facts is None:
        return []
    return [plural(len(facts.running_jobs), "job") if facts.running_jobs else "", others(facts)]


def workdir(folder: str | None) -> str:
    """`in /workspace`: where commands run that name no folder."""
    return f"in {one_line(folder, 60)}" if folder else "no workdir"


def milliseconds(seconds: float) -> str:
    """`12 ms`, `0.4 ms`, `1.2 s`."""
    if seconds >= 1:
        return duration(seconds)
    return f"{1000 * seconds:.0f} ms" if seconds >= 0.001 else f"{1000 * seconds:.1f} ms"


def load(facts: "HostFacts") -> str:
    """`load 3.2 of 16 cpus`, over the last minute."""
    if facts.load is None:
        return plural(facts.cpus, "cpu")
    return f"load {facts.load[0]:.1f} of {plural(facts.cpus, 'cpu')}"


def disk(facts: "HostFacts") -> str:
    """`120 of 500 GiB free`, where its jobs are kept."""
    if facts.disk_free is None:
        return ""
    whole = f" of {gib(facts.disk_total)}" if facts.disk_total else ""
    return f"disk {gib(facts.disk_free)}{whole} GiB free"


def memory(facts: "HostFacts") -> str:
    """`30 GiB of memory free`."""
    return f"{gib(facts.memory_free)} GiB memory free" if facts.memory_free is not None else ""


def others(facts: "HostFacts") -> str:
    """`other builds: bitbake x 4 (build)`: what builds there and is no job of ours."""
    found = [
        f"{one_line(other.name, 20)}{f' x {other.count}' if other.count > 1 else ''} ({', '.join(other.users[:2])})"
        for other in facts.other_builds[:3]
    ]
    more = f" and {len(facts.other_builds) - 3} more" if len(facts.other_builds) > 3 else ""
    return f"other builds: {', '.join(found)}{more}" if found else ""


def gib(count: int | None) -> str:
    """Bytes in GiB: `120`, `1.4`."""
    value = (count or 0) / GIB
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"
