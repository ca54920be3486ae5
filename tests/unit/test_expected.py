"""When builds that wait will begin, in which order, and what they wait for."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from mcp_server.expected import OpenRow, Place, Room, places
from mcp_server.turns import Limits

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


def row(
    number: int,
    project: str = "a",
    *,
    ran_s: float | None = None,
    usual_s: float | None = 60,
    directory: str | None = None,
    priority: int = 10,
) -> OpenRow:
    """A build that waits, or has run for `ran_s`."""
    began = None if ran_s is None else NOW - timedelta(seconds=ran_s)
    return OpenRow(number, project, project, priority, began, "local", directory, usual_s)


def told(rows: list[OpenRow], room: Room) -> list[tuple[int, int, float | None, str]]:
    """Number, position, seconds until it begins, reason; in the order of positions."""
    found = sorted(places(rows, room, NOW).items(), key=lambda one: one[1].position)
    assert all(place.of == len(found) for _, place in found)
    return [(n, p.position, p.expected_start and (p.expected_start - NOW).total_seconds(), p.reason) for n, p in found]


def test_starts_come_from_what_such_builds_took_and_from_the_limits() -> None:
    """Issue: position, expected start, and the reason in words."""
    rows = [row(1, ran_s=20), row(2, "b", ran_s=50), row(3), row(4), row(5, "b"), row(6, "c", priority=1)]
    assert told(rows, Room(Limits(2), {"local": 3}, ["b", "a"])) == [
        (6, 1, 10, "2 of 2 builds run"),
        (5, 2, 40, "after 1 other"),
        (3, 3, 70, "after 2 others"),
        (4, 4, 100, "after 3 others"),
    ]
    assert told(rows[:4], Room(Limits(9, 1), {"local": 9})) == [
        (3, 1, 40, "project a has 1 of 1 builds running"),
        (4, 2, 100, "project a has 1 of 1 builds running"),
    ]
    assert told(rows[:3], Room(Limits(9), {"local": 2})) == [(3, 1, 10, "host local has 2 of 2 slots taken")]
    late = [row(1, ran_s=500), row(2)]  # it takes longer than usual: any time now
    assert told(late, Room(Limits(1))) == [(2, 1, 0, "1 of 1 builds run")]


def test_builds_of_one_directory_go_one_after_the_other() -> None:
    """Ours. Pushes of one project share a checkout, whatever the limits leave room for."""
    rows = [row(1, ran_s=0, directory="/w"), row(2, directory="/w"), row(3, "b"), row(4, directory="/w")]
    assert told(rows, Room(Limits(9, 5))) == [
        (3, 1, 0, "begins now"),
        (2, 2, 60, "build 1 runs in the same directory"),
        (4, 3, 120, "build 1 runs in the same directory"),
    ]


def test_what_nobody_knows_is_not_told() -> None:
    """Issue: null where nothing is known. It is still known who comes before whom, and what others end before."""
    rows = [row(1, ran_s=5, usual_s=None), row(2, ran_s=30), row(3, usual_s=None), row(4), row(5)]
    assert told(rows, Room(Limits(2))) == [
        (3, 1, 30, "2 of 2 builds run"),
        (4, 2, None, "after 1 other"),
        (5, 3, None, "after 2 others"),
    ]


def test_transfers_begin_beside_all_others() -> None:
    """Ours."""
    rows = [row(1, ran_s=0), row(2), row(3, "new", priority=-1)]
    assert [(number, reason) for number, *_, reason in told(rows, Room(Limits(1)))] == [
        (3, "begins now"),
        (2, "after 1 other"),
    ]


ROWS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.one_of(st.none(), st.integers(0, 99)),
        st.one_of(st.none(), st.integers(0, 99)),
        st.sampled_from([None, "/x", "/y"]),
        st.sampled_from([-1, 5, 10]),
    ),
    max_size=25,
)


@given(ROWS, st.integers(1, 4), st.one_of(st.none(), st.integers(1, 3)), st.integers(1, 3))
def test_each_that_waits_has_one_place_and_nobody_begins_before_who_is_before_him(
    given_: list[tuple[str, int | None, int | None, str | None, int]], most: int, each: int | None, slots: int
) -> None:
    """Ours. Whatever runs and waits, also more than the limits allow."""
    rows = [
        row(number, project, ran_s=ran, usual_s=usual, directory=directory, priority=priority)
        for number, (project, ran, usual, directory, priority) in enumerate(given_, 1)
    ]
    found: dict[int, Place] = dict(places(rows, Room(Limits(most, each), {"local": slots}), NOW))
    assert set(found) == {one.id for one in rows if one.began is None}
    line = sorted(found.values(), key=lambda one: one.position)
    assert [one.position for one in line] == list(range(1, len(found) + 1))
    starts = [one.expected_start for one in line]
    known = [one for one in starts if one is not None]
    assert known == sorted(known)
    assert starts == known + [None] * (len(starts) - len(known))
    assert all(one.reason for one in line)
