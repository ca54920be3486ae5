"""`diagnose`: the verdict on a saved build log, wherever it was made."""

from typing import Annotated

import typer

from mcp_server.cli.options import Json

Files = Annotated[list[str] | None, typer.Argument(metavar="FILE", help="A saved log; - or none at all reads stdin.")]


def diagnose(files: Files = None, json: Json = False) -> int:
    """Print the verdict on any saved build log.

    At most 1,000 bytes a file: the first causes with place, source line and hint. Exits 1 if a failure was found in
    any of them, 0 if in none, 2 if one could not be read.
    """
    from mcp_server.cli.saved_log import diagnose_files  # noqa: PLC0415  # its rules load longer than --help should take

    return diagnose_files(files or ["-"], json=json)
