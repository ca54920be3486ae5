"""`build-orchestrator`, and `python -m mcp_server`."""

import gc
import sys

from mcp_server.loading import all_is_loaded


def main() -> int:
    """Run one command; its exit code.

    `mcp` and `worker` are started by programs, often and in a hurry: neither loads the command line's parser.

    What an import makes stays, and looking through it for garbage, again and again, is a fifth of a start. So nothing
    is collected until each of the three has loaded what it needs, and that is then left out of every later search.
    """
    gc.disable()
    arguments = sys.argv[1:]
    if arguments == ["mcp"]:
        from mcp_server.server import main as serve_mcp  # noqa: PLC0415

        return serve_mcp()
    if arguments[:1] == ["worker"] and not {"-h", "--help"} & set(arguments):
        from mcp_server.engine.worker import main as run_worker  # noqa: PLC0415

        all_is_loaded()
        sys.argv = [f"{sys.argv[0]} worker", *arguments[1:]]
        return run_worker()
    from mcp_server.cli.app import main as run_command  # noqa: PLC0415

    try:
        return run_command(arguments)
    finally:
        gc.freeze()  # the interpreter's own last search as well


if __name__ == "__main__":
    sys.exit(main())
