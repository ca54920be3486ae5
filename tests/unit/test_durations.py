"""Durations as people write them."""

import pytest

from mcp_server.durations import parse_duration


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("2h", 7200),
        ("30m", 1800),
        ("90s", 90),
        ("1h30m", 5400),
        ("30d", 2_592_000),
        ("45", 45),
        (45, 45),
        ("0", 0),
        ("1.5h", 5400),
    ],
)
def test_duration_is_read(written: str | int, seconds: float) -> None:
    """Interfaces."""
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        ("3 hours", "write 3h"),
        ("1h 30m", "write 1h30m"),
        ("1 hour and 5 minutes", "write 1h5m"),
        ("2H", "write 2h"),
        ("10ms", "write 2h, 30m, 90s"),
        ("-5", "write 2h, 30m, 90s"),
        ("30m1h", "write 2h, 30m, 90s"),
        ("1e9", "write 2h, 30m, 90s"),
        ("٣h", "write 2h, 30m, 90s"),
        ("", "write 2h, 30m, 90s"),
        (True, "write 2h, 30m, 90s"),
        (None, "write 2h, 30m, 90s"),
        (float("inf"), "write 2h, 30m, 90s"),
        ("99999999999", "more than ten years"),
    ],
)
def test_no_duration_is_told_what_would_be_right(written: object, advice: str) -> None:
    """Interfaces: `3 hours` is refused with what would be right."""
    with pytest.raises(ValueError, match=advice):
        parse_duration(written)
