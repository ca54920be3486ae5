"""Speaks to whoever watches a serial port of a host, through the folder that stands for the port there."""

import asyncio
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

from mcp_server.errors import BadInput, HostError, HostUnreachable
from mcp_server.hosts.base import Host
from mcp_server.hosts.script import Script

CONSOLE = Script("console")

ANSWER_S = 15  # the script itself gives up after two
COMMAND_BYTES = 4000  # a longer line might mix with another one's: PIPE_BUF is 4096

_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")


async def say(host: Host, key: str, commands: bytes) -> bool:
    """Give lines to the port's monitor; False: there is none.

    HostError where it has read nothing for two seconds, HostUnreachable where nothing is known.
    """
    if any(len(line) >= COMMAND_BYTES for line in commands.split(b"\n")):
        raise BadInput("commands", f"a line may have {COMMAND_BYTES} bytes at most")
    answer, _ = await _ask(host, "say", key, commands)
    if answer == "deaf":
        raise HostError(host.name, f"the monitor of {key} takes no commands now: wait, or cancel its build")
    return answer == "told"


async def holder(host: Host, key: str) -> Mapping[str, Any] | None:
    """What the port's holder says of itself: job, pid, since (Unix seconds), purpose, port, and `lent` to whom.

    None: nobody wrote anything, or whoever did is gone. The kernel's lock has the last word, not this.
    """
    answer, written = await _ask(host, "holder", key, b"")
    if answer != "alive":
        return None
    try:
        found: Any = json.loads(written)
    except ValueError:
        return None
    return cast("Mapping[str, Any]", found) if isinstance(found, dict) else None


async def _ask(host: Host, op: str, key: str, data: bytes) -> tuple[str, str]:
    """The two lines of the answer."""
    if not _KEY.fullmatch(key):
        raise BadInput("port", f"{key[:60]!r} is no key of a port")
    machine = (await host.directory()).rpartition("/")[2]
    try:
        async with asyncio.timeout(ANSWER_S), host.channel(CONSOLE, op, machine, key) as channel:
            with suppress(OSError):  # it may have ended already, and then has said why
                await channel.write(data)
                await channel.end_input()
            lines = [await channel.readline(), await channel.readline()]
    except TimeoutError:
        lines = [b"", b""]
    if not lines[0].endswith(b"\n"):
        raise HostUnreachable(host.name, f"what it says of port {key} was cut off")
    return lines[0].decode().strip(), lines[1].decode("utf-8", "replace").strip()
