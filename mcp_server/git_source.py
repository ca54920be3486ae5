"""Where a project may be cloned from: Git URLs that are safe to hand to git, and to let others name.

May import: config, errors, public_net. Never: engine, store, a front.
"""

import asyncio
import re
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

from mcp_server.errors import BadInput
from mcp_server.public_net import is_named, is_public, not_public

RESOLVE_S = 10
MAX_URL = 2048
SCHEMES = ("https", "ssh", "git")
_URL = re.compile(r"[!-~]+")  # printable ASCII without spaces
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]+")
_USER = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9._-]*")
_SCP = re.compile(r"(?:[A-Za-z0-9._-]+@)?([A-Za-z0-9][A-Za-z0-9.-]*):(?!//)([^:].*)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_BRANCH = re.compile(r"(?![-/.])(?!.*(?:\.\.|//|@\{|\.lock(?:/|$)|/\.))[^\x00-\x20\x7f~^:?*\[\\]{1,200}(?<![/.])")


def is_url(text: str) -> bool:
    """Whether a source names something that git fetches, and no folder of this machine."""
    return "://" in text or "::" in text or (not text.startswith(("/", ".", "~")) and bool(_SCP.fullmatch(text)))


def checked_url(text: str, named: Collection[str] = ()) -> tuple[str, str, int | None]:
    """The URL, its host in lower case and its port. BadInput: git is not given such a one.

    Plain http only to a host that is `named` (`name` or `name:port`).
    """
    if len(text) > MAX_URL or not _URL.fullmatch(text) or "\\" in text:
        raise _refused(f"should be a URL of printable ASCII, at most {MAX_URL} characters")
    if text.startswith("-"):
        raise _refused("begins with '-': that is an option, no URL")
    if "::" in text.partition("/")[0]:
        raise _refused("names a program that git would run: https://host/path is a URL")
    host, port = _url_parts(text, named) if "://" in text else _scp_parts(text)
    if not _HOST.fullmatch(host):
        raise _refused("its host is neither a name nor an address")
    return text, host, port


def _url_parts(text: str, named: Collection[str]) -> tuple[str, int | None]:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise _refused("is no URL; https://host/path is one") from None
    scheme, host = parts.scheme.lower(), (parts.hostname or "").rstrip(".")
    if scheme not in (*SCHEMES, "http"):
        raise _refused(f"{scheme[:20]}:// is not cloned from: give https, ssh or git, or a folder")
    if parts.password is not None or (parts.username and scheme != "ssh"):
        raise _refused("holds a login: keep it in your git's credentials, where no log shows it")
    if parts.username is not None and not _USER.fullmatch(parts.username):
        raise _refused("has a user's name of other than letters, digits, '.', '_' and '-'")
    if not host or parts.path in ("", "/"):
        raise _refused("should be like https://host/owner/name.git")
    if parts.query or parts.fragment:
        raise _refused("has a query or fragment, which no repository's URL needs")
    if scheme == "http" and not is_named(host, port or 80, named):
        raise _refused(f"should begin with https://; plain http needs {host} in security.project_hosts")
    return host, port


def _scp_parts(text: str) -> tuple[str, None]:
    if (found := _SCP.fullmatch(text)) is None or found[2].startswith("-"):
        raise _refused("should be like https://host/owner/name.git or git@host:owner/name.git")
    return found[1].lower().rstrip("."), None


async def check_public(host: str, port: int | None, named: Collection[str]) -> None:
    """BadInput: the host is no public one, and not `named`. For URLs that others may send."""
    if is_named(host, port, named):
        return
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_S):
            found = await loop.getaddrinfo(host, port or 443, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise _refused(f"{host} could not be resolved within {RESOLVE_S} s") from None
    except (OSError, UnicodeError):
        raise _refused(f"{host} is not known to the resolver") from None
    for address in {str(where[0]) for *_, where in found}:
        if not is_public(address):
            raise _refused(f"{not_public(host, address)}; security.project_hosts in config.yaml allows it")


def name_of(source: str) -> str:
    """The name of a project that is imported without one: the last part of its source."""
    last = re.split(r"[/:]", source.rstrip("/"))[-1].removesuffix(".git")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).lstrip("._-")[:100] or "project"


def checked_name(name: str) -> str:
    """BadInput: it cannot be a folder's and an address' part."""
    if not _NAME.fullmatch(name) or name.endswith(".git"):
        raise BadInput("name", f"{name[:60]!r} should be letters, digits, '.', '_' and '-', at most 100")
    return name


def checked_branch(branch: str) -> str:
    """BadInput: git has no such names for branches."""
    if not _BRANCH.fullmatch(branch):
        raise BadInput("branch", f"{branch[:60]!r} is no name that a branch can have")
    return branch


def same_place(url: str) -> str:
    """`host/owner/name`, the same for https, ssh and scp-like URLs of one repository; "" where it is none."""
    text = url.strip()
    if "://" in text:
        try:
            parts = urlsplit(text)
        except ValueError:
            return ""
        host, path = parts.hostname or "", parts.path
    elif found := _SCP.fullmatch(text):
        host, path = found[1], found[2]
    else:
        return ""
    return f"{host.lower()}/{path.strip('/').removesuffix('.git').lower()}"


def _refused(why: str) -> BadInput:
    return BadInput("source", why)
