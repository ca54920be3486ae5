"""The longest chain of a build's steps: small graphs worked out by hand, any graph against the plainest way."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.idf import ninja_graph
from mcp_server.idf.ninja_graph import longest_chain, longest_path_s

BUILD = rb"""
rule cc
  command = cc
build a.o gen/a$ b.h | ${workdir}a.o: cc a.c || order
build order: phony
build b$:.o: cc b.c | $
    gen/a$ b.h
build lib.a: cc a.o b$:.o |@ check
build check: cc lib.a slow
build slow: cc
build app.elf: cc lib.a
default app.elf
"""


def test_a_chain_goes_through_inputs_of_every_sort_but_validations() -> None:
    """Ninja's. Implicit and order-only inputs are waited for; names may hold escaped spaces and colons."""
    seconds = {b"a.o": 1.0, b"b:.o": 2.0, b"lib.a": 4.0, b"app.elf": 8.0, b"slow": 3.0, b"check": 0.5}

    assert longest_chain(BUILD, seconds) == 15.0
    assert longest_chain(BUILD, {b"slow": 20.0, b"app.elf": 1.0}) == 20.0
    assert longest_chain(BUILD, {}) == 0.0


def test_there_may_be_no_file_or_one_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours. It is told where it costs little, and left out elsewhere."""
    assert longest_path_s(tmp_path, {"a": 1.0}) is None
    (tmp_path / "build.ninja").write_bytes(BUILD)
    assert longest_path_s(tmp_path, {"a.o": 1.5}) == 1.5
    monkeypatch.setattr(ninja_graph, "MAX_BYTES", 10)
    assert longest_path_s(tmp_path, {"a.o": 1.5}) is None


def test_a_long_chain_is_no_recursion() -> None:
    """Ours. Generated builds have chains of thousands."""
    text = b"".join(b"build n%d: cc n%d\n" % (n, n + 1) for n in range(30_000))

    assert longest_chain(text, {b"n%d" % n: 0.001 for n in range(30_000)}) == 30.0


@given(st.lists(st.tuples(st.integers(0, 9), st.lists(st.integers(0, 14), max_size=4)), max_size=12))
def test_any_graph_without_a_circle_is_as_long_as_its_longest_way(edges: list[tuple[int, list[int]]]) -> None:
    """Ours. Against the plainest way to work it out."""
    needs = {n: [one for one in found if one > n] for n, (_, found) in enumerate(edges)}
    text = "".join(f"build n{n}: cc {' '.join(f'n{one}' for one in found)}\n" for n, found in needs.items())

    def over(n: int) -> int:
        return edges[n][0] + max((over(one) for one in needs[n] if one < len(edges)), default=0)

    wanted = max((over(n) for n in range(len(edges))), default=0)
    assert longest_chain(text.encode(), {f"n{n}".encode(): float(s) for n, (s, _) in enumerate(edges)}) == wanted


@given(st.text(alphabet="ab :|$@\n", max_size=120))
def test_whatever_the_file_holds_ends_with_a_number(text: str) -> None:
    """Ours. Circles and garbage are ninja's to refuse."""
    assert longest_chain(("build " + text.replace("\n", "\nbuild ")).encode(), {b"a": 1.0, b"b": 2.0}) >= 0
