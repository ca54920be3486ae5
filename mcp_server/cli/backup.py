"""`backup` and `restore`: everything that is remembered as one file, and back."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcp_server.cli.options import Json

if TYPE_CHECKING:
    from mcp_server.backup.bring_back import Restored
    from mcp_server.backup.take import Taken
    from mcp_server.orchestrator import Orchestrator

NewFile = Annotated[str, typer.Argument(metavar="FILE", help="A new file, e.g. nightly.tar.gz; it is made 0600.")]
File = Annotated[str, typer.Argument(metavar="FILE", help="What `backup` wrote.")]
Artifacts = Annotated[bool, typer.Option("--artifacts", help="With the files and logs that builds left here.")]
Secrets = Annotated[bool, typer.Option("--secrets", help="With the secrets, as plain text.")]
Force = Annotated[bool, typer.Option("--force", help="Also where there are builds: what is here now is put aside.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what was open. Only where the other store is gone.")]


def backup(file: NewFile, artifacts: Artifacts = False, secrets: Secrets = False, json: Json = False) -> int:
    """Copy everything that is remembered into one file, while builds go on.

    Projects, builds, events, tokens and config.yaml, all as of one moment, with a hash of each part. Clones, checkouts
    and the logs of jobs are not in it. It can be restored into another home, and into another kind of database.
    """
    from mcp_server.cli.session import with_orchestrator  # noqa: PLC0415  # only what --help does without

    async def work(orchestrator: "Orchestrator") -> int:
        from mcp_server.backup.take import take  # noqa: PLC0415 - as above

        store = await orchestrator.store()
        made = await take(
            orchestrator.config, store, orchestrator.clock, Path(file), artifacts=artifacts, secrets=secrets
        )
        _show_taken(made, json=json)
        return 0

    return with_orchestrator(work)


def restore(file: File, force: Force = False, resume: Resume = False, json: Json = False) -> int:
    """Bring a backup in, also into another kind of database.

    Its hashes are checked first, then all of it comes, or nothing; nothing is overwritten. End the worker and the
    service before. It becomes a copy: builds that were open are over, nobody is told of anything, and numbers of builds
    go on at the next thousand, as the other store may have given some since. With --resume it is the same store at
    another place, whose jobs are found again.
    """
    import asyncio  # noqa: PLC0415 - as above

    from mcp_server.backup.bring_back import restore as bring_back  # noqa: PLC0415
    from mcp_server.clock import SystemClock  # noqa: PLC0415
    from mcp_server.config import load_config  # noqa: PLC0415

    done = asyncio.run(bring_back(load_config(), SystemClock(), Path(file), force=force, resume=resume))
    _show_restored(done, json=json)
    return 0


def _show_taken(made: "Taken", *, json: bool) -> None:
    from mcp_server.cli import screen  # noqa: PLC0415
    from mcp_server.report_parts import plural  # noqa: PLC0415

    if json:
        screen.print_json(
            {
                "file": str(made.path),
                "bytes": made.size,
                "tables": made.tables,
                "config": made.config,
                "artifacts": made.results,
                "secrets": made.secrets,
            }
        )
        return
    parts = [f"{plural(made.tables['builds'], 'build')}, {plural(made.tables['events'], 'event')}"]
    parts.append("config.yaml" if made.config else "no config.yaml")
    parts.append("no results (--artifacts)" if made.results is None else f"{plural(made.results, 'file')} of results")
    parts.append(
        "no secrets (--secrets)" if made.secrets is None else f"{plural(made.secrets, 'secret')} as plain text"
    )
    screen.out().say(str(made.path))
    screen.err().say(f"{made.size / 1e6:,.1f} MB · {' · '.join(parts)}")


def _show_restored(done: "Restored", *, json: bool) -> None:
    from mcp_server.cli import screen  # noqa: PLC0415
    from mcp_server.report_parts import plural  # noqa: PLC0415

    if json:
        screen.print_json(
            {
                "taken_at": done.taken_at.isoformat(),
                "tables": done.tables,
                "ended": done.ended,
                "resumed": done.resumed,
                "config": done.config or None,
                "artifacts": done.results,
                "secrets": done.secrets,
                "aside": done.aside,
            }
        )
        return
    lines = [f"restored: {plural(done.tables['builds'], 'build')} as of {done.taken_at:%Y-%m-%d %H:%M} UTC"]
    if done.ended:
        lines.append(f"open then, and over now as failed (lost): {plural(done.ended, 'build')}")
    if done.results is not None:
        lines.append(f"{plural(done.results, 'file')} of results")
    if done.secrets is not None:
        lines.append(plural(done.secrets, "secret"))
    if done.config:
        lines.append(f"its config.yaml is {done.config}")
    screen.out().say(*lines)
    notes = [f"put aside: {path}" for path in done.aside]
    if done.tokens:
        notes.append("tokens are those of then, also any that was taken away since: `tokens list`")
    screen.err().say(*notes)
