"""The monitor's log, written by its program and read again, cut anywhere; and the program itself, as text."""

import ast
import tempfile
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcp_server.errors import BadInput
from mcp_server.idf import monitor, serial_port

PIECES = st.lists(
    st.one_of(
        st.binary(max_size=30),
        st.sampled_from([b"\\", b"\n", b"\\\n", b"[1.000] ", b"[1.000]+", b"--- [0.000] x", b"\0", b"y" * 5000]),
        st.just(None),
    ),
    max_size=12,
)
"""What the board says, in pieces; None: a remark is made."""


def log_of(pieces: list[bytes | None]) -> bytes:
    """What the program writes for it."""
    with tempfile.TemporaryFile() as file:
        log = serial_port.Log(file.fileno())
        for piece in pieces:
            if piece is None:
                log.remark("a remark")
            elif piece:
                log.board(piece)
        log.remark("closed", cut=True)
        file.seek(0)
        return file.read()


@given(pieces=PIECES, cuts=st.lists(st.integers(0, 400), max_size=6))
@example(pieces=[b"a\\", b"\n", None, b"b\\\n"], cuts=[])
@example(pieces=[b"y" * 4096 + b"\\", None, b"\n\n"], cuts=[])
def test_the_boards_bytes_come_out_as_they_went_in(pieces: list[bytes | None], cuts: list[int]) -> None:
    """Ours: whatever they look like, wherever remarks were made, however the log is cut into pieces."""
    log = log_of(pieces)
    board, places = monitor.BoardBytes(), sorted({0, len(log), *(cut for cut in cuts if cut < len(log))})
    read = b"".join(board.feed(log[first:last]) for first, last in pairwise(places))

    said = b"".join(piece for piece in pieces if piece)
    assert read + board.close() == said + (b"\n" if said and not said.endswith(b"\n") else b"")


def test_a_line_that_ended_is_given_at_once() -> None:
    """Ours: a reader gets it without what comes next. Lines and remarks are counted and kept."""
    board = monitor.BoardBytes()
    log = log_of([b"one\ntw", None, b"o\n"])

    assert board.feed(log) == b"one\ntwo\n"
    assert board.lines == 2
    assert list(board.remarks) == ["a remark", "closed"]


def test_lines_of_others_in_the_log_are_not_the_boards() -> None:
    """Ours: what the job's own script says, a traceback of Python."""
    board = monitor.BoardBytes()
    log = b"build-orchestrator: waiting\n[0.001] hi\nTraceback (most recent call last):\n  File x\n[0.002] ho\n"

    assert board.feed(log) + board.close() == b"hi\nho\n"
    assert board.remarks[0] == "build-orchestrator: waiting"


def test_the_program_is_one_text_that_old_pythons_take() -> None:
    """Ours: Python 3.8, which Debian 11 and Ubuntu 20.04 have; nothing of ours is imported when it runs."""
    tree = ast.parse(monitor.PROGRAM, feature_version=(3, 8))
    imported = {
        alias.name
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in ([ast.alias(node.module or "")] if isinstance(node, ast.ImportFrom) else node.names)
    }

    assert "mcp_server" not in {name.partition(".")[0] for name in imported}
    assert len(monitor.PROGRAM.encode()) < 65_536  # one argument may have 128 kB


@pytest.mark.parametrize("baud", [0, 49, -1, 10**9, True, "115200", 1.5, None])
def test_a_baud_rate_that_none_is_is_refused(baud: object) -> None:
    """Ours."""
    with pytest.raises(BadInput, match="baud"):
        monitor.checked_baud(baud)


def test_each_end_of_a_monitor_has_its_words() -> None:
    """Ours."""
    assert monitor.sentence(0) == ""
    assert "busy" in monitor.sentence(3)
    assert "dialout" in monitor.sentence(4)
    assert monitor.sentence(99) == "the monitor ended with exit code 99"
    assert monitor.sentence(None) == "the monitor ended with exit code None"
