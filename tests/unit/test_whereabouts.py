"""Who does or could do a build, in words."""

from datetime import UTC, datetime, timedelta

import pytest

from mcp_server.store.workers import WorkerRow
from mcp_server.whereabouts import name_of, team, why_idle

SEEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def worker(name: str, *, alive: bool = True, leads: bool = False, version: str = "1.0") -> WorkerRow:
    return WorkerRow(
        id=f"id-{name}",
        machine=f"m-{name}",
        name=name,
        home=f"/home/{name}",
        pid=1,
        version=version,
        state="serving",
        number=1,
        started_at=SEEN,
        seen_at=SEEN,
        until=SEEN + timedelta(seconds=8),
        alive=alive,
        leads=leads,
    )


A, DEAD = worker("a", leads=True), worker("b", alive=False)
SINCE = "not heard of since 2026-01-02 03:04:05 UTC"


@pytest.mark.parametrize(
    ("rows", "place", "machine", "has", "running", "cancelled", "said"),
    [
        ([A], None, None, None, False, False, ""),
        ([A, DEAD], "machine:m-a", "m-a", "id-a", True, False, ""),
        ([], None, None, None, False, False, "no worker is running: start `build-orchestrator worker`"),
        ([DEAD], None, None, "id-b", True, False, "no worker is running: start `build-orchestrator worker`"),
        ([A, DEAD], "machine:m-b", None, None, False, False, f"waits for machine b, {SINCE}"),
        ([A, DEAD], "machine:m-b", "m-b", "id-b", True, False, f"waits for machine b, {SINCE}"),
        (
            [A, DEAD],
            "machine:m-b",
            "m-b",
            "id-b",
            True,
            True,
            f"its jobs are ended when machine b is back, {SINCE}; cancel --force does not wait for it",
        ),
        (
            [A],
            "machine:m-z",
            None,
            None,
            False,
            False,
            "waits for machine m-z: no worker is running there, start `build-orchestrator worker` there",
        ),
        (
            [A, DEAD],
            "home:/home/b",
            None,
            None,
            False,
            False,
            f"waits for a worker whose home is /home/b; b is {SINCE}",
        ),
        ([A, DEAD], None, None, "id-b", True, False, f"its worker b is {SINCE}; another takes it over within 8 s"),
        ([A], None, None, "id-gone", True, False, "its worker has left; another takes it over"),
        ([A], None, "m-b", "id-a", True, True, ""),  # it was cancelled without its machine
    ],
)
def test_why_nobody_works_on_a_build_is_said_as_it_is(
    rows: list[WorkerRow],
    place: str | None,
    machine: str | None,
    has: str | None,
    running: bool,
    cancelled: bool,
    said: str,
) -> None:
    """Issue: waits are told truthfully."""
    assert why_idle(rows, place=place, machine=machine, worker=has, running=running, cancelled=cancelled) == said


def test_the_team_is_one_sentence() -> None:
    """Ours."""
    assert team([A]) == "1 worker, a leads"
    newer = worker("c", version="2.0")
    assert team([A, DEAD, newer]) == f"2 workers, a leads; b is {SINCE}; their versions differ: 1.0, 2.0"
    assert team([]) == "no worker is running: start `build-orchestrator worker`"
    assert (name_of([A], "m-a"), name_of([A], "m-z")) == ("a", "m-z")
