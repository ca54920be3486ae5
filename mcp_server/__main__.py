"""`build-orchestrator`, and `python -m mcp_server`."""

import sys


def main() -> int:
    """Run one command; its exit code.

    `mcp` and `worker` are started by programs, often and in a hurry: neither loads the command line's parser.
    """
    arguments = sys.argv[1:]
    if arguments == ["mcp"]:
        from mcp_server.server import main as serve_mcp  # noqa: PLC0415

        return serve_mcp()
    if arguments[:1] == ["worker"] and not {"-h", "--help"} & set(arguments):
        from mcp_server.engine.worker import main as run_worker  # noqa: PLC0415

        sys.argv = [f"{sys.argv[0]} worker", *arguments[1:]]
        return run_worker()
    from mcp_server.cli.app import main as run_command  # noqa: PLC0415

    return run_command(arguments)


if __name__ == "__main__":
    sys.exit(main())
