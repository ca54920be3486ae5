"""What is sent to job.sh: one line that no shell on the way, and no value in it, can read otherwise."""

import math
import re

from mcp_server.errors import BadInput
from mcp_server.hosts.base import JobSpec

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OURS = {"BO_JOB", "BO_NL", "BO_SP", "BO_TAB"}
_THE_SHELLS = {"BASHOPTS", "BASH_VERSINFO", "EUID", "OPTIND", "PPID", "SHELLOPTS", "UID"}  # read-only or numbers there


def quote(text: str) -> bytes:
    """`text` as one word of sh on one line; every byte but NUL comes out as it went in."""
    raw = text.encode("utf-8", "surrogateescape")
    return b"'" + raw.replace(b"'", b"'\\''").replace(b"\n", b"'\"$BO_NL\"'") + b"'"


def encode(job: JobSpec) -> bytes:
    """The part of a start request that describes the job."""
    _check(job)
    steps = [b"enter " + quote(job.cwd)]
    steps.insert(0, b"login" if job.login else b"guest")
    env = dict(job.env) if job.login else {"PATH": DEFAULT_PATH, **job.env}
    steps += [b"export " + name.encode() + b"=" + quote(value) for name, value in env.items()]
    steps.append(b"exec " + b" ".join(map(quote, job.argv)))
    limit = f"{max(job.timeout_s, 0.01):.2f}".removesuffix(".00") if job.timeout_s else "0"
    lock = quote(job.lock or "").replace(b" ", b"'\"$BO_SP\"'").replace(b"\t", b"'\"$BO_TAB\"'")
    numbers = f"{limit} {centiseconds(job.grace_s)} {job.log_cap_bytes}".encode()
    return b" ".join([numbers, lock, b"; ".join(steps)])


def centiseconds(seconds: float) -> int:
    """Whole hundredths, because sh counts in whole numbers."""
    if not (math.isfinite(seconds) and seconds >= 0):
        raise BadInput("grace_s", f"{seconds} must be a number of seconds, 0 or more")
    return round(seconds * 100)


def _check(job: JobSpec) -> None:
    if not job.argv or not job.argv[0] or job.argv[0].startswith("-"):
        raise BadInput("argv", "must begin with a program")
    if not (math.isfinite(job.timeout_s) and job.timeout_s >= 0):
        raise BadInput("timeout_s", f"{job.timeout_s} must be a number of seconds, 0 for none")
    if not 65_536 <= job.log_cap_bytes < 1 << 60:
        raise BadInput("log_cap_bytes", f"{job.log_cap_bytes} must be 65536 or more")
    for argument, folder in (("cwd", job.cwd), ("lock", job.lock)):
        if folder is not None and not folder.startswith("/"):
            raise BadInput(argument, f"{folder!r} must be an absolute folder of the host")
    for name in job.env:
        if not _NAME.fullmatch(name):
            raise BadInput("env", f"{name!r} must be letters, digits and '_', and not begin with a digit")
        if name in _OURS | _THE_SHELLS:
            raise BadInput("env", f"{name} belongs to the {'job' if name in _OURS else 'shell'} and cannot be set")
    texts = {"argv": job.argv, "cwd": [job.cwd], "lock": [job.lock or ""], "env": job.env.values()}
    for argument, values in texts.items():
        if any("\0" in value for value in values):
            raise BadInput(argument, "may not hold a NUL byte")
