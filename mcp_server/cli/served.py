"""The two commands that clients and fronts start, not people; the program's entry runs them before any of this."""

from mcp_server.errors import BadInput


def mcp() -> int:
    """Serve MCP over stdio; what a client starts.

    stdout carries nothing but the protocol. Builds go on when the client ends.
    """
    raise BadInput("mcp", "takes no arguments and comes first: build-orchestrator mcp")


def worker() -> int:
    """Run pending builds; started on demand by the other commands.

    One worker serves a home. It leaves after 15 idle minutes; running jobs outlive it, and the next worker takes
    them over. Started by hand or as a service it takes the place of one that was started on demand.
    """
    raise BadInput("worker", "takes no arguments and comes first: build-orchestrator worker")
