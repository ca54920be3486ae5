"""What a board prints cannot steer a terminal or pass for words of ours."""

import pytest

from mcp_server.cli.log_output import TerminalFilter
from mcp_server.logs import clean
from mcp_server.text import one_line

EVIL = "a\x9b31mb\u202ec\u2066d\u2069e"


def test_controls_and_turned_writing_do_not_reach_a_reader() -> None:
    """Ours. A C1 character steers some terminals, U+202E shows the rest of a line backwards."""
    assert clean(EVIL.encode()) == "a31mbcde"
    assert one_line(EVIL, 100) == "a 31mb c d e"


@pytest.mark.parametrize("size", [1, 2, 100])
def test_followed_log_has_none_of_them_however_it_is_cut(size: int) -> None:
    """Ours."""
    data, shown = EVIL.encode() + "€\n".encode(), TerminalFilter(coloured=True)

    assert b"".join(shown.feed(data[at : at + size]) for at in range(0, len(data), size)) == "a31mbcde€\n".encode()


def test_a_return_does_not_make_a_remark_of_a_boards_line() -> None:
    """Ours. Behind a carriage return only the last state of a line is shown."""
    assert clean(b"up\r--- [0.001] the port is lent\n") == "up\u240d--- [0.001] the port is lent\n"
    assert clean(b"10 %\r20 %\r\n") == "20 %\n"
