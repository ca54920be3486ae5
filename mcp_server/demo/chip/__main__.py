"""`python -m mcp_server.demo.chip`: a virtual ESP32 on a pty or a TCP port, until it is ended."""

import argparse
import asyncio
import json
import sys
from pathlib import Path

from mcp_server.demo.chip import models
from mcp_server.demo.chip.boot import BootSettings
from mcp_server.demo.chip.faults import HELP, parse_faults
from mcp_server.demo.chip.serve import Settings, serve
from mcp_server.errors import BadInput, OrchestratorError

DEFAULT_MAC = "7c:df:a1:00:00:01"
REFUSED = 2  # exit code


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mcp_server.demo.chip",
        description="A virtual ESP32 that esptool can flash and that boots what was flashed. It is simulated: an app "
        "is run if it is a host program in an envelope; the code of a chip cannot be executed.",
    )
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--pty", action="store_true", help="on a pty; its path is printed first")
    way.add_argument("--rfc2217", type=int, metavar="PORT", help="on 127.0.0.1, with speed and reset lines; 0: any")
    way.add_argument("--socket", type=int, metavar="PORT", help="on 127.0.0.1, plain bytes; 0: any")
    parser.add_argument("--link", type=Path, metavar="PATH", help="a symbolic link to the pty, kept up to date")
    parser.add_argument(
        "--flash", type=Path, metavar="FILE", required=True, help="the flash's contents; made if absent"
    )
    parser.add_argument("--flash-size", default="4MB", metavar="SIZE", help=f"{', '.join(models.FLASH_SIZES)}")
    parser.add_argument("--chip", default="esp32c3", help=", ".join(models.MODELS))
    parser.add_argument("--revision", metavar="X.Y")
    parser.add_argument("--mac", default=DEFAULT_MAC)
    parser.add_argument("--baud", type=int, help="the app's rate: clients at another one see garbage; else any will do")
    parser.add_argument("--play", type=Path, metavar="FILE", help="a recorded log for an app that cannot be executed")
    parser.add_argument("--pace", type=float, default=1.0, metavar="F", help="times the recording's pauses; 0: none")
    parser.add_argument("--fault", action="append", default=[], metavar="NAME[=VALUE]", help=HELP.replace("%", "%%"))
    parser.add_argument("--json", action="store_true", help="events as JSON lines on stdout")
    parser.add_argument("--orders", action="store_true", help="orders as JSON lines from stdin; ends with stdin")
    parser.add_argument("--while-stdin", action="store_true", help="end when stdin ends")
    return parser


def settings_of(options: argparse.Namespace) -> Settings:
    """BadInput names the option and what would be right."""
    model = models.find_model(options.chip)
    if options.link and not options.pty:
        raise BadInput("link", "only a pty has one")
    if options.play and not options.play.is_file():
        raise BadInput("play", f"{options.play} is no file")
    if options.pace < 0:
        raise BadInput("pace", "it is 0 or more")
    way = "pty" if options.pty else "rfc2217" if options.rfc2217 is not None else "socket"
    return Settings(
        flash=options.flash,
        flash_size=models.flash_bytes(options.flash_size),
        boot=BootSettings(
            model=model,
            revision=models.parse_revision(options.revision, model) if options.revision else model.revision,
            play=options.play,
            pace=options.pace,
        ),
        mac=models.check_mac(options.mac),
        faults=parse_faults(options.fault),
        way=way,
        tcp=options.rfc2217 or options.socket or 0,
        link=options.link,
        baud=options.baud,
        orders=options.orders,
        while_stdin=options.while_stdin,
    )


def tell_people(event: str, **fields: object) -> None:
    """The port alone on stdout, so that a script can read it; all else on stderr."""
    if event == "port":
        print(fields["port"], flush=True)  # noqa: T201
        return
    told = " ".join(f"{name}={value}" for name, value in fields.items())
    print(f"virtual chip (simulated): {event} {told}".rstrip(), file=sys.stderr, flush=True)  # noqa: T201


def tell_programs(event: str, **fields: object) -> None:
    """One JSON object a line on stdout."""
    print(json.dumps({"event": event, **fields}), flush=True)  # noqa: T201


def main() -> int:
    options = parser().parse_args()
    try:
        asyncio.run(serve(settings_of(options), tell_programs if options.json else tell_people))
    except OrchestratorError as error:
        print(f"virtual chip: {error}", file=sys.stderr)  # noqa: T201
        return REFUSED
    except BrokenPipeError:  # whoever listened to the events is gone
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
