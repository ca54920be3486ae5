"""The callback at a build's end: what it says, how it is signed, where it may go, and one attempt to deliver it.

Signed as Standard Webhooks says; who receives it verifies with any of that specification's libraries.
"""

import asyncio
import base64
import ipaddress
import json
import re
import secrets as randomness
import socket
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from standardwebhooks import Webhook

from mcp_server import __version__
from mcp_server.errors import BadInput, EnvironmentMissing
from mcp_server.notify.http import Place, Request, Unanswered, exchange
from mcp_server.public_net import is_public, not_public
from mcp_server.secret_store import read_secret, set_secret

ARGUMENT = "callback_url"
SECRET = "callback"  # noqa: S105 - its name in HOME/secrets
LIMIT_S = 10.0  # for a whole attempt: a receiver that needs longer should answer first and work then
BODY_S = 1.0  # an answer's body is read out of politeness only
MAX_BODY_BYTES = 4096
MAX_URL = 2048
MAX_ADDRESSES = 4  # of one name; the rest is neither checked nor dialled
MAX_RETRY_AFTER_S = 3600.0

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?\.?")
_URL = re.compile(r"[!-~]+")  # printable ASCII without spaces
_STATUS_WORDS = {"success": "completed"}


@dataclass(frozen=True, slots=True)
class Target:
    """A checked place to deliver to. `shown` is its URL without query: what may be recorded."""

    place: Place
    path: str = field(repr=False)
    shown: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt came to. `status` is HTTP's, None without an answer; `why` half a sentence, "" where it is `ok`.

    `gone`: the receiver wants no more. `retry_after_s` is what it asked for, at most an hour.
    """

    ok: bool
    gone: bool = False
    status: int | None = None
    why: str = ""
    retry_after_s: float | None = None


def make_payload(task_id: str, project_id: str, status: str, result: Mapping[str, Any]) -> str:
    """The callback's body, JSON: `{task_id, project_id, status, result}`; a build's `success` reads `completed`."""
    said = {
        "task_id": task_id,
        "project_id": project_id,
        "status": _STATUS_WORDS.get(status, status),
        "result": dict(result),
    }
    text = json.dumps(said, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "replace").decode()  # half a character can neither be kept nor sent


def signing_secret(folder: Path) -> str:
    """The secret `callback` of HOME/secrets (`folder`), made at its first use: `whsec_` and 32 random bytes in base64.

    EnvironmentMissing: it cannot be read or written. Reads files: call it in a thread.
    """
    found = read_secret(folder, SECRET)
    if not found:
        found = "whsec_" + base64.b64encode(randomness.token_bytes(32)).decode("ascii")
        set_secret(folder, SECRET, found)
    return found


def sign(secret: str, task_id: str, sent_at: datetime, body: str) -> Mapping[str, str]:
    """The headers of an attempt; `webhook-id` is the task's id, the same each time. EnvironmentMissing: the secret."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        signature = Webhook(key).sign(task_id, sent_at, body)
    except Exception:  # of several kinds, and their words may hold the secret
        raise EnvironmentMissing(
            f"the secret {SECRET} is not whsec_ and base64: build-orchestrator secrets rm {SECRET} has a new one made"
        ) from None
    return {
        "webhook-id": task_id,
        "webhook-timestamp": str(int(sent_at.timestamp())),
        "webhook-signature": signature,
        "Content-Type": "application/json",
        "User-Agent": f"build-orchestrator/{__version__}",
    }


