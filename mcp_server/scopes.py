"""What whoever asks over a network may do. Over stdio and by the command line it is this machine's user: everything.

May import: errors. Never: store, engine, a front.
"""

import re
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, get_args

from mcp_server.errors import Forbidden

Scope = Literal["read", "build", "flash", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""Each includes those before it: look; start, cancel and retry; write to boards; projects and pushes."""

_BUILT_IN = re.compile(r"[\w-]+")


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever asks: a token's name, or "local" for a user of this machine. `by_cookie`: from the page.

    `at`: the service as the caller has addressed it, "https://builds.example.org".
    """

    name: str
    scope: Scope
    by_cookie: bool = False
    at: str = ""

    def may(self, wanted: Scope) -> bool:
        """Whether it may do what needs `wanted`."""
        return SCOPES.index(self.scope) >= SCOPES.index(wanted)


CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)
"""Who sent the request that is worked on; None: nobody from elsewhere."""


def need(wanted: Scope) -> None:
    """Forbidden: whoever asks may not do what needs `wanted`."""
    caller = CALLER.get()
    if caller is not None and not caller.may(wanted):
        raise Forbidden(f"token {caller.name} may {caller.scope}: this needs {wanted}")


def of_wish(*, flash: bool = False, push: bool = False, agent: str | None = None, template: str | None = None) -> Scope:
    """What an order needs, before anything that it names is looked at.

    A diff is read from any file that the service can read, a template from any folder or address, and its program runs.
    """
    built_in = template is None or _BUILT_IN.fullmatch(template)
    if push or not built_in or (agent or "").startswith("patch:"):
        return "admin"
    return "flash" if flash else "build"
