"""Delivers callbacks and commits' statuses: what is due at once, what failed later, for a day.

The queue is the store's.
"""

import asyncio
import contextlib
import logging
import random
import ssl
from datetime import timedelta
from typing import TYPE_CHECKING

from mcp_server.errors import OrchestratorError, StoreError
from mcp_server.notify.callback import Outcome, check_target, deliver, shown, sign, signing_secret
from mcp_server.notify.github import Teller, address, tell
from mcp_server.store import callbacks
from mcp_server.store.callbacks import Callback, CallbackStatus
from mcp_server.store.commit_statuses import STATUS

if TYPE_CHECKING:
    from mcp_server.engine.services import Services

log = logging.getLogger(__name__)

DELAYS_S = (5, 30, 120, 600, 1800, 3600)  # after the first attempt, the second, …; then always the last
GIVE_UP_S = 24 * 3600  # since the build's end
JITTER = 0.1  # so that what failed together does not come back together
AT_ONCE = 8  # each may wait 10 s for a dead receiver
LOOK_S = 60  # a row that another process wrote is found so late at the latest


class Callbacks:
    """`run` until the worker leaves. `wake` after a commit that added one. `tls` replaces the system's certificates."""

    def __init__(
        self, services: "Services", *, chance: random.Random | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._services, self._tls = services, tls
        self._chance = chance or random.Random()  # noqa: S311 - spreads load, hides nothing
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look for due callbacks now."""
        self._woken.set()

    async def waiting(self) -> bool:
        """Whether any callback is not settled: the worker should stay."""
        return await self._services.store.read(callbacks.next_time) is not None

    async def run(self) -> None:
        """Deliver until cancelled. An attempt that is cut short is made again by the next worker."""
        while True:
            pause_s: float = LOOK_S
            try:
                if not self._services.leads or not await self.deliver_due():
                    pause_s = await self._pause_s()
                else:
                    continue
            except OrchestratorError as error:
                log.warning("callbacks: %s", error)
            except Exception:  # a fault of ours costs this round, not every later one
                log.exception("callbacks")
            with contextlib.suppress(TimeoutError):
                await self._services.clock.within(pause_s, self._woken.wait())
            self._woken.clear()

    async def deliver_due(self) -> int:
        """One attempt at each callback that is due, some at a time; how many there were."""
        now = self._services.clock.now()
        rows = await self._services.store.read(lambda c: callbacks.due(c, now, AT_ONCE))
        made = await asyncio.gather(*(self._attempt(row) for row in rows), return_exceptions=True)
        wrong = [error for error in made if error is not None]  # one that cannot be noted takes no other with it
        if wrong:
            raise next((error for error in wrong if not isinstance(error, StoreError)), wrong[0])
        return len(rows)

    async def _pause_s(self) -> float:
        due_at = await self._services.store.read(callbacks.next_time)
        if due_at is None:
            return LOOK_S
        return min(max((due_at - self._services.clock.now()).total_seconds(), 0.0), LOOK_S)

    async def _attempt(self, row: Callback) -> None:
        outcome = await self._outcome(row)
        now = self._services.clock.now()
        status: CallbackStatus = "delivered" if outcome.ok else "gone" if outcome.gone else "pending"
        next_at = None
        if status == "pending":
            next_at = now + timedelta(seconds=self._delay_s(row.attempts, outcome.retry_after_s))
            if next_at > row.created_at + timedelta(seconds=GIVE_UP_S):
                status, next_at = "failed", None
        told = {"url": self._shown(row), "status": outcome.status, "attempt": row.attempts + 1}
        if not outcome.ok:
            told |= {"why": outcome.why, "next_at": next_at.isoformat() if next_at else None}
        await self._services.store.write(
            lambda c: callbacks.note(c, row, now, status=status, next_at=next_at, error=outcome.why or None, told=told)
        )

    async def _outcome(self, row: Callback) -> Outcome:
        """The attempt itself. A target that may not be called now is one that failed: names and config.yaml change."""
        services = self._services
        try:
            if row.event.startswith(STATUS):
                return await self._tell_github(row)
            target = await check_target(row.url, services.config.security.callback_hosts)
            secret = await asyncio.to_thread(signing_secret, services.config.secrets_dir)
            return await deliver(
                target, row.body, sign(secret, row.task_id, services.clock.now(), row.body), tls=self._tls
            )
        except OrchestratorError as error:
            return Outcome(ok=False, why=str(error))
        except Exception as error:  # its words may hold the URL
            log.warning("callback of build %d: %s", row.build, type(error).__name__)
            return Outcome(ok=False, why=f"broke with {type(error).__name__}")

    async def _tell_github(self, row: Callback) -> Outcome:
        await self._services.refresh()
        settings = self._services.config.webhooks.github
        if settings is None or settings.token is None:
            return Outcome(ok=False, gone=True, why="webhooks.github.token is not in config.yaml any more")
        token = await asyncio.to_thread(self._services.secrets.resolve, settings.token)
        return await tell(Teller(settings.api, token, settings.url), row.url, row.build, row.body)

    def _shown(self, row: Callback) -> str:
        if not row.event.startswith(STATUS):
            return shown(row.url)
        settings = self._services.config.webhooks.github
        return shown(address(settings.api if settings else "", row.url))

    def _delay_s(self, attempts_before: int, retry_after_s: float | None) -> float:
        planned = DELAYS_S[min(attempts_before, len(DELAYS_S) - 1)]
        return max(planned * self._chance.uniform(1 - JITTER, 1 + JITTER), retry_after_s or 0.0)
