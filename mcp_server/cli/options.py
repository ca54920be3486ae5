"""Arguments and options that several commands take."""

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]
ProjectFolder = Annotated[str, typer.Option("--project", metavar="DIR", help="ESP-IDF project.")]
BuildNumber = Annotated[str, typer.Argument(metavar="BUILD", help="A build's number, such as 42, or its UUID.")]
Agent = Annotated[
    str | None, typer.Option("--agent", metavar="NAME", help="The agent that mends; `agents` lists them.")
]
