"""The question behind Ctrl-C: what an answer means. That Ctrl-C and a terminal lead to it, integration/cli shows."""

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from mcp_server.cli import follow
from mcp_server.cli.screen import Screen


class Asked:
    """A screen that only counts its questions."""

    def __init__(self) -> None:
        self.questions = 0

    def ask(self, text: str) -> None:
        assert "Detach or cancel?" in text
        self.questions += 1

    def say(self, text: str) -> None:
        assert text == ""


async def answer(monkeypatch: pytest.MonkeyPatch, *lines: str, signals: int = 0) -> tuple[str, int]:
    """What these lines, or so many signals, come to, and how often it was asked."""
    typed: asyncio.Queue[str] = asyncio.Queue()
    heard: follow.Signals = asyncio.Queue()
    for line in lines:
        typed.put_nowait(line)
    for _ in range(signals):
        heard.put_nowait(signal.SIGINT)

    @asynccontextmanager
    async def lines_typed() -> AsyncGenerator[asyncio.Queue[str]]:
        yield typed

    monkeypatch.setattr(follow, "lines_typed", lines_typed)
    screen = Asked()
    async with asyncio.timeout(5):
        meant = await follow._ask(42, heard, cast(Screen, screen))
    return meant, screen.questions


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("d\n", "detach"),
        ("detach\n", "detach"),
        (" DET \n", "detach"),
        ("c\n", "cancel"),
        ("cancel\n", "cancel"),
        ("\n", "follow"),
        ("", "detach"),  # nobody is left to type
    ],
)
async def test_a_word_or_its_beginning_is_the_answer(monkeypatch: pytest.MonkeyPatch, line: str, meant: str) -> None:
    """Ours. Nothing but a word that begins `cancel` may end a build."""
    assert await answer(monkeypatch, line) == (meant, 1)


async def test_a_second_ctrl_c_detaches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours."""
    assert await answer(monkeypatch, signals=1) == ("detach", 1)


async def test_anything_else_is_asked_about_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours. Also what goes on behind a whole word."""
    assert await answer(monkeypatch, "what?\n", "cancelled\n", "detach it\n", "\n") == ("follow", 4)
