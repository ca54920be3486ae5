"""The program of an emulation's job: merges the flash image, lays out the eFuses, then becomes the emulator.

It is run as a file of its own and imports nothing of ours. Its only argument is a JSON object:
  work     folder of this run, made here inside a folder that other runs may use at the same time
  merge    esptool's command line, run in the working folder; writes `flash`, which must get `size` bytes
  images   {path: sha256} of what is merged
  efuse    the eFuses of a fresh chip, hex; `burnt`: a file of the user's that is copied instead where it exists
  command  the emulator's command line
  gdb      true: the emulator waits for gdb on a free port of 127.0.0.1

What it says begins with `build-orchestrator: `; after the line `START` everything is the emulator's.
Exit codes: 70 an image could not be prepared, 126 the emulator does not run; else the emulator's own.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

START = "the emulator starts"
NOT_PREPARED, NOT_RUN = 70, 126
LEFT_BEHIND_S = 3600  # a run that was killed cannot clean up; one that goes on has its image open and needs no name
OWN = re.compile(r"\d+-[A-Za-z0-9._-]+")


class Refused(Exception):
    """Ends this program with an exit code and a sentence."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


def main(text: str) -> int:
    """Returns only where the emulator was not reached."""
    plan: dict[str, Any] = json.loads(text)
    try:
        work = Path(plan["work"])
        prepare(plan, work)
        command = list(plan["command"])
        check(command[0])
        if plan.get("gdb"):
            command += gdb_words()
        say(START)
        os.execv(command[0], command)  # noqa: S606 - no shell is wanted: the job's process becomes the emulator
    except Refused as refused:
        say(str(refused))
        return refused.code
    except OSError as error:
        say(f"the emulation cannot be prepared: {error}")
        return NOT_PREPARED


def say(sentence: str) -> None:
    sys.stdout.write(f"build-orchestrator: {sentence}\n")
    sys.stdout.flush()


def prepare(plan: dict[str, Any], work: Path) -> None:
    """Fill the run's folder: `flash.bin` and `efuse.bin`."""
    if work.parent.is_symlink():
        raise Refused(NOT_PREPARED, f"{work.parent} is a link, and folders are deleted in there: put a folder there")
    clear(work.parent)
    shutil.rmtree(work, ignore_errors=True)  # of this very attempt, begun once before
    work.mkdir(parents=True)
    flash, efuse, burnt = work / "flash.bin", work / "efuse.bin", Path(plan["burnt"])
    say("merging the flash image")
    merge(plan["merge"])
    changed = [path for path, sha256 in plan["images"].items() if digest(Path(path)) != sha256]
    if changed:
        raise Refused(NOT_PREPARED, f"{changed[0]} was changed by another build in the meantime: run it again")
    size = flash.stat().st_size
    if size != plan["size"]:
        sentence = f"the merged image has {size} bytes, which is not the {plan['size']} of the flash"
        raise Refused(NOT_PREPARED, sentence)
    if burnt.is_file():
        say(f"with the eFuses of {burnt}")
        shutil.copyfile(burnt, efuse)  # idf.py writes to that file, this run to its own
    else:
        efuse.write_bytes(bytes.fromhex(plan["efuse"]))


def clear(folder: Path) -> None:
    """Remove what earlier runs left behind; nothing that has no name of ours."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            old = time.time() - path.lstat().st_mtime > LEFT_BEHIND_S
            if old and path.is_dir() and not path.is_symlink() and OWN.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)


def merge(command: Sequence[str]) -> None:
    try:
        code = subprocess.call(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise Refused(NOT_PREPARED, f"{command[0]} cannot be run: {error.strerror}") from None
    if code:
        raise Refused(NOT_PREPARED, f"esptool could not merge the flash image (exit code {code})")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check(program: str) -> None:
    """Its version into the log; what is wrong with its installation shows here, before any firmware runs."""
    try:
        code = subprocess.call([program, "--version"], stdin=subprocess.DEVNULL)
    except OSError as error:
        raise Refused(NOT_RUN, f"{program} cannot be run: {error.strerror}") from None
    if code:
        raise Refused(NOT_RUN, f"{program} does not run (exit code {code})")


def gdb_words() -> Sequence[str]:
    """The socket is bound and listens here, and QEMU inherits it: nobody can take the port in between."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1)
    listener.set_inheritable(True)
    say(f"gdb: target remote 127.0.0.1:{listener.getsockname()[1]}")
    handle = listener.detach()
    return ["-chardev", f"socket,id=gdb,fd={handle},server=on,wait=off,nodelay=on", "-gdb", "chardev:gdb", "-S"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
