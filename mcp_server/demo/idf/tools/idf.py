"""The simulated ESP-IDF's idf.py: builds the project of build-orchestrator's demo, for target linux, with real tools.

For target esp32c3 it compiles the same program of this machine and puts it into an image that the virtual chip runs.

Prints, exits and leaves files as idf.py of ESP-IDF 6.0 does; SIMULATED.md says what it is for. It is the test double of
the real one, too. These variables change how it behaves:

IDF_DEMO_STEP_S=0.5  every compile step takes so many seconds longer
IDF_DEMO_FILES=200   so many more source files are made (in the build directory) and compiled
IDF_DEMO_NOISE=9000  prints so many bytes first: broken UTF-8, colours, bare returns, long lines, on both streams
IDF_DEMO_HANG=1      builds nothing: waits for ever, with a child process that ignores TERM
IDF_DEMO_EXIT=3      builds nothing: exits with this code; -9 ends by signal 9
"""

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

sys.dont_write_bytecode = True  # the installation may belong to another user

from idf_py_actions.constants import PREVIEW_TARGETS, SUPPORTED_TARGETS  # noqa: E402
from simulated import actions  # noqa: E402
from simulated.configure import refuse_target  # noqa: E402
from simulated.place import BANNER, IDF_PATH, TARGETS, FatalError, complain, say, version  # noqa: E402


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        complain("Usage: idf.py [OPTIONS] [COMMAND1] [ARGS]... [COMMAND2 [ARGS]...]...")
        complain("Try 'idf.py --help' for help.\n")
        complain(f"Error: {message}")
        sys.exit(2)


def _parser() -> _Parser:
    parser = _Parser(prog="idf.py", description=BANNER, allow_abbrev=False)
    parser.add_argument("--version", action="store_true", help="Show IDF version and exit.")
    parser.add_argument("--list-targets", action="store_true", help="Print list of supported targets and exit.")
    parser.add_argument("-C", "--project-dir", type=Path, default=Path(), help="Project directory.")
    parser.add_argument("-B", "--build-dir", type=Path, help="Build directory.")
    parser.add_argument("-D", "--define-cache-entry", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("-p", "--port", help="Serial port; nothing here uses it.")
    parser.add_argument("-b", "--baud", help="Baud rate; nothing here uses it.")
    parser.add_argument("-G", "--generator", choices=["Ninja"])
    parser.add_argument("-v", "--verbose", action="store_true")
    parser.add_argument("--preview", action="store_true", help="Enable IDF features that are still in preview.")
    parser.add_argument("--no-hints", action="store_true")
    parser.add_argument("--ccache", action="store_true", default=os.environ.get("IDF_CCACHE_ENABLE") == "1")
    parser.add_argument("--no-ccache", dest="ccache", action="store_false")
    parser.add_argument("actions", nargs="*", help="set-target TARGET, build (all), reconfigure, clean, fullclean")
    return parser


def _take_target(words: list[str]) -> str | None:
    """The argument of set-target, taken out of `words`; ends the program as idf.py does where it is wrong."""
    if "set-target" not in words:
        return None
    at = words.index("set-target") + 1
    target = words.pop(at).lower().replace("-", "") if at < len(words) else ""
    known = SUPPORTED_TARGETS + PREVIEW_TARGETS
    if target not in known:
        choices = "{" + "|".join(known) + "}"
        problem = f"Invalid value for '{choices}': '{target}' is not one of {', '.join(map(repr, known))}."
        complain(f"Usage: idf.py set-target [OPTIONS] {choices}")
        complain("Try 'idf.py set-target --help' for help.\n")
        complain(f"Error: {problem if target else f'Missing argument {choices!r}.'}")
        sys.exit(2)
    if target not in TARGETS:
        raise FatalError(refuse_target(target))
    return target


def _sorted_actions(words: list[str]) -> list[str]:
    """Each once, cleaning before configuring before building, whatever the order on the command line."""
    names = list(dict.fromkeys("all" if word == "build" else word for word in words))
    if "set-target" in names and "fullclean" not in names:
        say('Adding "set-target"\'s dependency "fullclean" to list of commands with default set of options.')
        names.append("fullclean")
    return sorted(names, key=lambda name: actions.ORDER.index(name) if name in actions.ORDER else len(actions.ORDER))


def _run(args: argparse.Namespace) -> None:
    project_dir = args.project_dir.resolve()
    new_target = _take_target(args.actions)
    options = actions.Options(
        project_dir=project_dir,
        build_dir=(args.build_dir or project_dir / "build").resolve(),
        preview=args.preview,
        ccache=args.ccache,
        with_hints=not args.no_hints,
        verbose=args.verbose,
        entries=dict(entry.partition("=")[::2] for entry in args.define_cache_entry),
        new_target=new_target,
    )
    if new_target:
        options.entries["IDF_TARGET"] = new_target
    for name in _sorted_actions(args.actions):
        actions.perform(name, options)
    say("Done")


def main() -> int:
    args = _parser().parse_intermixed_args()
    complain(BANNER)
    if args.version:
        say(f"ESP-IDF v{version()}")
        return 0
    if args.list_targets:
        say("\n".join(SUPPORTED_TARGETS + (PREVIEW_TARGETS if args.preview else [])))
        return 0
    if not args.actions:
        _parser().print_help()
        return 0
    if "IDF_PATH" not in os.environ:
        complain(f"Setting IDF_PATH environment variable: {IDF_PATH}")
        os.environ["IDF_PATH"] = str(IDF_PATH)
    python = os.environ.get("IDF_PYTHON_ENV_PATH", sys.prefix) + "/bin/python"
    if not Path(python).exists() and not Path(python + "3").exists():
        complain(
            f'ERROR: {python} doesn\'t exist! Please run the install script or "idf_tools.py install-python-env" in '
            "order to create it\n"
        )
        complain(f"ESP-IDF v{version()}")
        return 1
    try:
        _run(args)
    except FatalError as error:
        complain(str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
