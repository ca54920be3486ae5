"""The simulated ESP-IDF's idf_tools.py: `export` prints what an activated environment adds, as ESP-IDF's own does."""

import argparse
import os
import shutil
import sys
from pathlib import Path

sys.dont_write_bytecode = True  # the installation may belong to another user

from simulated.place import BANNER, IDF_PATH, FatalError, complain, find_ninja, say, version  # noqa: E402


def _exports() -> dict[str, str]:
    """Variables that differ from the environment's; PATH in front of `$PATH`, which the reader replaces."""
    folders = [str(Path(sys.executable).parent), str(IDF_PATH / "tools")]
    if not shutil.which("ninja"):
        try:
            folders.insert(0, str(Path(find_ninja()).parent))
        except FatalError as error:
            complain(f"WARNING: {error}")
    wanted = {"IDF_PYTHON_ENV_PATH": sys.prefix, "ESP_IDF_VERSION": ".".join(version().split(".")[:2])}
    changed = {name: value for name, value in wanted.items() if os.environ.get(name) != value}
    # ESP-IDF's own makes a file for `deactivate` at every call and leaves it behind.
    return changed | {"PATH": ":".join([*dict.fromkeys(folders), "$PATH"]), "IDF_DEACTIVATE_FILE_PATH": os.devnull}


def main() -> int:
    parser = argparse.ArgumentParser(prog="idf_tools.py", description=BANNER)
    commands = parser.add_subparsers(dest="command", required=True)
    export = commands.add_parser("export", help="Print the variables of an activated environment.")
    export.add_argument("--format", choices=["shell", "key-value"], default="shell")
    export.add_argument("--prefer-system", action="store_true")
    args = parser.parse_args()
    complain(BANNER)
    if args.format == "key-value":
        say("\n".join(f"{name}={value}" for name, value in _exports().items()))
    else:
        say(";".join(f'export {name}="{value}"' for name, value in _exports().items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
