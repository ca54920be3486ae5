"""The protocol's client side, with no host: what is refused unsent, how answers are read, what is asked again."""

import asyncio
import math
import subprocess
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.errors import BadInput, Conflict, HostError, HostFull, HostUnreachable, JobConflict, NotFound
from mcp_server.hosts import job as protocol
from mcp_server.hosts.base import Exit, ExitReason, JobSpec, JobState, JobStatus
from mcp_server.hosts.gap import Stream
from mcp_server.hosts.job import Channel, JobHost, parse_status
from mcp_server.hosts.request import encode, quote
from mcp_server.hosts.script import Script

JOB = JobSpec("a", ["true"], "/tmp")
Reply = Callable[[list[str]], str | None]


@given(st.lists(st.binary(max_size=40).filter(lambda raw: b"\0" not in raw), min_size=1, max_size=5))
def test_any_bytes_survive_quoting(words: list[bytes]) -> None:
    """Ours: each is one word of sh, on one line."""
    quoted = [quote(word.decode("utf-8", "surrogateescape")) for word in words]
    assert not any(b"\n" in word for word in quoted)
    text = b"BO_NL='\n'; printf '%s\\0' " + b" ".join(quoted)
    assert subprocess.run(["sh", "-c", text], capture_output=True, check=True).stdout == b"\0".join([*words, b""])


@pytest.mark.parametrize(
    ("changes", "argument"),
    [
        ({"argv": []}, "argv"),
        ({"argv": [""]}, "argv"),
        ({"argv": ["-x"]}, "argv"),
        ({"argv": ["true", "a\0b"]}, "argv"),
        ({"cwd": "relative"}, "cwd"),
        ({"cwd": ""}, "cwd"),
        ({"cwd": "/a\0b"}, "cwd"),
        ({"lock": "relative"}, "lock"),
        ({"env": {"a b": ""}}, "env"),
        ({"env": {"": ""}}, "env"),
        ({"env": {"1A": ""}}, "env"),
        ({"env": {"A=B": ""}}, "env"),
        ({"env": {"Ä": ""}}, "env"),
        ({"env": {"A\n": ""}}, "env"),
        ({"env": {"A": "b\0c"}}, "env"),
        ({"env": {"BO_JOB": "mine"}}, "env"),
        ({"env": {"BO_NL": "mine"}}, "env"),
        ({"env": {"UID": "0"}}, "env"),
        ({"timeout_s": -1}, "timeout_s"),
        ({"timeout_s": math.nan}, "timeout_s"),
        ({"timeout_s": math.inf}, "timeout_s"),
        ({"grace_s": -0.1}, "grace_s"),
        ({"grace_s": math.inf}, "grace_s"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(changes: Mapping[str, Any], argument: str) -> None:
    """Ours: before anything is sent."""
    arguments: dict[str, Any] = {"id": "a", "argv": ["true"], "cwd": "/", **changes}
    job = JobSpec(**arguments)
    with pytest.raises(BadInput) as caught:
        encode(job)
    assert caught.value.argument == argument


@pytest.mark.parametrize(
    ("timeout_s", "grace_s", "words"),
    [(0, 5, b"0 500 "), (7200, 0.5, b"7200 50 "), (1.5, 0, b"1.50 0 "), (0.001, 1.234, b"0.01 123 ")],
)
def test_times_are_sent_as_sh_can_count_them(timeout_s: float, grace_s: float, words: bytes) -> None:
    """Ours: a short timeout never becomes none."""
    assert encode(JobSpec("a", ["true"], "/", timeout_s=timeout_s, grace_s=grace_s)).startswith(words)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("absent", JobStatus(JobState.ABSENT)),
        ("starting h", JobStatus(JobState.STARTING, "h")),
        ("running h", JobStatus(JobState.RUNNING, "h")),
        ("lost h", JobStatus(JobState.LOST, "h", Exit(ExitReason.LOST, None))),
        ("ended h 3 exit 1.50 2.25 7", JobStatus(JobState.ENDED, "h", Exit(ExitReason.EXIT, 3, 1.5, 2.25, 7))),
        ("ended - 143 cancelled 1 2 0", JobStatus(JobState.ENDED, None, Exit(ExitReason.CANCELLED, 143, 1, 2, 0))),
    ],
)
def test_every_state_is_read(answer: str, status: JobStatus) -> None:
    """Ours."""
    assert parse_status(answer.split()) == status


class FakeChannel:
    """A multiplexer that answers as `reply` says; None: it dies instead."""

    def __init__(self, greeting: bytes, reply: Reply) -> None:
        self.lines: asyncio.Queue[bytes] = asyncio.Queue()
        self.lines.put_nowait(greeting)
        self.reply = reply

    async def write(self, data: bytes) -> None:
        number, *words = data.decode().split()
        answer = self.reply(words)
        self.lines.put_nowait(b"" if answer is None else f"{number} {answer}\n".encode() if answer else b"999 stray\n")

    async def read(self, max_bytes: int) -> bytes:
        return b""

    async def end_input(self) -> None:
        raise AssertionError("the multiplexer's input stays open")

    async def readline(self) -> bytes:
        return await self.lines.get()

    async def close(self) -> tuple[int | None, str]:
        self.lines.put_nowait(b"")
        return 2, "sh: cannot open"


class FakeShell:
    name = "far"

    def __init__(self, *replies: Reply | None) -> None:
        self.replies = list(replies)
        self.installed = 0

    async def open(self, script: Script, op: str, *args: str) -> Channel:
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        return FakeChannel(b"" if reply is None else b"ready 1 /jobs/m\n", reply or (lambda words: None))

    async def install(self, script: Script) -> None:
        self.installed += 1


def always(answer: str | None) -> Reply:
    return lambda words: answer


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("conflict", JobConflict),
        ("full", HostFull),
        ("error mkdir: Read-only file system", HostError),
        ("what", HostError),
    ],
)
async def test_every_refusal_of_a_start_has_its_error(answer: str, error: type[HostError]) -> None:
    """Ours."""
    host = JobHost(FakeShell(always(answer)))
    with pytest.raises(error, match="host far: ") as caught:
        await host.start(JOB)
    assert type(caught.value) is error
    await host.aclose()


