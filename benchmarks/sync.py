"""Times trees brought to a host against `rsync -a -e ssh`, in one run, on a real sshd on loopback.

    python -m benchmarks.sync [--files 3000] [--runs 5]

Each figure is a median of runs that alternate: rsync with an ssh of its own, rsync with an ssh that is kept open
(ControlMaster), ours by rsync, ours by tar. Our connection is open before, as it is in a worker; the row "first
contact" is with a new one.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from unittest import mock

from mcp_server.config import Server
from mcp_server.hosts import sync
from mcp_server.hosts.ssh import SshHost, SshOptions
from tests.support.sshd import Sshd, why_not

FILE_BYTES = 4240  # 12.7 MB in 3,000 files, as a mid-sized source tree
FOLDER_FILES = 20
Row = tuple[str, ...]
Way = Callable[[str], Awaitable[object]]


def make_tree(folder: Path, files: int) -> None:
    for number in range(files):
        path = folder / f"part{number // (FOLDER_FILES * 10)}" / f"dir{number // FOLDER_FILES}" / f"file{number}.c"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"// {number}\n".encode() * (FILE_BYTES // len(f"// {number}\n")))


class Bench:
    """One tree, one server, three ways."""

    def __init__(self, server: Sshd, folder: Path, files: int) -> None:
        self.server, self.folder, self.source = server, folder, folder / "source"
        make_tree(self.source, files)
        self.changes = 0
        self.host = self.new_host()

    def new_host(self) -> SshHost:
        entry = Server(host="box", jobs_dir=str(self.folder / "jobs"))
        return SshHost("box", entry, options=SshOptions(ssh_config=self.server.ssh_config))

    def change(self) -> None:
        self.changes += 1
        (self.source / "part0" / "dir0" / "file1.c").write_text(f"int changed = {self.changes};\n")

    async def plain(self, target: str, options: str = "") -> None:
        ssh = f"ssh -F {self.server.ssh_config}{options}"
        command = ["rsync", "-a", "--delete", "-e", ssh, f"{self.source}/", f"box:{target}/"]
        process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.DEVNULL)
        if await process.wait():
            raise RuntimeError("rsync failed")

    async def kept(self, target: str) -> None:
        await self.plain(target, f" -o ControlMaster=auto -o ControlPersist=60 -o ControlPath={self.folder}/kept")

    async def end_kept(self) -> None:
        command = [
            "ssh",
            "-F",
            str(self.server.ssh_config),
            "-o",
            f"ControlPath={self.folder}/kept",
            "-O",
            "exit",
            "box",
        ]
        process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL)
        await process.wait()

    async def by_rsync(self, target: str) -> None:
        report = await sync.push_tree(self.host, self.source, target)
        assert report.how == "rsync"

    async def by_tar(self, target: str) -> None:
        with mock.patch.object(sync, "local_version", lambda: None):
            report = await sync.push_tree(self.host, self.source, target)
        assert report.how == "tar"

    async def first_contact(self, target: str) -> None:
        host = self.new_host()
        try:
            await sync.push_tree(host, self.source, target)
        finally:
            await host.aclose()

    async def times(self, runs: int, change: bool, ways: dict[str, Way]) -> dict[str, float]:
        """Seconds a way: into new folders, or after a change of one file."""
        took: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(runs):
            if change:
                self.change()
            for name, way in ways.items():
                target = str(self.folder / (f"{name}-changed" if change else f"{name}-{number}"))
                began = time.perf_counter()
                await way(target)
                took[name].append(time.perf_counter() - began)
        return {name: statistics.median(values[1:] if change else values) for name, values in took.items()}


async def measure(options: argparse.Namespace, folder: Path) -> list[Row]:
    server = Sshd(folder / "sshd")
    server.start()
    try:
        bench = Bench(server, folder, options.files)
        await bench.by_rsync(str(folder / "warm-up"))
        ways: dict[str, Way] = {"plain": bench.plain, "kept": bench.kept, "rsync": bench.by_rsync, "tar": bench.by_tar}
        full = await bench.times(min(3, options.runs), False, ways)
        ways["first"] = bench.first_contact
        change = await bench.times(options.runs + 1, True, ways)
        await bench.end_kept()
        await bench.host.aclose()
    finally:
        server.kill()
    rows = [row("all of it", full, "")]
    good = change["rsync"] <= 1.3 * change["plain"]
    rows.append(row("after one change", change, f"by rsync ≤ 1.3 ×: {'yes' if good else 'NO'}"))
    first = {**change, "rsync": change["first"]}
    return [*rows, row("after one change, first contact", {key: first[key] for key in ("plain", "rsync")}, "")]


def row(what: str, took: dict[str, float], limit: str) -> Row:
    cells = [what, f"{took['plain'] * 1e3:.0f} ms"]
    for name in ("kept", "rsync", "tar"):
        cells.append(f"{took[name] * 1e3:.0f} ms = {took[name] / took['plain']:.2f} ×" if name in took else "")
    return (*cells, limit)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    if why := why_not():
        sys.exit(why)
    with tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(measure(options, Path(folder)))
    head = (f"{options.files} files", "rsync -a -e ssh", "its ssh kept", "ours by rsync", "ours by tar", "limit")
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for each in rows:
        print("| " + " | ".join(each) + " |")


if __name__ == "__main__":
    main()
