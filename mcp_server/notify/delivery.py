"""One message through one channel: an apprise URL, a plain webhook, or the OpenClaw command.

Runs in a thread of its own, blocks there, and says in words that hold no secret why a message did not arrive.
"""

import json
import logging
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast
from urllib.parse import quote, urlsplit

from mcp_server.config import Channel
from mcp_server.errors import OrchestratorError
from mcp_server.notify.messages import Message, Mood
from mcp_server.secret_store import Secrets

TELEGRAM_SECRET = "TELEGRAM_BOT_TOKEN"  # noqa: S105 - its name
WEBHOOK_S = 8.0  # a socket operation; the whole is bounded by who waits
COMMAND_S = 30.0  # OpenClaw is a Node program that first loads its plugins

_TOKEN = re.compile(r"(?:bot)?[0-9]+:[A-Za-z0-9_-]+")
_STATUS = re.compile(r"\berror=(\d{3})\b")
_WORDS = {
    400: "refused the message",
    401: "refused the token",
    403: "refused the token or does not let it write there",
    404: "knows no such address, chat or token",
    429: "has had too many messages",
}
Which = Callable[[], str | None]


class _Apprise(Protocol):
    """What is used of apprise's own class, whose types are not whole."""

    def add(self, url: str, /) -> bool: ...

    def notify(
        self, *, body: str, notify_type: Any, body_format: str, log_callback: Callable[..., None], log_level: int
    ) -> object: ...


class Undelivered(Exception):
    """Why a message did not arrive: a half sentence that follows the channel's name and holds no secret."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a channel is reached; exactly one is set. Neither is ever shown."""

    apprise: "_Apprise | None" = None
    webhook: str | None = None
    command: tuple[str, ...] | None = None


def find_way(name: str, channel: Channel, secrets: Secrets, openclaw: Which) -> Way:
    """How `channel` is reached now. Undelivered: what is missing, with the command that brings it."""
    try:
        if channel.url is not None:
            return _by_url(secrets.resolve(channel.url).strip())
        if name == "telegram" and channel.chat_id:
            token = secrets.resolve(channel.token) if channel.token else secrets.get(TELEGRAM_SECRET)
            return _telegram(token.strip(), channel.chat_id)
        if name == "discord" and channel.target:
            return _openclaw(channel.target, openclaw())
    except OrchestratorError as error:
        raise Undelivered(str(error)) from None
    raise Undelivered("has no url")


def deliver(way: Way, message: Message, environment: Mapping[str, str] | None = None) -> None:
    """Send one message. Undelivered: it did not arrive, as far as is known."""
    if way.command is not None:
        _run(way.command, message.text, environment)
    elif way.webhook is not None:
        _post(way.webhook, message)
    elif way.apprise is not None:
        _notify(way.apprise, message)


def _by_url(url: str) -> Way:
    scheme = url.partition("://")[0].lower()
    if "://" not in url:
        raise Undelivered("its url is none: an apprise URL or https://… is needed")
    made = _made(url)
    if made is not None:
        return Way(apprise=made)
    if scheme in ("http", "https"):
        if not urlsplit(url).hostname:
            raise Undelivered("its url names no host")
        return Way(webhook=url)
    raise Undelivered("its url is not one that apprise knows, or a part of it is missing or wrong")


def _telegram(token: str, chat_id: str) -> Way:
    made = _made(f"tgram://{quote(token, safe=':')}/{quote(chat_id, safe='@-:')}/") if _TOKEN.fullmatch(token) else None
    if made is None:
        raise Undelivered(
            "its token should read 123456789:letters as BotFather gives it, its chat_id a number or @name"
        )
    return Way(apprise=made)


def _openclaw(target: str, command: str | None) -> Way:
    if command is None:
        raise Undelivered("needs the openclaw command on PATH for its target, or a url (a webhook's) instead")
    if target.startswith("-"):
        raise Undelivered("its target begins with '-', which openclaw would take for an option")
    return Way(command=(command, "message", "send", "--channel", "discord", "--target", target, "--message"))


def _made(url: str) -> "_Apprise | None":
    """An apprise object for `url`, None where apprise refuses it. Imports apprise: 0.3 s, so never at the start."""
    for noisy in ("apprise", "urllib3"):  # both log URLs, and a URL is a secret here
        logger = logging.getLogger(noisy)
        logger.propagate = False
        logger.setLevel(logging.WARNING)  # apprise's own words are taken from there, for the number of an HTTP error
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())  # without one Python prints warnings to stderr
    import apprise  # noqa: PLC0415

    made = cast(_Apprise, apprise.Apprise(asset=apprise.AppriseAsset(secure_logging=True, app_id="build-orchestrator")))
    return made if made.add(url) else None


def _notify(made: "_Apprise", message: Message) -> None:
    said: list[str] = []

    def keep(entry: Any, *_: Any) -> None:
        said.append(str(getattr(entry, "message", entry))[:500])

    try:
        result = made.notify(
            body=message.text,
            notify_type=_apprise_type(message.mood),
            body_format="text",
            log_callback=keep,
            log_level=logging.WARNING,
        )
    except Exception as error:  # a plugin's fault is not ours to pass on, and its words may hold the URL
        raise Undelivered(f"broke with {type(error).__name__}") from None
    if not result:
        codes = [int(found[1]) for line in said if (found := _STATUS.search(line))]
        raise Undelivered(_refused(codes[-1]) if codes else "could not be reached")


def _apprise_type(mood: Mood) -> Any:
    from apprise import NotifyType  # noqa: PLC0415

    return NotifyType(mood)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A webhook that moved is a mistake to be told of: its message is not handed to strangers."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _post(url: str, message: Message) -> None:
    """POST `{"text", "type", "build"}`; Slack, Mattermost and most receivers of webhooks read `text`."""
    body = json.dumps({"text": message.text, "type": message.mood, "build": message.build}).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "build-orchestrator"}
    try:
        request = urllib.request.Request(url, data=body, headers=headers, method="POST")  # noqa: S310 - http or https
        with urllib.request.build_opener(_NoRedirect()).open(request, timeout=WEBHOOK_S):
            return
    except urllib.error.HTTPError as error:
        error.close()
        raise Undelivered(_refused(error.code)) from None
    except (OSError, ValueError) as error:
        why = "did not answer in time" if isinstance(error, TimeoutError) else "could not be reached"
        raise Undelivered(why) from None
    except Exception as error:  # http.client has errors of its own, and they quote what came
        raise Undelivered(f"answered no HTTP ({type(error).__name__})") from None


def _run(command: tuple[str, ...], text: str, environment: Mapping[str, str] | None) -> None:
    try:
        done = subprocess.run(
            [*command, text],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=None if environment is None else dict(environment),
            timeout=COMMAND_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Undelivered(f"openclaw did not end within {COMMAND_S:.0f} s") from None
    except (OSError, ValueError) as error:
        raise Undelivered(f"openclaw cannot be run: {getattr(error, 'strerror', None) or error}") from None
    if done.returncode:
        raise Undelivered(f"openclaw ended with exit code {done.returncode}: try openclaw message send by hand")


def _refused(code: int) -> str:
    return f"{_WORDS.get(code, 'answered with an error')} (HTTP {code})"