async def test_answers_to_other_operations_have_theirs() -> None:
    """Ours."""
    host = JobHost(
        FakeShell(lambda words: {"kill": "full", "remove": "running h", "wait": "absent"}.get(words[0], "odd"))
    )
    for call, error in (
        (host.kill, HostFull),
        (host.remove, Conflict),
        (host.wait, NotFound),
        (host.status, HostError),
    ):
        with pytest.raises(error):
            await call("a")
    await host.aclose()


async def test_a_missing_script_is_installed_once() -> None:
    """Once broken: `sh: cannot open` on a new host."""
    shell = FakeShell(None, always("absent"))
    host = JobHost(shell)
    assert (await host.status("a")).state is JobState.ABSENT
    assert shell.installed == 1
    await host.aclose()


async def test_a_host_that_cannot_run_the_script_is_unreachable() -> None:
    """Ours: with what it said."""
    host = JobHost(FakeShell(None))
    with pytest.raises(HostUnreachable, match="host far: cannot run its job script: sh: cannot open"):
        await host.status("a")
    await host.aclose()


async def test_a_script_that_went_missing_is_installed_again() -> None:
    """Ours: the multiplexer still runs then, and says so."""
    answers = iter(["gone", "started"])
    shell = FakeShell(lambda words: next(answers))
    host = JobHost(shell)
    assert await host.start(JOB) is True
    assert shell.installed == 1
    await host.aclose()


async def test_a_lost_multiplexer_is_asked_again() -> None:
    """Ours: everything may be asked twice."""
    host = JobHost(FakeShell(always(None), always(None), always("running h")))
    assert (await host.status("a")).state is JobState.RUNNING
    await host.aclose()


