"""Stands in for CMake: `simulated_cmake.py -S PROJECT -B BUILD -DKEY=VALUE…`; ninja runs it to configure again."""

import argparse
import sys
from pathlib import Path

sys.dont_write_bytecode = True  # the installation may belong to another user

from simulated import cache, configure  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(prog="cmake", allow_abbrev=False)
    parser.add_argument("-S", dest="project_dir", type=Path, required=True)
    parser.add_argument("-B", dest="build_dir", type=Path, required=True)
    parser.add_argument("-D", dest="entries", action="append", default=[])
    parser.add_argument("--regenerate-during-build", action="store_true")
    args = parser.parse_args()
    entries = cache.read(args.build_dir)
    entries |= dict(entry.partition("=")[::2] for entry in args.entries)
    entries |= {"CMAKE_GENERATOR": "Ninja", "CMAKE_HOME_DIRECTORY": str(args.project_dir)}
    return configure.configure(configure.Request(args.project_dir, args.build_dir, entries))


if __name__ == "__main__":
    sys.exit(main())
