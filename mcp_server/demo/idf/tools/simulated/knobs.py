"""What the IDF_DEMO_ variables ask for before a build starts; idf.py's docstring lists them."""

import os
import signal
import subprocess
import sys

from .place import complain, say

_NOISE = (
    b"noise: broken UTF-8 \xff\xfe\xc3\x28 and a cut letter \xe2\x82\n",
    b"noise: \x1b[0;32mcolour\x1b[0m, a bell \x07, a bare return\rover the line\r\n",
    b"fatal: not an error, although it says fatal error: 1 error\n",
    b"noise: a NUL \x00 and a very long line " + b"x" * 5000 + b"\n",
)


def noise(size: int) -> None:
    """Write `size` bytes that no reader of logs likes, alternately on stdout and stderr."""
    sys.stdout.flush()
    number = 0
    while size > 0:
        chunk = _NOISE[number % len(_NOISE)][:size]
        stream = (sys.stdout, sys.stderr)[number % 2].buffer
        stream.write(chunk)
        stream.flush()
        size -= len(chunk)
        number += 1


def hang() -> None:
    """Print, then wait for ever, with a child that ignores TERM, INT and HUP."""
    script = "trap '' TERM INT HUP; echo \"IDF_DEMO_HANG: child $$ ignores TERM\"; while :; do sleep 1; done"
    child = subprocess.Popen(["sh", "-c", script])
    say(f"IDF_DEMO_HANG: idf.py {os.getpid()} waits for ever")
    child.wait()


def leave(wanted: str) -> None:
    """Exit with the code asked for; a negative one is a signal."""
    code = int(wanted)
    complain(f"IDF_DEMO_EXIT: exit code {code} was asked for")
    if code < 0:
        os.kill(os.getpid(), signal.Signals(-code))
    sys.exit(code)


def before_build() -> None:
    """Noise, exit, hang: in this order."""
    noise(int(os.environ.get("IDF_DEMO_NOISE") or 0))
    if wanted := os.environ.get("IDF_DEMO_EXIT"):
        leave(wanted)
    if os.environ.get("IDF_DEMO_HANG") == "1":
        hang()
