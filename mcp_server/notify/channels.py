"""The channels of config.yaml: sends never raise, never block the loop, and leave a dead channel alone for a while."""

import asyncio
import logging
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mcp_server.clock import Clock
from mcp_server.config import Channel
from mcp_server.notify.delivery import COMMAND_S, Undelivered, Way, Which, deliver, find_way
from mcp_server.notify.messages import Message
from mcp_server.secret_store import Secrets

log = logging.getLogger(__name__)

SEND_S = 10.0  # for one message through one channel
RETRY_S = 60.0  # a channel that failed is left alone so long


@dataclass
class _State:
    """`thread` lives on where a send hangs: the channel is left alone until it has ended."""

    retry_at: float | None = None
    thread: threading.Thread | None = None


class Channels:
    """Where messages go. `openclaw` finds that command's path."""

    def __init__(
        self,
        channels: Mapping[str, Channel],
        secrets: Secrets,
        clock: Clock,
        *,
        openclaw: Which = lambda: shutil.which("openclaw"),
        send_s: float = SEND_S,
    ) -> None:
        self._channels, self._secrets, self._clock = channels, secrets, clock
        self._openclaw, self._send_s = openclaw, send_s
        self._states: dict[str, _State] = {}

    def update(self, channels: Mapping[str, Channel], secrets: Secrets) -> None:
        """Take over a changed configuration; a channel that was dead may be mended by it."""
        self._channels, self._secrets = channels, secrets
        for state in self._states.values():
            state.retry_at = None

    def problems(self) -> Sequence[str]:
        """What no message can pass, for doctor. Reads files and imports apprise: call it in a thread."""
        found: list[str] = []
        for name, channel in self._channels.items():
            if channel.enabled:
                try:
                    find_way(name, channel, self._secrets, self._openclaw)
                except Undelivered as error:
                    found.append(f"notifications.{name}: {error}")
        return found

    async def send(self, names: Iterable[str], message: Message, *, last: bool = False) -> Sequence[str]:
        """Send to each channel at once; returns a sentence for each that could not deliver. Never raises.

        A channel that failed is skipped for 60 s without a word, but for the `last` message of a build.
        """
        wanted = list(dict.fromkeys(names))
        outcomes = await asyncio.gather(*(self._send(name, message, last) for name in wanted))
        return [f"notifications.{name}: {why}" for name, why in zip(wanted, outcomes, strict=True) if why]

    async def _send(self, name: str, message: Message, last: bool) -> str:
        channel = self._channels.get(name)
        if channel is None:
            return f"config.yaml has no channel of this name; it has {', '.join(self._channels) or 'none'}"
        state = self._states.setdefault(name, _State())
        if not channel.enabled or (state.thread is not None and state.thread.is_alive()):
            return ""
        if state.retry_at is not None and self._clock.monotonic() < state.retry_at and not last:
            return ""
        why = await self._bounded(name, channel, message, state)
        state.retry_at = self._clock.monotonic() + RETRY_S if why else None
        return why

    async def _bounded(self, name: str, channel: Channel, message: Message, state: _State) -> str:
        limit_s = COMMAND_S + 1 if channel.url is None and channel.target else self._send_s
        secrets, openclaw = self._secrets, self._openclaw

        def work() -> None:
            way: Way = find_way(name, channel, secrets, openclaw)
            deliver(way, message)

        state.thread, done = _in_thread(f"notify-{name}", work)
        try:
            await self._clock.within(limit_s, done)
            state.thread = None
        except TimeoutError:
            return f"did not take the message within {limit_s:.0f} s"
        except Undelivered as error:
            state.thread = None
            return str(error)
        except Exception as error:
            state.thread = None
            log.warning("notifications.%s: %s", name, type(error).__name__)  # its words may hold the URL
            return f"broke with {type(error).__name__}"
        return ""


def _in_thread(name: str, work: Callable[[], None]) -> tuple[threading.Thread, "asyncio.Future[None]"]:
    """Run `work` in a thread that may hang without keeping the process, or the loop's own pool of threads."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        failed: BaseException | None = None
        try:
            work()
        except Exception as error:
            failed = error
        try:
            loop.call_soon_threadsafe(settle, failed)
        except RuntimeError:
            return  # the loop is gone: nobody waits

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread, done
