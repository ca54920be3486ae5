"""The code agents that need no configuration, and what no single field of config.yaml's `agents` can know."""

from collections.abc import Mapping
from typing import Any, Literal

from mcp_server.yaml_document import Document, Mistake, entries
from mcp_server.yaml_model import nearest

BUILT_IN: Mapping[str, tuple[Literal["claude", "acp", "anthropic", "ollama"], tuple[str, ...]]] = {
    "claude": ("claude", ()),
    "opencode": ("acp", ("opencode", "acp")),
    "anthropic": ("anthropic", ()),
    "ollama": ("ollama", ()),
}
"""Name → provider, and the command of one that speaks the Agent Client Protocol; in the order of choice."""


def across_agents(document: Document) -> list[Mistake]:
    """A default that is no agent; an agent that nobody knows how to reach, or whose keys do not go together."""
    agents = entries(document.data, "agents")
    found: list[Mistake] = []
    for name, raw in agents.items():
        here, entry = ("agents", name), entries(raw)
        if name == "default" or not (raw is None or isinstance(raw, dict)):
            continue
        if entry.get("acp") and entry.get("url"):
            sentence = f"agents.{name[:60]} takes acp (a command) or url (an OpenCode server), not both"
            found.append(document.mistake(here, sentence, at_key=True))
        elif name not in BUILT_IN and not (entry.get("acp") or entry.get("url")):
            near = nearest(name, list(BUILT_IN))
            guess = near if near.startswith("; did") else ""
            sentence = f"agents.{name[:60]} needs acp (its command) or url (of an OpenCode server){guess}"
            found.append(document.mistake(here, sentence, at_key=True))
        lonely = [key for key in ("username", "password") if entry.get(key) is not None and not _by_http(name, entry)]
        if lonely:
            sentence = f"{lonely[0]} belongs to an OpenCode server's url"
            found.append(document.mistake((*here, lonely[0]), sentence, at_key=True))
    default = agents.get("default")
    known = list(dict.fromkeys([*BUILT_IN, *(name for name in agents if name != "default")]))
    if isinstance(default, str) and default and default not in known:
        found.append(document.mistake(("agents", "default"), f"no agent '{default[:60]}'{nearest(default, known)}"))
    return found


def _by_http(name: str, entry: Mapping[str, Any]) -> bool:
    """Whether it is an OpenCode server: a `url` of another agent that is built in is a model's."""
    return bool(entry.get("url")) and BUILT_IN.get(name, ("acp", ()))[0] == "acp"
