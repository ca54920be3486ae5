"""What no single field of config.yaml can know: names that point at each other, keys that belong together.

Looks at the raw values, so that these mistakes are found beside any other.
"""

import re
from typing import Any

from mcp_server.config_agents import across_agents
from mcp_server.config_schedules import across_schedules
from mcp_server.yaml_document import Document, Mistake, entries
from mcp_server.yaml_model import nearest

LOCAL = "local"

_SERVER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # it becomes part of a build directory's name


def across(document: Document) -> list[Mistake]:
    """Every such mistake in the file."""
    servers = {name: entries(entry) for name, entry in entries(document.data, "servers").items()}
    channels = {name: entries(entry) for name, entry in entries(document.data, "notifications").items()}
    return [
        *_across_servers(document, servers),
        *_across_channels(document, channels),
        *across_agents(document),
        *across_schedules(document),
    ]


def _across_servers(document: Document, servers: dict[str, dict[str, Any]]) -> list[Mistake]:
    found: list[Mistake] = []
    called = dict.fromkeys(servers, "")  # name or alias → whose alias
    for name, entry in servers.items():
        here = ("servers", name)
        if not _SERVER_NAME.fullmatch(name):
            found.append(
                document.mistake(
                    here, "a server's name has letters, digits, '.', '_' and '-' only, 64 at most", at_key=True
                )
            )
        wrong = [key for key in ("host", "exec", "user", "port", "fallback") if entry.get(key) is not None]
        if name == LOCAL and wrong:
            found.append(
                document.mistake((*here, wrong[0]), f"'local' is this machine and takes no {wrong[0]}", at_key=True)
            )
        if name != LOCAL and not (entry.get("host") or entry.get("exec")):
            found.append(
                document.mistake(here, f"servers.{name} needs host (SSH) or exec (a command channel)", at_key=True)
            )
        alias = entry.get("alias")
        if isinstance(alias, str):
            if alias == LOCAL or alias in called:
                found.append(
                    document.mistake((*here, "alias"), f"the name '{alias[:60]}' is taken; choose another alias")
                )
            called.setdefault(alias, name)
    return found + _fallbacks(document, servers, called)


def _fallbacks(document: Document, servers: dict[str, dict[str, Any]], called: dict[str, str]) -> list[Mistake]:
    """A fallback that is no server, or that leads back to where it began."""
    found: list[Mistake] = []
    for name in servers:
        way = [name]
        while isinstance(fallback := servers.get(way[-1], {}).get("fallback"), str):
            here = ("servers", way[-1], "fallback")
            if fallback not in called and fallback != LOCAL:
                known = [*servers, LOCAL]
                found.append(document.mistake(here, f"no server '{fallback[:60]}'{nearest(fallback, known)}"))
                break
            way.append(called.get(fallback) or fallback)
            if way[-1] in way[:-1]:
                circle = way[way.index(way[-1]) :]
                if circle[0] == min(circle):  # each circle once, whichever server leads into it
                    found.append(document.mistake(here, f"the fallbacks go in a circle: {' → '.join(circle)}"))
                break
    return found


def _across_channels(document: Document, channels: dict[str, dict[str, Any]]) -> list[Mistake]:
    found: list[Mistake] = []
    for name, entry in channels.items():
        own = {"discord": ("target",), "telegram": ("chat_id", "token")}.get(name, ())
        strange = [key for key in ("target", "chat_id", "token") if key in entry and key not in own]
        here = ("notifications", name)
        if strange and (near := nearest(name, ["discord", "telegram"])).startswith("; did"):
            found.append(document.mistake(here, f"unknown channel '{name[:60]}'{near}", at_key=True))
        elif strange:
            found.append(
                document.mistake(
                    (*here, strange[0]), f"{name[:60]} takes enabled and url, no {strange[0]}", at_key=True
                )
            )
        elif not any(entry.get(key) for key in ("url", *own[:1])) and entry.get("enabled") != "false":
            needed = f"{own[0]} or url" if own else "url, e.g. ${secret:" + name[:60] + "}"
            found.append(document.mistake(here, f"notifications.{name[:60]} needs {needed}", at_key=True))
    return found
