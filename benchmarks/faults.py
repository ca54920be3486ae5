"""The long fault run: kills fronts, workers and supervisors at seeded random moments, then checks every promise.

    python benchmarks/faults.py [--kills 1000] [--builds 200] [--seed 1] [--longest-s 12]

About 0.5 s a kill. Exits 1 if a build was left open or ended otherwise than it had to, a job was started twice, a lease
or a process was left.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.faults import torment  # noqa: E402
from tests.support.workers import end_everything  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--builds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--longest-s", type=float, default=12.0, help="of a job; longer makes room for more kills")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        try:
            report = asyncio.run(
                torment(
                    home,
                    kills=options.kills,
                    count=options.builds,
                    seed=options.seed,
                    longest_s=options.longest_s,
                    limit_s=options.kills * 2 + 300,
                )
            )
        finally:
            end_everything(home)
    kills = sum(report.kills.values())
    print(f"| kills | {kills}: " + ", ".join(f"{count} {what}" for what, count in report.kills.items()) + " |")
    print(f"| builds | {options.builds}: " + ", ".join(f"{n} {end}" for end, n in sorted(report.ends.items())) + " |")
    print(f"| jobs | {report.jobs}, in {report.seconds:.0f} s |")
    for sentence in report.broken:
        print(f"BROKEN: {sentence}")
    if kills < options.kills:
        print(f"only {kills} kills: raise --builds or --longest-s")
    return 1 if report.broken or kills < options.kills else 0


if __name__ == "__main__":
    sys.exit(main())
