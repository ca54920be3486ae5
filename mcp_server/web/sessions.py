"""Who has logged in by the page: a random id in a cookie here, the token that it stands for in memory there.

A cookie goes along with whatever a browser sends, so it counts for less than a token: what changes anything needs a
header that no other site's page can send unasked, and an Origin that is this service's own.
"""

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from urllib.parse import urlsplit

from mcp_server.clock import Clock

COOKIE = "build-orchestrator-session"
LOGIN, LOGOUT = "/api/login", "/api/logout"
ASKED_BY, PAGE = "x-requested-with", "build-orchestrator"
KEPT_S = 12 * 3600  # a working day; a service that starts anew has forgotten all
MOST = 1000  # sessions; the oldest goes first


class Sessions:
    """Those of one service."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def open(self, token_text: str) -> str:
        """The id of a new session for a token that was found good."""
        session = secrets.token_urlsafe(32)
        self._open[_key(session)] = (token_text, self._clock.monotonic() + KEPT_S)
        while len(self._open) > MOST:
            self._open.popitem(last=False)
        return session

    def token_text(self, session: str) -> str | None:
        """The token that a session stands for; None where there is no such session, or no longer."""
        if not session:
            return None
        text, until = self._open.get(_key(session), ("", 0.0))
        if text and self._clock.monotonic() >= until:
            self.close(session)
            return None
        return text or None

    def close(self, session: str) -> None:
        """End a session; one that is not there is over already."""
        self._open.pop(_key(session), None)


def _key(session: str) -> str:
    """Looked up by a hash, the time of a look-up tells nothing of the ids there are."""
    return hashlib.sha256(session.encode("utf-8", "surrogateescape")).hexdigest()


def cookie_of(header: str, name: str) -> str:
    """The value of a cookie; "" where it was not sent."""
    for part in header.split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            return value.strip('"')[:200]
    return ""


def own_page(headers: Mapping[str, str], *, is_socket: bool = False) -> bool:
    """Whether a request comes from the page of this very service: its Origin and, but for a socket, its header."""
    try:
        at = urlsplit(headers.get("origin", ""))
    except ValueError:
        return False
    same = at.scheme in ("http", "https") and at.netloc.lower() == headers.get("host", "").lower() != ""
    return same and (is_socket or headers.get(ASKED_BY) == PAGE)
