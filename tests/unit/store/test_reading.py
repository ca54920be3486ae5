"""Questions that are asked together are answered together, and each for itself."""

import asyncio

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from mcp_server.errors import NotFound, StoreError
from mcp_server.store.database import Store
from mcp_server.store.tables import META


def uuid(c: sa.Connection) -> str:
    return str(c.scalar(sa.select(META.c.value).where(META.c.key == "uuid")))


def wrong(c: sa.Connection) -> None:
    c.execute(sa.text("SELECT nothing FROM nowhere"))


def missing(_: sa.Connection) -> None:
    raise NotFound("no such thing")


async def test_what_is_asked_in_one_turn_is_read_in_one_transaction(store: Store) -> None:
    """Ours. A commit lets many builds go on; a transaction costs more than most of their questions."""
    begun: list[sa.Connection] = []
    event.listen(store.engine, "begin", begun.append)

    asked = [asyncio.create_task(store.read(uuid)) for _ in range(20)]
    answers = await asyncio.gather(*asked)

    assert answers == [await store.uuid()] * 20
    assert len(begun) == 2  # and one for `uuid`


async def test_a_question_that_fails_leaves_the_others_their_answers(store: Store) -> None:
    """Ours. PostgreSQL answers nothing more in a transaction in which one statement was wrong."""
    questions = (uuid, missing, uuid, wrong, uuid)

    answers = await asyncio.gather(*(store.read(one) for one in questions), return_exceptions=True)

    kinds = [NotFound, StoreError]
    assert [type(one) for one in (answers[1], answers[3])] == kinds
    assert {answers[0], answers[2], answers[4]} == {await store.uuid()}
    with pytest.raises(NotFound):
        await store.read(missing)


async def test_who_no_longer_waits_takes_no_answer_from_the_others(store: Store) -> None:
    """Ours."""
    one, other = (asyncio.create_task(store.read(uuid)) for _ in range(2))
    await asyncio.sleep(0)
    one.cancel()

    assert await other == await store.uuid()
    assert one.cancelled()
    left = asyncio.create_task(store.read(uuid))
    await asyncio.sleep(0)
    left.cancel()
    await store.aclose()  # waits for what is under way