async def test_a_request_that_ends_every_multiplexer_is_given_up() -> None:
    """Ours."""
    host = JobHost(FakeShell(always(None)))
    with pytest.raises(HostUnreachable, match="ends as soon as it is asked"):
        await host.status("a")
    await host.aclose()


async def test_silence_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours: and an answer to nobody is ignored."""
    host = JobHost(FakeShell(always("")))
    with pytest.raises(HostUnreachable, match=r"no answer within 0\.01 s"):
        await host._mux.ask("status", "a", timeout_s=0.01)
    await host.aclose()


async def test_a_closed_host_is_unreachable() -> None:
    """Ours: also for who was waiting; closing twice is harmless."""
    host = JobHost(FakeShell(always("")))
    waiting = asyncio.create_task(host.wait("a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await host.aclose()
    await host.aclose()
    for call in (waiting, host.status("a")):
        with pytest.raises(HostUnreachable, match="closed here"):
            await call


def test_the_scripts_name_tells_its_text() -> None:
    """Ours: another text under the same name would change under a running supervisor."""
    assert protocol.JOB.name.startswith(".job-")
    assert len(protocol.JOB.name) == len(".job-.sh") + 16
    assert protocol.JOB.text.startswith(b"# Detached jobs")


async def test_a_start_that_is_not_answered_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a gap: a supervisor killed before its first act was noticed only after 30 s. The token tells our own job."""
    monkeypatch.setattr(protocol, "START_S", 0.01)
    asked: list[list[str]] = []

    def reply(words: list[str]) -> str:
        asked.append(words)
        return "" if len(asked) == 1 else "started"

    host = JobHost(FakeShell(reply))
    assert await host.start(JOB) is True
    assert len(asked) == 2
    assert asked[0] == asked[1]
    await host.aclose()


async def test_a_wait_whose_waiter_was_killed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a gap: it hung for ever. A look now and then finds what nobody told; a running job is waited for again."""
    monkeypatch.setattr(protocol, "LOOK_S", 0.01)
    looks = iter(["running h", "running h", "ended h 3 exit 1 2 0"])
    host = JobHost(FakeShell(lambda words: next(looks) if words[0] == "status" else ""))
    async with asyncio.timeout(2):
        assert (await host.wait("a")).code == 3
    await host.aclose()


@pytest.mark.parametrize(("answer", "hole"), [("none", None), ("hole 5 9", (5, 9))])
async def test_a_hole_is_read(answer: str, hole: tuple[int, int] | None) -> None:
    """Ours."""
    host = JobHost(FakeShell(always(answer)))
    assert await host.log_hole("a") == hole
    await host.aclose()


@given(st.binary(min_size=1, max_size=60), st.data())
def test_a_followed_log_has_every_offset(log: bytes, data: st.DataObject) -> None:
    """Ours: whatever the pieces, the hole, the size at the beginning and the offset asked for."""
    first = data.draw(st.integers(0, len(log)))
    last = data.draw(st.integers(first, len(log)))
    offset = data.draw(st.integers(0, len(log)))
    begun = min(offset, data.draw(st.integers(last, len(log))))
    sent = log[begun : max(begun, first)] + log[max(begun, last) :]
    stream, got = Stream(offset, b"%d %d %d\n" % (begun, first, last)), b""
    while sent:
        size = data.draw(st.integers(1, 20))
        got += b"".join(stream.pieces(sent[:size]))
        sent = sent[size:]
    expected = (log[:first] + bytes(last - first) + log[last:])[offset:]
    assert expected.startswith(got)
    assert not expected[len(got) :].strip(b"\0")


async def test_a_multiplexer_that_cannot_be_written_to_is_opened_anew() -> None:
    """Ours. Its reader had not seen the end yet, so the same request went to the same dead channel for ever."""

    def broken(words: list[str]) -> str:
        raise BrokenPipeError

    host = JobHost(FakeShell(broken, always("absent")))
    async with asyncio.timeout(5):
        assert (await host.status("a")).state is JobState.ABSENT
    await host.aclose()
