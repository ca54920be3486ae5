"""The notifier: once a thing, in order, at once for the engine, bounded at the end."""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from mcp_server.config import load_config
from mcp_server.model import Ending, Plan, StageSpec
from mcp_server.notify import Message, Notifier
from mcp_server.notify.notifier import Key
from mcp_server.secret_store import Secrets
from tests.support.moved_clock import MovedClock
from tests.unit.notify.test_messages import build, failed, stage


class Recorder:
    """Stands where the channels are: keeps what it is given; `gate` holds each send, `answer` is what it says."""

    def __init__(self) -> None:
        self.sent: list[tuple[tuple[str, ...], str, bool]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.answer: list[str] = []

    async def send(self, names: Iterable[str], message: Message, *, last: bool = False) -> Sequence[str]:
        await self.gate.wait()
        self.sent.append((tuple(names), message.text.partition("\n")[0], last))
        return self.answer


def notifier(
    already: Callable[[Key], bool] = lambda _: False,
    undelivered: Callable[[int, str], None] = lambda _build, _sentence: None,
) -> tuple[Notifier, Recorder]:
    secrets = Secrets(load_config(), {})
    made, record = Notifier({}, secrets, MovedClock(), already=already, undelivered=undelivered), Recorder()
    vars(made)["channels"] = record
    return made, record


async def test_messages_go_out_once_and_in_order() -> None:
    """Issue. At most one message a stage; a worker that says a thing again changes nothing."""
    made, record = notifier()
    async with asyncio.timeout(5):
        for _ in range(3):
            made.build_started(build())
            made.stage_ended(build(), stage(), 1, 3)
            made.stage_ended(build(), failed(attempt=5), 2, 3)
            made.build_ended(build("failed", duration=60.0), [stage(), failed()])
        await made.aclose(5)

    assert [(text.split(":")[0], last) for _, text, last in record.sent] == [
        ("🚀 Pipeline started", False),
        ("✅ Stage 1/3 complete", False),
        ("❌ Stage 2 FAILED", False),
        ("❌ Pipeline FAILED", True),
    ]


async def test_ends_go_to_their_own_channels_and_the_rest_to_all() -> None:
    """Interfaces: on_failure and on_success name channels."""
    specs = (StageSpec(name="a", kind="command"), StageSpec(name="b", kind="command"))
    plan = Plan(stages=specs, on_failure=Ending(notify=("x", "y")), on_success=Ending(notify=("y", "z")))
    made, record = notifier()
    async with asyncio.timeout(5):
        made.build_started(build(plan=plan))
        made.build_ended(build("success", plan=plan), [])
        made.build_ended(build("failed", plan=plan, id=43), [])
        made.build_ended(build("cancelled", plan=plan, id=44), [])
        await made.aclose(5)

    assert [names for names, _, _ in record.sent] == [("x", "y", "z"), ("y", "z"), ("x", "y"), ("x", "y", "z")]


async def test_what_an_earlier_worker_told_is_not_repeated() -> None:
    """Issue. `already` knows."""
    made, record = notifier(already=lambda key: key in {("started", 42), ("stage", 42, "yocto-image", 1)})
    async with asyncio.timeout(5):
        made.build_started(build())
        made.stage_ended(build(), stage(), 1, 3)
        made.stage_ended(build(), failed(), 2, 3)
        await made.aclose(5)

    assert [text for _, text, _ in record.sent] == ["❌ Stage 2 FAILED: host-build"]


async def test_cancelled_and_skipped_stages_and_single_ones_say_nothing() -> None:
    """Ours. Never a flood."""
    made, record = notifier()
    made.stage_ended(build(), stage(status="cancelled"), 1, 3)
    made.stage_ended(build(), stage(status="skipped"), 2, 3)
    made.stage_ended(build(), stage(), 1, 1)
    await made.aclose(5)

    assert record.sent == []


async def test_a_plan_without_channels_starts_nothing() -> None:
    """Ours."""
    made, record = notifier()
    made.build_started(build(plan=Plan(stages=())))
    await made.aclose(5)

    assert record.sent == []


async def test_the_end_waits_no_longer_than_it_may() -> None:
    """Ours. A worker that leaves is not held by a dead channel."""
    made, record = notifier()
    record.gate.clear()
    async with asyncio.timeout(5):
        made.build_started(build())
        await made.aclose(0)

    assert record.sent == []


async def test_a_long_queue_drops_stages_before_ends() -> None:
    """Ours. Bounded memory."""
    made, record = notifier()
    record.gate.clear()
    async with asyncio.timeout(10):
        made.build_ended(build("success", id=1), [])
        await asyncio.sleep(0)
        made.build_ended(build("success", id=2), [])
        for number in range(300):
            made.stage_ended(build(id=number + 10), stage(), 1, 3)
        record.gate.set()
        await made.aclose(5)

    assert len(record.sent) == 201
    assert [last for _, _, last in record.sent[:2]] == [True, True]


async def test_what_could_not_be_delivered_is_said_once_a_build() -> None:
    """Issue."""
    said: list[tuple[int, str]] = []
    made, record = notifier(undelivered=lambda number, sentence: said.append((number, sentence)))
    record.answer = ["notifications.discord: could not be reached"]
    async with asyncio.timeout(5):
        made.build_started(build())
        made.build_ended(build("success"), [])
        made.build_started(build(id=43))
        await made.aclose(5)

    assert said == [(42, record.answer[0]), (43, record.answer[0])]
