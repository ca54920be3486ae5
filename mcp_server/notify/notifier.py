"""What the engine tells of builds: queued at once, sent in order by one task, each thing once."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from mcp_server.clock import Clock
from mcp_server.config import Channel
from mcp_server.model import Build, BuildStatus, Stage, StageStatus
from mcp_server.notify import messages
from mcp_server.notify.channels import Channels
from mcp_server.notify.messages import Message
from mcp_server.secret_store import Secrets

log = logging.getLogger(__name__)

MOST_WAITING = 200  # messages; beyond that the oldest that ends no build is dropped
MOST_KEYS = 10_000  # things told, kept so that none is told twice

Key = tuple[Hashable, ...]
K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class _Item:
    build: int
    names: tuple[str, ...]
    message: Message
    last: bool


class Notifier:
    """The engine's messages. Every call returns at once and never raises; channels cannot slow or fail a build.

    A thing is told once: `already(key)` is asked too, for what a worker before this one told. Keys are
    ("started", build), ("stage", build, stage, round), ("ended", build), ("unreachable", build, host),
    ("waiting", build, what). `undelivered` is called with a build and a sentence, once a build for each.
    """

    def __init__(
        self,
        channels: Mapping[str, Channel],
        secrets: Secrets,
        clock: Clock,
        *,
        already: Callable[[Key], bool] = lambda _: False,
        undelivered: Callable[[int, str], None] = lambda _build, _sentence: None,
    ) -> None:
        self.channels = Channels(channels, secrets, clock)
        self._clock, self._already, self._undelivered = clock, already, undelivered
        self._told: dict[Key, None] = {}
        self._said: dict[tuple[int, str], None] = {}
        self._queue: deque[_Item] = deque()
        self._task: asyncio.Task[None] | None = None

    def update(self, channels: Mapping[str, Channel], secrets: Secrets) -> None:
        """Take over a changed configuration."""
        self.channels.update(channels, secrets)

    def build_started(self, build: Build) -> None:
        """Tell all channels of the plan."""
        self._put(("started", build.id), build, _all(build), lambda: messages.started(build))

    def stage_ended(self, build: Build, stage: Stage, index: int, total: int) -> None:
        """Tell of a stage's end, after its last attempt. A build of one stage says it at its own end.

        `index` counts from 1. Cancelled and skipped stages are not told of.
        """
        if total > 1 and stage.status in (StageStatus.SUCCESS, StageStatus.FAILED):
            key = ("stage", build.id, stage.stage, stage.round)
            self._put(key, build, _all(build), lambda: messages.stage_over(build, stage, index, total))

    def build_ended(self, build: Build, stages: Sequence[Stage]) -> None:
        """Tell the channels of on_success or on_failure; of a cancelled build all."""
        plan = build.plan
        ends = {BuildStatus.SUCCESS: plan.on_success.notify, BuildStatus.FAILED: plan.on_failure.notify}
        names = ends.get(build.status, _all(build))
        self._put(("ended", build.id), build, names, lambda: messages.ended(build, stages), last=True)

    def host_unreachable(self, build: Build, host: str, since: datetime) -> None:
        """Tell that a host of a build does not answer, once a build and host."""
        self._put(("unreachable", build.id, host), build, _all(build), lambda: messages.unreachable(build, host, since))

    async def aclose(self, timeout_s: float) -> None:
        """Send what waits, at most so long; the rest is dropped."""
        task = self._task
        if task is None or task.done():
            return
        try:
            await self._clock.within(timeout_s, task)
        except TimeoutError:
            log.warning("%d notifications were not sent before the end", len(self._queue))
            self._queue.clear()
        except Exception:  # a worker leaves whatever its messages do
            log.exception("notifications")

    def _put(
        self, key: Key, build: Build, names: Iterable[str], make: Callable[[], Message], *, last: bool = False
    ) -> None:
        wanted = tuple(names)
        try:
            if not wanted or key in self._told or self._already(key):
                return
            _keep(self._told, key)
            self._queue.append(_Item(build.id, wanted, make(), last))
            if len(self._queue) > MOST_WAITING:
                self._queue.remove(next((item for item in self._queue if not item.last), self._queue[0]))
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._send_all())
        except Exception:  # a build does not end for a text about it
            log.exception("a notification of build %d", build.id)

    async def _send_all(self) -> None:
        while self._queue:
            item = self._queue.popleft()
            for sentence in await self.channels.send(item.names, item.message, last=item.last):
                if (item.build, sentence) not in self._said:
                    _keep(self._said, (item.build, sentence))
                    log.warning("build %d: %s", item.build, sentence)
                    self._undelivered(item.build, sentence)


def _all(build: Build) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*build.plan.on_failure.notify, *build.plan.on_success.notify)))


def _keep(kept: dict[K, None], key: K) -> None:
    kept[key] = None
    if len(kept) > MOST_KEYS:
        del kept[next(iter(kept))]
