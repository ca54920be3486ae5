"""Recorded boots and what is made of bytes that a console brings."""

from pathlib import Path

from mcp_server.hosts.base import Exit, ExitReason
from mcp_server.idf.verdict import FirmwareLog, judge
from mcp_server.model import Verdict

SERIAL = Path(__file__).parents[2] / "fixtures" / "serial"
BOOT = (SERIAL / "serial-ok-c3-qemu.log").read_bytes()
CRASH = (SERIAL / "serial-crash-c3-qemu.log").read_bytes()
CUT = CRASH.index(b"Rebooting...")
STARTED = b"I (80) main_task: Calling app_main()\n"
TIMEOUT = Exit(ExitReason.TIMEOUT, 124)
ENDED = Exit(ExitReason.EXIT, 0)

TESTS = b"main/t.c:3:a:PASS\nmain/t.c:9:b:%s\n\n-----------------------\n2 Tests %d Failures 0 Ignored \n%s\n"


def watched(data: bytes, *expect: str, fail_on: tuple[str, ...] = (), end: Exit | None = None) -> Verdict:
    log = FirmwareLog(expect, fail_on)
    log.feed(data)
    return judge(log, end, watched_s=10)
