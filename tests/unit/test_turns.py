"""Whose turn it is: limits kept, priority kept, nobody starves; against the rule written down in three lines."""

from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from mcp_server.turns import Limits, Turns, Waiting

PROJECTS = st.sampled_from(["a", "b", "c", "d"])
BUILDS = st.lists(st.tuples(PROJECTS, st.sampled_from([0, 10, 20]), st.sampled_from(["", "box"])), max_size=30)
MOST = st.one_of(st.none(), st.integers(1, 4))
STEPS = st.lists(st.integers(0, 99), max_size=120)


def waiting(builds: Sequence[tuple[str, int, str]]) -> list[Waiting]:
    return [Waiting(number, *build) for number, build in enumerate(builds, 1)]


class Plain:
    """The same rule, by looking through all of them each time."""

    def __init__(self, limits: Limits, slots: int) -> None:
        self.limits, self.slots = limits, slots
        self.left: list[Waiting] = []
        self.runs: list[Waiting] = []
        self.served: list[str] = []

    def next(self) -> Waiting | None:
        running = Counter(one.project for one in self.runs)
        boxed = sum(one.pool == "box" for one in self.runs)
        most, each = self.limits.builds, self.limits.per_project
        free = [
            one
            for one in self.left
            if (each is None or running[one.project] < each) and (one.pool != "box" or boxed < self.slots)
        ]
        if not free or (most is not None and len(self.runs) >= most):
            return None

        def key(one: Waiting) -> tuple[int, int, int, int]:
            last = max((at for at, name in enumerate(self.served) if name == one.project), default=-1)
            return one.priority, running[one.project], last, one.id

        best = min(free, key=key)
        self.left.remove(best)
        self.runs.append(best)
        self.served.append(best.project)
        return best


@given(BUILDS, MOST, MOST, st.integers(1, 3), STEPS)
def test_the_next_is_who_the_rule_names_whatever_came_and_ended_before(
    builds: list[tuple[str, int, str]], most: int | None, each: int | None, slots: int, steps: list[int]
) -> None:
    """Ours. Builds come, leave, are taken and end in any order; limits hold after each step."""
    limits = Limits(most, each)
    turns, plain = Turns(limits, pools={"box": slots}), Plain(limits, slots)
    coming = waiting(builds)
    for step in steps:
        kind, which = step % 4, step // 4
        if kind == 0 and coming:
            turns.add(coming[0])
            plain.left.append(coming.pop(0))
        elif kind == 1 and plain.runs:
            over = plain.runs.pop(which % len(plain.runs))
            turns.end(over.project, over.pool)
        elif kind == 2 and plain.left:
            turns.remove(plain.left.pop(which % len(plain.left)).id)
        else:
            assert turns.next() == plain.next()
        assert len(turns) == len(plain.left)
        assert most is None or turns.running <= most
        assert each is None or all(turns.running_of(name) <= each for name in "abcd")


@given(BUILDS, st.integers(1, 4), MOST, st.lists(st.integers(0, 9), min_size=200, max_size=200))
def test_every_build_is_taken_and_no_project_twice_before_another_that_waits(
    builds: list[tuple[str, int, str]], most: int, each: int | None, ends: list[int]
) -> None:
    """Issue: fairness. While a project waits that runs none, none that runs one is served; each by its numbers."""
    turns, running, taken = Turns(Limits(most, each)), list[Waiting](), list[Waiting]()
    all_ = [Waiting(one.id, one.project) for one in waiting(builds)]  # of one priority
    for one in all_:
        turns.add(one)
    left = Counter(one.project for one in all_)
    while len(turns) or running:
        if (found := turns.next()) is not None:
            idle = [name for name, count in left.items() if count and name not in [one.project for one in running]]
            assert not idle or found.project in idle
            running.append(found)
            taken.append(found)
            left[found.project] -= 1
        else:
            assert running, "nothing runs and nobody is taken"
            over = running.pop(ends.pop() % len(running))
            turns.end(over.project)
    assert sorted(one.id for one in taken) == [one.id for one in all_]
    for name in "abcd":
        assert [one.id for one in taken if one.project == name] == [one.id for one in all_ if one.project == name]


def test_a_project_with_a_hundred_builds_keeps_nobody_waiting() -> None:
    """Issue: turn by turn. Urgent ones first, whoever's they are; what runs from before counts, also above a limit."""
    turns = Turns(Limits(2, 2))
    for number in range(100):
        turns.add(Waiting(number, "big"))
    turns.begin("big")
    turns.begin("big")
    turns.begin("big")
    turns.add(Waiting(200, "small"))
    turns.add(Waiting(201, "other", priority=5))
    assert turns.next() is None  # more run than may
    turns.end("big")
    turns.end("big")
    first = turns.next()
    turns.end("big")
    second = turns.next()
    assert first and second
    assert (first.id, second.id) == (201, 200)
    assert turns.full("big") is None
    turns.limit(Limits(None, 1))
    third = turns.next()
    assert third and (third.id, turns.next()) == (0, None)
    assert turns.full("big") == 1
    turns.limit(Limits(None, None))
    assert [one.id for one in iter(turns.next, None)] == list(range(1, 100))


def test_the_longest_unserved_goes_first_also_after_a_restart() -> None:
    """Ours. Who was served before is told from outside; who never was comes before all."""
    turns = Turns(served=["b", "a"])
    for number, name in enumerate("abc"):
        turns.add(Waiting(number, name))
    assert [one.project for one in iter(turns.next, None)] == ["c", "b", "a"]
