"""Graphs: order, circles, ranks, critical path and estimates, on random ones, too."""

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.pipelines.graph import CycleError, critical_path, eta_s, find_cycle, order, ranks

Graph = dict[str, list[str]]
DIAMOND = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}


@st.composite
def acyclic(draw: st.DrawFn) -> Graph:
    """Stages of which each depends on some listed before it, then shuffled."""
    count = draw(st.integers(0, 12))
    graph = {
        f"s{place}": [f"s{other}" for other in draw(st.sets(st.integers(0, place - 1)))] if place else []
        for place in range(count)
    }
    names = draw(st.permutations(list(graph)))
    return {name: graph[name] for name in names}


@st.composite
def any_graph(draw: st.DrawFn) -> Graph:
    count = draw(st.integers(1, 9))
    names = [f"s{place}" for place in range(count)]
    return {name: draw(st.lists(st.sampled_from(names), max_size=3)) for name in names}


DURATIONS = st.fixed_dictionaries({f"s{place}": st.integers(0, 50).map(float) for place in range(12)})


def reaches_itself(graph: Graph, start: str) -> bool:
    seen: set[str] = set()
    todo = list(graph[start])
    while todo:
        name = todo.pop()
        if name == start:
            return True
        if name not in seen:
            seen.add(name)
            todo += graph[name]
    return False


@given(acyclic())
def test_order_has_every_stage_after_those_it_waits_for(graph: Graph) -> None:
    """Issue."""
    found = order(graph)
    place = {name: number for number, name in enumerate(found)}

    assert sorted(found) == sorted(graph)
    assert all(place[other] < place[name] for name, after in graph.items() for other in after)


def test_order_keeps_the_files_where_nothing_else_decides() -> None:
    """Ours. So that a plan reads as its file does."""
    assert order({"z": [], "a": [], "m": ["z"]}) == ("z", "a", "m")
    assert order({"m": ["z"], "z": [], "a": []}) == ("z", "m", "a")


@given(any_graph())
def test_cycle_is_found_if_and_only_if_there_is_one(graph: Graph) -> None:
    """Issue. It is a path along the arrows that ends where it begins."""
    cycle = find_cycle(graph)

    assert (cycle is not None) == any(reaches_itself(graph, name) for name in graph)
    if cycle is not None:
        assert cycle[0] == cycle[-1]
        assert len(set(cycle)) == len(cycle) - 1
        assert all(other in graph[name] for name, other in pairwise(cycle))
        with pytest.raises(CycleError):
            order(graph)


@given(acyclic(), DURATIONS)
def test_ranks_fall_along_the_arrows(graph: Graph, durations: dict[str, float]) -> None:
    """Issue. A stage ranks its own duration above the highest of those that wait for it."""
    rank = ranks(graph, durations)

    for name in graph:
        followers = [rank[other] for other, after in graph.items() if name in after]
        assert rank[name] == durations[name] + max(followers, default=0)


@given(acyclic(), DURATIONS)
def test_critical_path_is_as_long_as_the_highest_rank(graph: Graph, durations: dict[str, float]) -> None:
    """Ours. And without bounds the whole takes just as long."""
    path = critical_path(graph, durations)
    length = sum(durations[name] for name in path)

    assert all(other in graph[name] for other, name in pairwise(path))
    assert length == max(ranks(graph, durations).values(), default=0)
    assert eta_s(graph, durations) == length


@given(acyclic(), DURATIONS, st.integers(1, 4), st.integers(1, 3))
def test_estimate_lies_between_its_bounds(graph: Graph, durations: dict[str, float], limit: int, slots: int) -> None:
    """Ours. Not below the critical path or the work by slots; not above one after the other."""
    hosts = {name: f"h{place % 2}" for place, name in enumerate(graph)}
    found = eta_s(graph, durations, hosts=hosts, slots={"h0": slots, "h1": slots}, parallel_limit=limit)
    work = sum(durations[name] for name in graph)

    assert found <= work
    assert found >= max(ranks(graph, durations).values(), default=0)
    assert found >= work / min(limit, 2 * slots)


def test_estimate_starts_the_longest_path_first() -> None:
    """Issue. Two slots: the long chain and the rest beside it, not the rest first."""
    graph: Graph = {"x": [], "y": [], "z": [], "long": [], "after": ["long"]}
    durations = {"x": 10.0, "y": 10.0, "z": 10.0, "long": 10.0, "after": 20.0}

    assert eta_s(graph, durations, parallel_limit=2) == 30


def test_estimate_counts_what_runs_already_and_what_has_ended() -> None:
    """Ours. `a` is over, `c` has 3 s left and holds the only slot."""
    graph = {"b": ["a"], "c": ["a"], "d": ["b", "c"]}
    times = {"b": 5.0, "c": 3.0, "d": 1.0}
    one_slot = {"hosts": dict.fromkeys(graph, "h"), "slots": {"h": 1}}

    assert eta_s(graph, times, running=["c"], **one_slot) == 9  # type: ignore[arg-type]
    assert eta_s(graph, times, running=["c"]) == 6
    assert eta_s(graph, times, hosts=dict.fromkeys(graph, "h"), slots={"h": 0}) == 9


def test_long_chains_and_wide_graphs_cost_little() -> None:
    """Issue. A thousand stages, also all in one chain: no recursion, no square of their number."""
    chain: Graph = {f"s{place}": [f"s{place - 1}"] if place else [] for place in range(5000)}
    wide: Graph = {f"s{place}": [] for place in range(1000)} | {"end": [f"s{place}" for place in range(1000)]}
    times = dict.fromkeys(chain, 1.0) | {"end": 1.0}
    started = time.process_time()

    assert find_cycle(chain) is None
    assert len(critical_path(chain, times)) == eta_s(chain, times) == 5000
    assert eta_s(wide, times, hosts={name: f"h{len(name)}" for name in wide}, parallel_limit=4) == 251
    assert time.process_time() - started < 2
