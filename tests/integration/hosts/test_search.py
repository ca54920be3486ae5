"""Searching and reading a far log where it lies gives what reading all of it would, and brings little over the link."""

import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest

from mcp_server.errors import BadInput, NotFound
from mcp_server.hosts import search
from mcp_server.hosts.base import Host, JobSpec
from mcp_server.hosts.far import FarHost
from mcp_server.logs import slice_log
from tests.integration.hosts.conftest import FAR

Sh = Callable[..., JobSpec]

TEXT = r"""
i=0
while [ $i -lt 300 ]; do echo "[$i/300] compiling"; i=$((i+1)); done
printf 'main.c:3: \033[31merr\033[0mor: foo\n10%%\r20%% error: bar\nend of error: x\n:colon error: y\n'
printf 'last error: z'
"""


@pytest.mark.parametrize(
    "pattern",
    ["error:", "error: .*o", r"\[299/300\]|last error", "[Ee]rror", "nothing at all", "(?ai)ERROR: Z|COMPILING"],
)
async def test_a_search_finds_the_same_everywhere(
    host: Host, sh: Sh, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. Colours within a word, rewritten lines, no newline at the end."""
    await host.start(sh("a", TEXT))
    await host.wait("a")
    found = await slice_log(host, "a", "build", grep=pattern)
    around = [await slice_log(host, "a", "build", around=number) for number in (1, 303, 305)]
    with pytest.raises(BadInput, match="it has 305 lines"):
        await slice_log(host, "a", "build", around=306)
    lines = [await slice_log(host, "a", "build", line=number, max_bytes=30) for number in (1, 2, 303, 305)]
    with pytest.raises(BadInput, match="it has 305 lines"):
        await slice_log(host, "a", "build", line=307)
    monkeypatch.setattr("mcp_server.logs.FarHost", int)
    assert lines == [await slice_log(host, "a", "build", line=number, max_bytes=30) for number in (1, 2, 303, 305)]
    assert found == await slice_log(host, "a", "build", grep=pattern)
    assert around == [await slice_log(host, "a", "build", around=number) for number in (1, 303, 305)]
    assert "of 305 lines match" in found.note


@pytest.mark.parametrize("make", FAR, indirect=True)
async def test_a_far_log_is_not_brought_here(host: Host, sh: Sh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue. Neither for a search nor for the neighbourhood of a line, also with a hole in it."""
    cap = 1 << 20
    await host.start(
        replace(sh("a", f"echo error: 1; {TEXT}; head -c 3000000 /dev/zero | tr '\\0' x; {TEXT}"), log_cap_bytes=cap)
    )
    await host.wait("a")

    async def never(*arguments: object) -> bytes:
        raise AssertionError("the log was read")

    monkeypatch.setattr(FarHost, "read_log", never)
    found = await slice_log(host, "a", "build", grep="error: ")
    assert found.text.startswith("1: error: 1\n")
    assert "error: z" in found.text
    assert "1: error: 1" in (await slice_log(host, "a", "build", around=2)).text
    assert (await search.measure(host, "a", 2))[0] == 2
    with pytest.raises(NotFound):
        await slice_log(host, "absent", "build", grep="error: ")


def test_the_tools_of_the_search_are_here() -> None:
    """Ours."""
    assert all(shutil.which(tool) for tool in ("grep", "sed", "cut", "head", "tail"))
