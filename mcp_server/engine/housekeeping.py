"""What is old: removed where its time is over, so that no disk fills up with it."""

import asyncio
import logging
from datetime import timedelta

from mcp_server.engine import checkouts, worktrees
from mcp_server.engine.services import Services
from mcp_server.errors import OrchestratorError
from mcp_server.store import builds, events

log = logging.getLogger(__name__)

FIRST_S = 60  # a worker that only runs one build leaves this to a longer one
EVERY_S = 6 * 3600
LEAST_PAUSE_S, PAUSES = 0.02, 4  # others write meanwhile: what a batch of events takes is a fifth of the time


async def keep_house(services: Services) -> None:
    """Look after HOME and the hosts that this worker has used, now and then, until cancelled."""
    await services.clock.sleep(FIRST_S)
    while True:
        try:
            await clean(services)
        except (OrchestratorError, OSError) as error:
            log.warning("clean-up: %s", error)
        except Exception:  # a fault of ours costs this round, not every later one
            log.exception("clean-up")
        await services.clock.sleep(EVERY_S)


async def clean(services: Services) -> None:
    """Remove results, copies, checkouts, deliveries and jobs older than `artifacts.keep`; nothing of an open build."""
    keep_s = services.config.artifacts.keep
    needed = await services.store.read(builds.needed_by_open)
    swept = await services.archive.sweep(keep_s, services.clock.now(), spare=needed)
    log.info("clean-up: %s", swept)
    if (here_s := services.config.artifacts.keep_here) is not None and services.config.artifacts.is_remote:
        # What is not stored yet would be nowhere.
        spare = needed | set(await asyncio.to_thread(services.uploads.waiting))
        log.info("clean-up: %s", await services.archive.sweep(here_s, services.clock.now(), spare=spare))
    if services.leads:
        log.info("clean-up: %d builds removed from the object store", await services.uploads.clean(needed))
    log.info("clean-up: %d agents' copies removed", await worktrees.clear(services))
    log.info("clean-up: %d checkouts removed", await checkouts.clear(services))
    log.info("clean-up: %d deliveries forgotten", await checkouts.forget_deliveries(services))
    log.info("clean-up: %d events forgotten", await forget_events(services))
    store = await services.store.uuid()
    spare = [f"{store}-{number}-" for number in needed]
    for name, host in services.hosts.opened().items():
        try:
            removed = await host.clean(store, keep_s, spare)
        except OrchestratorError as error:
            log.warning("clean-up: %s", error)
        else:
            log.info("clean-up: %d old jobs removed from %s", removed, name)


async def forget_events(services: Services) -> int:
    """Drop events of builds that were over `store.keep_events` ago, in many short transactions; how many."""
    keep_s, dropped = services.config.store.keep_events, 0
    if not keep_s:
        return 0
    before = services.clock.now() - timedelta(seconds=keep_s)
    while True:
        began = services.clock.monotonic()
        count = await services.store.write(lambda c: events.forget(c, before))
        dropped += count
        if not count:
            return dropped
        await services.clock.sleep(max(LEAST_PAUSE_S, PAUSES * (services.clock.monotonic() - began)))
