"""A person's yes before a board is overwritten or commits are pushed: asked through the client, by any tool."""

from collections.abc import Awaitable
from typing import NamedTuple

from mcp.server.mcpserver import AcceptedElicitation, CancelledElicitation, Elicit, ElicitationResult
from mcp_types import CallToolResult
from pydantic import BaseModel, Field

from mcp_server.errors import BadInput, OrchestratorError
from mcp_server.model import Plan
from mcp_server.tools.answers import answer, orchestrator_of
from mcp_server.tools.arguments import Ctx


class Yes(BaseModel):
    """What a person answers."""

    ok: bool = Field(description="Go on?")


Agreed = ElicitationResult[Yes]


class Deed(NamedTuple):
    """What is asked about, in the words of a refusal."""

    doing: str
    done: str
    whether: str


FLASH = Deed("flashing", "flashed", "whether the board may be overwritten")
RUN = Deed("flashing or pushing", "started", "whether the board may be overwritten, or the branch pushed")
PUSH = Deed("pushing", "started", "whether it may be pushed")


def _can_ask(ctx: Ctx) -> bool:
    capabilities = ctx.client_capabilities
    return capabilities is not None and capabilities.elicitation is not None


async def ask(ctx: Ctx, plan: Awaitable[Plan], *, confirm: bool = False) -> Yes | Elicit[Yes]:
    """A yes where nothing is to be asked, or it was given already; else the question. Who cannot be asked says no.

    What cannot be planned gets a yes: the tool itself refuses it, in its own words.
    """
    orchestrator = await orchestrator_of(ctx)
    try:
        question = orchestrator.orders.question(await plan)
    except OrchestratorError:
        return Yes(ok=True)
    if question is None or confirm:
        return Yes(ok=True)
    return Elicit(question, Yes) if _can_ask(ctx) else Yes(ok=False)


def refusal(ctx: Ctx, agreed: Agreed, mend: str, argument: str, deed: Deed = FLASH) -> CallToolResult | None:
    """What the tool answers without a yes; None: there was one. BadInput: this client cannot ask; `mend`: what to do.

    `argument` names what the refusal is about.
    """
    if isinstance(agreed, AcceptedElicitation) and agreed.data.ok:
        return None
    if not _can_ask(ctx):
        raise BadInput(argument, f"{deed.doing} asks a person first, and this client cannot: {mend}")
    if isinstance(agreed, CancelledElicitation):  # a client that nobody sits at dismisses every question
        why = f"nobody answered the question. Ask {deed.whether}; after a yes {mend}"
    else:
        why = "the person who was asked said no"
    return answer(f"nothing was {deed.done}: {why}", is_error=True)
