"""Work that is shared by all who ask for it at the same time."""

import asyncio

from mcp_server.engine.together import Together


async def test_who_asks_while_it_is_done_shares_the_next_one_and_gets_nothing_older() -> None:
    """Ours. What was begun before somebody asked may be older than what they have just changed."""
    goes_on, begun, done = asyncio.Event(), asyncio.Queue[str](), list[str]()

    async def work(key: str) -> int:
        done.append(key)
        begun.put_nowait(key)
        await goes_on.wait()
        return len(done)

    shared = Together(work)
    async with asyncio.timeout(5):
        first = asyncio.create_task(shared.ask("a"))
        await begun.get()
        later = [asyncio.create_task(shared.ask("a")) for _ in range(3)]
        other = asyncio.create_task(shared.ask("b"))
        await begun.get()
        later[0].cancel()  # the others get theirs all the same
        goes_on.set()

        assert (await first, await other) == (2, 2)
        assert await asyncio.gather(*later[1:]) == [3, 3]
        assert done == ["a", "b", "a"]


async def test_an_error_reaches_everybody_and_the_next_work_begins_anew() -> None:
    """Ours."""
    tries = iter((ValueError("no"), None))

    async def work(key: str) -> str:
        if (error := next(tries)) is not None:
            raise error
        return key

    shared = Together(work)
    failed = await asyncio.gather(shared.ask("a"), shared.ask("a"), return_exceptions=True)

    assert [str(error) for error in failed] == ["no", "no"]
    assert await shared.ask("a") == "a"
