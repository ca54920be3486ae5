"""`monitor` where what it follows is not there yet, or fails."""

import asyncio
import io
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mcp_server.cli import serial
from mcp_server.errors import HostUnreachable, NotFound
from mcp_server.views import BuildView, Started
from tests.unit.cli.builders import build, stage, view


@dataclass
class Session:
    """An orchestrator with one session, whose log comes as `answers` say: an error, or bytes and then the end."""

    answers: list[Exception | bytes]
    joined: bool = False
    heard_to: bytes = b""
    """The log's end comes once the board was sent this."""
    heard: bytes = b""
    ports: list[str | None] = field(default_factory=list[str | None])
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    closed: list[int] = field(default_factory=list[int])

    @property
    def devices(self) -> "Session":
        return self

    async def open_session(self, port: str | None, *_: object, **__: object) -> Started:
        self.ports.append(port)
        return Started(build(), joined=self.joined)

    async def close_session(self, number: int) -> str:
        self.closed.append(number)
        return "closed"

    async def send(self, _: int, data: str, *, reset: bool = False) -> str:
        self.heard += data.encode("utf-8", "surrogateescape")
        if self.heard.endswith(self.heard_to):
            self.enough.set()
        return "sent"

    async def get(self, _: object) -> BuildView:
        return view(build(status="running" if self.answers else "success"), stage("monitor", job_id="j"))

    async def wait(
        self, number: object, _: float, look: Callable[[BuildView], Awaitable[None]] | None = None
    ) -> BuildView:
        if look is not None:
            await look(await self.get(number))
            await asyncio.Event().wait()
        return await self.get(number)

    async def follow_log(self, _: object, __: object, write: Callable[[bytes], None]) -> None:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        write(answer)
        if self.heard_to:
            await self.enough.wait()


async def watch(session: Session, port: str = "socket://lab:1") -> int:
    async with asyncio.timeout(5):
        return await serial.watch(session, port, "local", None, raw=False, reset=False)  # type: ignore[arg-type]


async def test_a_session_whose_job_is_not_there_yet_is_waited_for(capfd: pytest.CaptureFixture[str]) -> None:
    """Ours: its row is written before its job is started."""
    session = Session([NotFound("no record of job"), b"--- open\n"])

    assert await watch(session) == 0
    assert capfd.readouterr().out == "--- open\n"


@pytest.mark.parametrize(("joined", "closed"), [(False, [42]), (True, [])])
async def test_a_session_that_cannot_be_followed_is_closed_by_who_opened_it(joined: bool, closed: list[int]) -> None:
    """Ours: nobody else knows of it, and it would keep the port."""
    session = Session([HostUnreachable("local", "no answer"), b""], joined=joined)
    with pytest.raises(HostUnreachable):
        await watch(session)

    assert session.closed == closed


@pytest.mark.parametrize("big", [False, True])
async def test_what_comes_in_a_pipe_or_a_file_is_sent_byte_by_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, big: bool
) -> None:
    """Ours: `echo help | monitor`. A letter may be cut in two between two readings, and a byte may be no letter."""
    text = "héélp\n".encode() * (700 if big else 1) + b"\xff\x00end"
    (tmp_path / "typed").write_bytes(text)
    reader, writer = os.pipe()
    os.write(writer, text)
    os.close(writer)
    for stdin in (os.fdopen(reader), (tmp_path / "typed").open()):
        with stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            session = Session([b"--- open\n"], heard_to=b"end")
            assert await watch(session) == 0
            assert session.heard == text


@pytest.mark.parametrize("stdin", [None, io.StringIO()])
async def test_a_session_is_watched_where_nothing_can_be_typed(
    monkeypatch: pytest.MonkeyPatch, stdin: io.StringIO | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Ours: a service starts its programs with stdin closed."""
    monkeypatch.setattr("sys.stdin", stdin)
    assert await watch(Session([b"--- open\n"])) == 0
    assert not caplog.records


async def test_a_path_is_meant_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours: the worker has another folder. A name of another machine's, or of none, stays what it is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dev").touch()
    session = Session([b"", b"", b""])
    for port in ("./dev", "dev/none", "socket://lab:1"):
        await watch(session, port)

    assert session.ports == [str(tmp_path / "dev"), "dev/none", "socket://lab:1"]
    assert serial.port_named("./dev", "lab") == "./dev"
