"""Events as they come, for those who tell others of them: whatever becomes of the store meanwhile.

May import: model, errors.
"""

import contextlib
import logging
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING

from mcp_server.errors import OrchestratorError
from mcp_server.model import Event

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

log = logging.getLogger(__name__)

AGAIN_S, MOST_AGAIN_S = 0.5, 10.0  # a store that could not be read is asked again, ever more seldom
LOOK_S = 15.0  # without a signal it is looked all the same: what wakes us may have been taken away


async def new_events(orchestrator: "Orchestrator", after: int | None = None) -> AsyncGenerator[Sequence[Event]]:
    """Events above the id `after` in batches, oldest first, each once; it never ends by itself.

    Without `after` those from now on; the first batch is empty then, and says that it is now.
    """
    pause = AGAIN_S
    while True:
        try:
            async with orchestrator.changes() as changed:
                if after is None:
                    after = await orchestrator.last_event()
                    yield ()
                heard = True
                while True:
                    found = await orchestrator.events(after)
                    pause = AGAIN_S
                    if found:
                        after = found[-1].id
                        yield found
                        if not heard:
                            break  # nobody woke us: be woken anew
                        continue
                    heard = False
                    with contextlib.suppress(TimeoutError):
                        await orchestrator.clock.within(LOOK_S, changed.wait())
                        heard = True
        except (OrchestratorError, OSError) as error:
            log.warning("events cannot be followed, asking again in %g s: %s", pause, error)
            await orchestrator.clock.sleep(pause)
            pause = min(2 * pause, MOST_AGAIN_S)
