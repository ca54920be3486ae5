"""Runs cmake and ninja as idf.py does: output passed on line by line, and kept in build/log."""

import re
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TextIO

from .hints import hints
from .place import FatalError, say

LAST_WORDS_S = 5

_ESCAPE = re.compile(r"\x1B(?:[@-Z\\-_]|\[[0-?]*[ -/]*[@-~])")


@dataclass
class Tool:
    """One command. `shown` is how it is printed, where that differs from what runs."""

    name: str
    argv: list[str]
    build_dir: Path
    shown: str
    with_hints: bool = True


def _color(message: str, color: str) -> None:
    sys.stderr.write(f"\033[{color}m{message}\033[0m\n")
    sys.stderr.flush()


def _pass_on(source: IO[bytes], kept: Path, target: TextIO) -> None:
    with kept.open("w", encoding="utf-8") as log:
        for raw in source:
            line = raw.decode("utf-8", "ignore")
            plain = _ESCAPE.sub("", line)
            log.write(plain)
            target.write(line if target.isatty() else plain)
            target.flush()


def run(tool: Tool) -> None:
    """Run it to its end; FatalError with idf.py's words where it failed."""
    say(f"Running {tool.name} in directory {tool.build_dir}")
    say(f'Executing "{tool.shown}"...')
    logs = tool.build_dir / "log"
    logs.mkdir(exist_ok=True)
    with subprocess.Popen(tool.argv, cwd=tool.build_dir, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        out, err = (logs / f"idf_py_{name}_output_{process.pid}" for name in ("stdout", "stderr"))
        pumps = [
            threading.Thread(target=_pass_on, args=(process.stdout, out, sys.stdout), daemon=True),
            threading.Thread(target=_pass_on, args=(process.stderr, err, sys.stderr), daemon=True),
        ]
        for pump in pumps:
            pump.start()
        try:
            for pump in pumps:
                pump.join()
        except KeyboardInterrupt:
            _color(f"\n{tool.name} process terminated\n", "1;31")
        code = process.wait()
        for pump in pumps:  # after an interrupt: its last words are still on their way
            pump.join(LAST_WORDS_S)
    if code == 0:
        return
    if tool.with_hints:
        for hint in hints(err, out):
            _color(hint, "0;33")
    raise FatalError(f"{tool.name} failed with exit code {code}, output of the command is in the {err} and {out}")
