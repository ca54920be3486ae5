"""A commit's status at GitHub: what is said of a build that ended, and one attempt to say it.

`description` is what people read beside the commit; the token is in the request's head and nowhere else.
"""

import json
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from mcp_server import __version__
from mcp_server.errors import BadInput
from mcp_server.notify.callback import Outcome, check_target, deliver
from mcp_server.text import one_line

LONGEST = 140  # letters of a description; GitHub refuses more


@dataclass(frozen=True, slots=True)
class Teller:
    """Where GitHub's API is, who speaks to it, and where people reach this service."""

    api: str
    token: str = field(repr=False)
    url: str | None = None


def described(text: str) -> str:
    """The first line, as long as a description may be."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    said = one_line(first, 1000)
    return said if len(said) <= LONGEST else said[: LONGEST - 1] + "…"


def address(api: str, place: str) -> str:
    """The URL of `owner/name/statuses/SHA`."""
    return f"{api.rstrip('/')}/repos/{place}"


async def tell(teller: Teller, place: str, build: int | None, body: str) -> Outcome:
    """One attempt. `gone`: GitHub says that what is asked can never be. Redirects are not followed.

    `build` None: none could be ordered.
    """
    said = json.loads(body)
    if teller.url:
        said["target_url"] = f"{teller.url.rstrip('/')}/#/{f'build/{build}' if build else ''}"
    headers = {
        "Authorization": f"Bearer {teller.token}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
        "Content-Type": "application/json",
        "User-Agent": f"build-orchestrator/{__version__}",
    }
    url = address(teller.api, place)
    try:  # config.yaml names the host, so it may be a private one
        target = await check_target(url, [urlsplit(url).hostname or ""])
    except BadInput as error:
        return Outcome(ok=False, why=str(error).partition(": ")[2])
    outcome = await deliver(target, json.dumps(said), headers)
    return replace(outcome, gone=True) if outcome.status == 422 else outcome
