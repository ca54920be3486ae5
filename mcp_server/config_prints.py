"""What must be the same in the config.yaml of all machines of a team, told apart by a short print of each section.

Which secrets and keys a machine has is not in it, only whether the file names one.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from mcp_server.config import Settings
from mcp_server.config_rules import LOCAL

SECTIONS = (
    *("servers", "notifications", "defaults", "agents", "artifacts", "queue", "store", "security", "ci", "env_pass"),
)
OWN: Mapping[str, set[str]] = {
    "servers": {LOCAL},
    "artifacts": {"keep_here"},
    "queue": {"per_worker"},
    "security": {"project_roots"},
}
"""What a machine may well have of its own."""
DIGITS = 8  # too few to tell a value by trying them all


def prints(settings: Settings) -> Mapping[str, str]:
    """A print of each section; the same section gives the same one on every machine."""
    told: Mapping[str, Any] = settings.model_dump(mode="json", include=set(SECTIONS), exclude=dict(OWN))
    return {
        name: hashlib.sha256(json.dumps(told[name], sort_keys=True).encode()).hexdigest()[:DIGITS] for name in SECTIONS
    }


def differing(one: Mapping[str, str] | None, other: Mapping[str, str] | None) -> Sequence[str]:
    """The sections that differ; none where a worker of another version does not tell."""
    if one is None or other is None:
        return ()
    return [name for name in SECTIONS if name in one and name in other and one[name] != other[name]]
