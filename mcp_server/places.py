"""Where a build can be done, once several machines share the work.

What runs on far hosts only can be done by any worker. What uses folders of one machine stays there; a project that
was brought from Git is checked out anew wherever HOME is at the same path.

May import: model, config, project_plans.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from mcp_server.config_rules import LOCAL
from mcp_server.model import Lease, Plan
from mcp_server.project_plans import CHECKOUT

MACHINE, HOME = "machine:", "home:"

Resolve = Callable[[str], Sequence[str]]
"""The names of hosts that a name, alias or tag means."""


def place_of(plan: Plan, home: Path, machine: str, resolve: Resolve) -> str | None:
    """None: anywhere; `machine:ID`: on that one; `home:/path`: where that is the home of the worker."""
    if not _needs_a_machine(plan, resolve):
        return None
    if any(stage.name == CHECKOUT and stage.params.get("origin_url") for stage in plan.stages):
        return f"{HOME}{home}"
    return f"{MACHINE}{machine}"


def places_of_worker(home: str, machine: str) -> tuple[str, str]:
    """The places that a worker is at, beside anywhere."""
    return f"{MACHINE}{machine}", f"{HOME}{home}"


def at(host: str, machine: str | None) -> str:
    """A host's name where machines share the leases: each has a `local` of its own."""
    return f"{LOCAL}@{machine}" if machine and host == LOCAL else host


def of_all(resource: str, machine: str) -> str:
    """A lease's resource (`host:local`, `dir:local:/path`) as it is called among all machines."""
    kind, colon, rest = resource.partition(":")
    host, more, place = rest.partition(":")
    return f"{kind}{colon}{at(host, machine)}{more}{place}" if kind != "group" else resource


def of_one(resource: str) -> str:
    """The same as it is called on its own machine."""
    kind, colon, rest = resource.partition(":")
    host, more, place = rest.partition(":")
    return f"{kind}{colon}{host.partition('@')[0]}{more}{place}" if host.startswith(f"{LOCAL}@") else resource


def here(leases: Sequence[Lease], machine: str) -> Sequence[Lease]:
    """The leases as one machine calls them, without those of other machines' own folders and slots."""
    of_ours = f"{LOCAL}@{machine}"
    found = [one for one in leases if f":{LOCAL}@" not in one.resource or of_ours in one.resource.split(":")]
    return [one.model_copy(update={"resource": of_one(one.resource)}) for one in found]


def _needs_a_machine(plan: Plan, resolve: Resolve) -> bool:
    if plan.fix is not None or plan.expand is not None or plan.workspace is not None:
        return True
    for stage in plan.stages:
        hosts = {name for reference in (stage.host, *stage.hosts) for name in resolve(reference)}
        if LOCAL in hosts or stage.sync is not None or stage.directory is not None:
            return True
    return False
