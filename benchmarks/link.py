"""Cuts the link to a host while a job writes its log there, and checks that no byte was lost or doubled.

    python -m benchmarks.link [--cut-s 20] [--kind silence|reset|sshd] [--keepalive-s 3]

A real sshd on loopback, behind a relay that is cut. Exits 1 if a byte, the exit or the order was not exact.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mcp_server.config import Server
from mcp_server.hosts.base import JobSpec
from mcp_server.hosts.ssh import SshHost, SshOptions
from tests.support.cuts import TICKS, Relay, Seen, follow_through, ticked
from tests.support.sshd import Sshd, why_not

PAUSE_S = 0.01  # between two lines of the log


async def cut_once(folder: Path, kind: str, cut_s: float, keepalive_s: float) -> tuple[Seen, int, float]:
    """What a follower saw, how many lines were written, how long after the cut it saw more (s)."""
    server = Sshd(folder / "sshd")
    server.start()
    lines = round((cut_s + 4) / PAUSE_S)
    try:
        async with Relay(server.port).listening() as relay:
            server.configure(port=relay.port, HostKeyAlias="box")
            server.known_hosts.write_text("box " + server.known_hosts.read_text().split(" ", 1)[1])
            options = SshOptions(ssh_config=server.ssh_config, keepalive_s=keepalive_s, connect_s=5)
            host = SshHost("box", Server(host="box", jobs_dir=str(folder / "jobs")), options=options)
            program = TICKS.format(count=lines, pause=PAUSE_S, code=7)
            await host.start(JobSpec("a", [sys.executable, "-c", program], "/"))
            seen = Seen()
            following = asyncio.create_task(follow_through(host, "a", seen, pause_s=0.5))
            await asyncio.sleep(1)
            {"silence": relay.silence, "reset": _both(relay), "sshd": server.kill}[kind]()
            await asyncio.sleep(cut_s)
            before, back = seen.size, time.monotonic()
            server.start() if kind == "sshd" else relay.restore()
            while seen.size == before and not following.done():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            again_s = time.monotonic() - back
            await following
            await host.aclose()
            return seen, lines, again_s
    finally:
        server.kill()


def _both(relay: Relay) -> Callable[[], None]:
    def cut() -> None:
        relay.refuse()
        relay.reset()

    return cut


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cut-s", type=float, default=20)
    parser.add_argument("--kind", choices=("silence", "reset", "sshd"), default="silence")
    parser.add_argument("--keepalive-s", type=float, default=3)
    options = parser.parse_args()
    if why := why_not():
        sys.exit(why)
    with tempfile.TemporaryDirectory() as folder:
        seen, lines, again_s = asyncio.run(cut_once(Path(folder), options.kind, options.cut_s, options.keepalive_s))
    good = (seen.size, seen.crc) == ticked(lines) and seen.end is not None and seen.end.code == 7
    print("| cut | bytes | exact | away | first byte after the link is back |\n|---|---|---|---|---|")
    print(
        f"| {options.kind} {options.cut_s:g} s | {seen.size} | {'yes' if good else 'NO'} | "
        f"asked {seen.times_away} times in vain | {again_s:.2f} s |"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