async def check_target(url: str, allowed_hosts: Collection[str] = ()) -> Target:
    """Where `url` leads now. BadInput: it may not be called; one sentence says why, without the URL's secrets.

    Only https to public addresses, but for `allowed_hosts` (`name` or `name:port`), which may be private and plain
    http. The name is resolved here and nowhere else: who delivers dials the addresses that were checked.
    """
    parts, host = _split(url)
    try:
        port = parts.port
    except ValueError:
        raise _refused("its port should be a number from 1 to 65535") from None
    tls = parts.scheme.lower() == "https"
    port = (443 if tls else 80) if port is None else port
    allowed = {entry.lower().rstrip(".") for entry in allowed_hosts}
    known = host in allowed or f"{host}:{port}" in allowed or f"[{host}]:{port}" in allowed
    if not tls and not known:
        raise _refused(f"should begin with https://; plain http needs {host} in security.callback_hosts")
    if not (port == 443 or 1024 <= port <= 65_535 or (known and port > 0)):
        raise _refused(f"port {port} is none for callbacks: 443, or 1024 and above")
    found = await _resolve(host, port)
    if not known:
        for address in found:
            if not is_public(address):
                raise _refused(f"{not_public(host, address)}; security.callback_hosts in config.yaml allows it")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(Place(tls, host, port, found), path, shown(url))


def shown(url: str) -> str:
    """The URL as it may be recorded: without user, query and fragment. "" where it is none."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return ""
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()[:300]


async def deliver(
    target: Target,
    body: str,
    headers: Mapping[str, str],
    *,
    limit_s: float = LIMIT_S,
    tls: ssl.SSLContext | None = None,
) -> Outcome:
    """One attempt; takes `limit_s` at most. 2xx is success, 410 ends it, all else may be tried again.

    A redirect is not followed: what was checked is this address, and a changed place is the receiver's to tell.
    """
    request = Request("POST", target.path, headers, body.encode())
    try:
        answer = await exchange(
            target.place, request, limit_s=limit_s, max_bytes=MAX_BODY_BYTES, body_s=BODY_S, tls=tls
        )
    except Unanswered as error:
        return Outcome(ok=False, why=str(error))
    status = answer.status
    if 200 <= status < 300:
        return Outcome(ok=True, status=status)
    if status == 410:
        return Outcome(ok=False, gone=True, status=status, why="it answered 410: it wants no more callbacks")
    why = f"it answered {status}" + (", a redirect, which is not followed" if 300 <= status < 400 else "")
    return Outcome(ok=False, status=status, why=why, retry_after_s=_retry_after(answer.headers.get("retry-after")))


def _retry_after(value: str | None) -> float | None:
    """Only the form in seconds: the other is a date, which needs two clocks that agree."""
    if value is None or not re.fullmatch(r"[0-9]{1,9}", value.strip()):
        return None
    return min(float(value), MAX_RETRY_AFTER_S)


def _split(url: str) -> tuple[SplitResult, str]:
    """The URL's parts, and its host: lower case, without the last dot."""
    if len(url) > MAX_URL:
        raise _refused(f"is longer than {MAX_URL} characters")
    if not _URL.fullmatch(url) or "\\" in url:
        raise _refused("should be a URL of printable ASCII: percent-encode the rest, write the host in xn-- form")
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
    except ValueError:
        raise _refused("is no URL; https://host/path is one") from None
    if parts.scheme.lower() not in ("http", "https") or not host:
        raise _refused("should be https://host/path")
    if "@" in parts.netloc:
        raise _refused("holds a user or password: the signature says who calls")
    if not _HOST.fullmatch(host):
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise _refused("its host is neither a name nor an address") from None
    return parts, host


async def _resolve(host: str, port: int) -> tuple[str, ...]:
    """Its addresses. An address is its own, at once: whoever allows a resolver only a moment still has it checked."""
    try:
        return (str(ipaddress.ip_address(host)),)
    except ValueError:
        loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(LIMIT_S):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise _refused(f"{host} could not be resolved within {LIMIT_S:.0f} s") from None
    except (OSError, UnicodeError):
        raise _refused(f"{host} is not known to the resolver") from None
    return tuple(dict.fromkeys(str(where[0]) for *_, where in found))[:MAX_ADDRESSES]


def _refused(why: str) -> BadInput:
    return BadInput(ARGUMENT, why)
