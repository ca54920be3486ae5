"""The long fault run of a team: three workers on one PostgreSQL are killed, frozen and cut off, then all is checked.

    python benchmarks/team_faults.py [--faults 100] [--seed 1] [--longest-s 3] [--keep FOLDER]

About 0.7 s a fault. Exits 1 if a build was left open or ended otherwise than it had to, a job was started twice, a
limit was passed, a lease or a hand-over was left, an event or a callback was missed.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.postgres import Server, running  # noqa: E402
from tests.support.team_faults import (  # noqa: E402
    JOB,
    WORKERS,
    Report,
    RestartedServer,
    Torment,
    TormentedTeam,
    make_front,
    relays,
)
from tests.support.team_promises import check  # noqa: E402


async def torment(server: Server, name: str, top: Path, options: argparse.Namespace) -> Report:
    async with relays(server) as all_relays:
        team, restarted = TormentedTeam(top / "team", server.url(name)), RestartedServer(server)
        team.relays = all_relays
        team.ports = {number: relay.port for number, relay in all_relays.items()}
        (team.work / "started").mkdir()
        (team.work / "job").write_text(JOB)
        (team.work / "job").chmod(0o755)
        front = make_front(team)
        team.have_none(0)  # the front would start one, which nobody torments
        try:
            await front.store()
            team.start(*WORKERS)
            run = Torment(team, restarted, front, options.seed)
            await run.run(options.faults, options.longest_s, options.faults * 2 + 120)
            check(run)
            return run.report
        finally:
            await front.aclose()
            team.close()
            restarted.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--longest-s", type=float, default=3.0, help="of a job")
    parser.add_argument("--keep", help="a folder for the homes and logs, which stays")
    options = parser.parse_args()
    with running() as server, tempfile.TemporaryDirectory() as folder:
        with server.connect() as c:
            c.execute("CREATE DATABASE team LC_COLLATE 'C' TEMPLATE template0")
        top = Path(options.keep or folder)
        report = asyncio.run(torment(server, "team", top, options))
    print(f"| faults | {report.faults.total()}: " + ", ".join(f"{n} {w}" for w, n in sorted(report.faults.items())))
    print("| builds | " + ", ".join(f"{count} {end}" for end, count in sorted(report.ends.items())) + " |")
    for name, figure in report.figures.items():
        print(f"| {name} | {figure} |")
    for sentence in report.broken:
        print(f"BROKEN: {sentence}")
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
