"""Redaction: values, their encodings, and values cut anywhere by the borders of pieces."""

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.redact import Redactor

TOKEN = "hunter2/+secret value"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_value_cut_by_pieces_is_masked_and_offsets_stay_true(size: int) -> None:
    """Issue: secrets echoed by the command."""
    redactor = Redactor([TOKEN])
    data = f"a {TOKEN} b {TOKEN}{TOKEN} hunter2/ c".encode()
    pieces = [redactor.feed(data[at : at + size]) for at in range(0, len(data), size)]
    out = b"".join(pieces) + redactor.finish()

    stars = "*" * len(TOKEN)
    assert out.decode() == f"a {stars} b {stars}{stars} hunter2/ c"


@given(
    values=st.lists(st.text("ab", min_size=4, max_size=9), max_size=4),
    text=st.text("ab", max_size=80),
    cuts=st.lists(st.integers(1, 9), min_size=1, max_size=40),
)
def test_pieces_come_out_as_long_and_free_of_whole_values(values: list[str], text: str, cuts: list[int]) -> None:
    """Ours. However values overlap and pieces fall, no byte is lost and no value is left."""
    redactor, data, out = Redactor(values), text.encode(), b""
    for cut in cuts:
        out += redactor.feed(data[:cut])
        data = data[cut:]
    out += redactor.feed(data) + redactor.finish()

    assert len(out) == len(text)
    assert not [value for value in values if value.encode() in out]
    assert all(now in (ord("*"), was) for now, was in zip(out, text.encode(), strict=True))


def test_what_cannot_begin_a_value_is_passed_on_at_once() -> None:
    """Ours. A log is followed live: nothing waits that need not."""
    redactor = Redactor([TOKEN])

    assert redactor.feed(b"line without\n") == b"line without\n"
    assert redactor.feed(b"x hunt") == b"x "
    assert redactor.feed(b"ing\n") == b"hunting\n"


@pytest.mark.parametrize(
    "form", [quote(TOKEN, safe=""), base64.b64encode(TOKEN.encode()).decode(), TOKEN.replace("é", "e")]
)
def test_encoded_forms_are_masked_in_texts(form: str) -> None:
    """Ours."""
    assert Redactor([TOKEN]).text(f"<{form.rstrip('=')}>") == "<***>"


def test_the_longest_value_wins() -> None:
    """Ours. Else the end of the longer one would stay readable."""
    assert Redactor(["abcd", "abcdefgh"]).text("abcdefgh") == "***"


def test_short_values_and_no_values_change_nothing() -> None:
    """Ours. Documented: less than four letters are not masked."""
    assert Redactor(["yes", ""]).text("yes or no") == "yes or no"
    assert Redactor([]).feed(b"abc") == b"abc"


def test_lines_of_a_key_are_masked_each() -> None:
    """Ours. A terminal prints a key with other line ends."""
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0\n-----END KEY-----"

    assert "MIIE" not in Redactor([key]).text(key.replace("\n", "\r\n"))
