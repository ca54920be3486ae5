"""Reset the board of a serial session, and hear from its log what became of that."""

import asyncio
import re
from typing import NamedTuple

from mcp_server.hosts.base import Host, JobId
from mcp_server.idf import monitor

WAIT_S = 3.0  # a reset takes 0.1 s, and 1 s behind a slow terminal server
LOOK_S = 0.1
TAIL_BYTES = 65_536  # 0.2 s of 3 Mbaud: more than comes between two looks

_SAID = re.compile(
    rb"^--- \[(\d{1,9}\.\d{3})\] (?:(board reset)|(this port has no lines [^\n]*)|reset cannot be done: ([^\n]*))\n",
    re.MULTILINE,
)
_STAMP = re.compile(rb"^(?:--- )?\[(\d{1,9}\.\d{3})\]", re.MULTILINE)


class ResetEnd(NamedTuple):
    """Whether the session has reset its board, and if not, why: its own words, or that it has said nothing."""

    done: bool
    why: str = ""


async def reset_board(host: Host, job_id: JobId, key: str, wait_s: float = WAIT_S) -> ResetEnd | None:
    """Tell the session `job_id` of port `key` to reset; what it says of that within `wait_s`. None: nobody is there.

    Another one's reset at the same moment counts as this one. NotFound: an absent job.
    """
    before = await host.read_log(job_id, -TAIL_BYTES, TAIL_BYTES)
    known = {found[0] for found in _SAID.finditer(before)}
    since = max((float(stamp) for stamp in _STAMP.findall(before)), default=0.0)
    if not await monitor.reset(host, key):
        return None
    end = asyncio.get_running_loop().time() + wait_s
    while True:
        for found in _SAID.finditer(await host.read_log(job_id, -TAIL_BYTES, TAIL_BYTES)):
            if float(found[1]) >= since and found[0] not in known:
                why = (found[3] or found[4] or b"").decode("utf-8", "replace")
                return ResetEnd(bool(found[2]), why)
        if asyncio.get_running_loop().time() >= end:
            return ResetEnd(False, f"the session has said nothing of it for {wait_s:g} s, and may do it yet")
        await asyncio.sleep(LOOK_S)
