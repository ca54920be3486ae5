"""Makes the plugin's own environment: `install.py ROOT VENV LOG`; exit code 0 once VENV/complete is there.

Started by waiting_room.py in a session of its own, so that it outlives the client. Whatever ends it half-way, the next
one begins anew: only the marker, written last, makes an environment count. Standard library of Python 3.8 only.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

KEEP_OLD_S = 14 * 86_400  # a worker of the previous version may still run from its environment
UV_PLACES = (
    "~/.local/bin",
    "~/.cargo/bin",
    *(("/opt/homebrew/bin", "/usr/local/bin") if sys.platform == "darwin" else ()),
)
"""Where uv may lie off PATH: a desktop client's is short."""
PYTHONS = ("python3.14", "python3.13", "python3.12", "python3.11", "python3", "python")
FIT = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))"

NOTHING_FITS = (
    "uv, or Python 3.11 or later with its venv module, is needed on PATH "
    "(Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install uv)"
)


class Refused(Exception):
    """One way to install did not work; the sentence says why."""


def main(root: Path, venv: Path, log: Path) -> int:
    venv.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = (venv.parent / "install.lock").open("a")
    # The tools inherit the lock: should only this process be killed, the next waits until they are gone, too.
    os.set_inheritable(lock.fileno(), True)
    fcntl.flock(lock, fcntl.LOCK_EX)
    if (venv / "complete").exists() and os.access(str(venv / "bin" / "python"), os.X_OK):
        return 0
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    say(f"installing {root} into {venv}")
    try:
        install(root, venv, log)
    except (Refused, OSError) as error:
        say(f"refused: {error}")
        return 1
    os.sync()  # a power cut must not leave the marker without the files
    (venv / "complete").touch()
    say("complete")
    remove_old(venv)
    return 0


def install(root: Path, venv: Path, log: Path) -> None:
    """By uv, else by venv and pip. Refused with the reasons of both."""
    ways = [way for way in (uv_commands(root), pip_commands(root, venv)) if way]
    if not ways:
        raise Refused(NOTHING_FITS)
    reasons: list[str] = []
    for commands in ways:
        shutil.rmtree(str(venv), ignore_errors=True)
        reason = run(commands, venv, log)
        if not reason and os.access(str(venv / "bin" / "build-orchestrator"), os.X_OK):
            return
        reasons.append(reason or f"{commands[0][0]} left no bin/build-orchestrator")
    raise Refused("; ".join(reasons))


def uv_commands(root: Path) -> list[list[str]]:
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(os.path.expanduser, UV_PLACES)])
    uv = shutil.which("uv", path=path)
    options = ["--frozen", "--no-dev", "--no-editable", "--compile-bytecode", "--no-progress"]
    return [[uv, "sync", *options, "--project", str(root)]] if uv else []


def pip_commands(root: Path, venv: Path) -> list[list[str]]:
    for name in (sys.executable, *PYTHONS):
        python = shutil.which(name)
        if python and subprocess.run([python, "-I", "-c", FIT], stdin=subprocess.DEVNULL, check=False).returncode == 0:
            pip = [str(venv / "bin" / "python"), "-I", "-m", "pip", "install", "--no-input"]
            return [
                [python, "-I", "-m", "venv", str(venv)],
                [*pip, "--disable-pip-version-check", "--retries", "2", str(root)],
            ]
    return []


def run(commands: list[list[str]], venv: Path, log: Path) -> str:
    """Why it ended badly, or nothing."""
    environ = {
        name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PIP_TARGET", "PIP_PREFIX")
    }
    environ.update(UV_PROJECT_ENVIRONMENT=str(venv), PIP_USER="0")
    for command in commands:
        say("$ " + " ".join(command))
        begin = log.stat().st_size
        done = subprocess.run(
            command, cwd=str(venv.parent), env=environ, stdin=subprocess.DEVNULL, close_fds=False, check=False
        )
        if done.returncode:
            with log.open("rb") as file:
                file.seek(begin)
                said = file.read().decode("utf-8", "replace")
            tool = "pip" if "pip" in command else Path(command[0]).name
            return f"{tool}: {last_words(said) or f'ended with code {done.returncode}'}"
    return ""


def last_words(said: str) -> str:
    """The last line that names an error, with the last cause after it; else the last line. No frames of uv or pip."""
    lines = [line.strip(" \t×│├─╰▶>") for line in said.splitlines()]
    lines = [line for line in lines if line]
    named = [line for line in lines if re.match(r"(ERROR|error|fatal):(?! *subprocess-exited)", line)]
    causes = [line for line in lines if re.match(r"(cause|caused by):", line, re.IGNORECASE)]
    words = f"{named[-1]} ({causes[-1]})" if named and causes else (named or lines or [""])[-1]
    return words[:300]


def remove_old(venv: Path) -> None:
    """Environments of other versions: half ones at once (the lock is ours), whole ones when long unused."""
    for other in venv.parent.glob("venv-*"):
        stamps = [stamp.stat().st_mtime for stamp in (other / "complete", other / "used") if stamp.exists()]
        whole = (other / "complete").exists()
        if other != venv and not (whole and time.time() - max(stamps) < KEEP_OLD_S):
            shutil.rmtree(str(other), ignore_errors=True)


def say(line: str) -> None:
    sys.stdout.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:4])))
