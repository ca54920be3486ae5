"""Graphs of stages by name: order, cycles, critical path, and how long it all takes. Pure functions.

A graph is name → the names it depends on; a name that is only depended on counts as one with no dependency.
Times are seconds; a stage without one counts 0.
"""

import heapq
from collections.abc import Mapping, Sequence

Graph = Mapping[str, Sequence[str]]


class CycleError(ValueError):
    """There is no order: the stages in `path` depend on each other in a circle, the first and the last are the same."""

    def __init__(self, path: Sequence[str]) -> None:
        self.path = tuple(path)
        super().__init__(" → ".join(self.path))


def order(graph: Graph) -> tuple[str, ...]:
    """Every stage after those it depends on; else as the graph lists them. CycleError where there is no such order."""
    dependents = followers(graph)
    missing = {name: len(set(graph.get(name, ()))) for name in dependents}
    place = {name: number for number, name in enumerate(dependents)}
    ready = [number for name, number in place.items() if not missing[name]]
    names = list(dependents)
    found: list[str] = []
    while ready:
        name = names[heapq.heappop(ready)]
        found.append(name)
        for follower in dependents[name]:
            missing[follower] -= 1
            if not missing[follower]:
                heapq.heappush(ready, place[follower])
    if len(found) < len(names):
        raise CycleError(find_cycle(graph) or ())
    return tuple(found)


def followers(graph: Graph) -> dict[str, list[str]]:
    """Who depends on each stage, each once; every stage of the graph is a key, in the graph's order."""
    found: dict[str, list[str]] = {name: [] for name in graph}
    for name, after in graph.items():
        for dependency in dict.fromkeys(after):
            found.setdefault(dependency, []).append(name)
    return found


def find_cycle(graph: Graph) -> tuple[str, ...] | None:
    """A circle as a path from dependent to dependency, `(a, b, a)`; None where there is none. Never recurses."""
    done: set[str] = set()
    for start in graph:
        if start in done:
            continue
        path, on_path, open_ = [start], {start}, [iter(graph.get(start, ()))]
        while open_:
            for name in open_[-1]:
                if name in on_path:
                    return (*path[path.index(name) :], name)
                if name not in done:
                    path.append(name)
                    on_path.add(name)
                    open_.append(iter(graph.get(name, ())))
                    break
            else:
                open_.pop()
                on_path.discard(path[-1])
                done.add(path.pop())
    return None


def ranks(graph: Graph, durations: Mapping[str, float]) -> dict[str, float]:
    """Seconds from the start of a stage to the end of all that waits for it, itself included: the greater, the sooner.

    That a stage ranks above whoever waits for it holds also where durations are 0 only through `order`: ties go there.
    """
    dependents = followers(graph)
    found: dict[str, float] = {}
    for name in reversed(order(graph)):
        found[name] = durations.get(name, 0.0) + max((found[follower] for follower in dependents[name]), default=0.0)
    return found


def critical_path(graph: Graph, durations: Mapping[str, float]) -> tuple[str, ...]:
    """The chain of stages that takes longest, in the order they run; empty for an empty graph."""
    rank, dependents = ranks(graph, durations), followers(graph)
    starts = [name for name in dependents if not graph.get(name)]
    path: list[str] = []
    while starts:
        path.append(max(starts, key=lambda name: rank[name]))
        starts = dependents[path[-1]]
    return tuple(path)


def eta_s(
    graph: Graph,
    remaining: Mapping[str, float],
    *,
    hosts: Mapping[str, str] | None = None,
    slots: Mapping[str, int] | None = None,
    parallel_limit: int | None = None,
    running: Sequence[str] = (),
) -> float:
    """Seconds until the last stage ends, as the scheduler goes: who has most after it first.

    `graph` holds what has not ended; a dependency outside it has. `remaining` is what each stage still takes, `hosts`
    where it runs, `slots` how many run there at a time (absent: no bound), `running` those that already do.
    """
    left = {name: [other for other in after if other in graph] for name, after in graph.items()}
    return _Simulation(left, remaining, hosts or {}, slots or {}, parallel_limit or len(left)).run(running)


class _Simulation:
    """List scheduling, in O((stages + edges) log stages): a heap of ready stages a host, one of ends."""

    def __init__(
        self,
        graph: Graph,
        remaining: Mapping[str, float],
        hosts: Mapping[str, str],
        slots: Mapping[str, int],
        limit: int,
    ) -> None:
        self._remaining, self._hosts = remaining, hosts
        self._rank, self._dependents = ranks(graph, remaining), followers(graph)
        self._missing = {name: len(set(after)) for name, after in graph.items()}
        self._free = {host: max(1, slots.get(host, len(graph))) for host in set(hosts.values()) | {""}}
        self._limit = limit
        self._ready: dict[str, list[tuple[float, str]]] = {host: [] for host in self._free}
        self._ends: list[tuple[float, str]] = []
        self._now = 0.0

    def run(self, running: Sequence[str]) -> float:
        going = [name for name in dict.fromkeys(running) if name in self._missing]
        for name in going:
            self._start(name)
        for name, missing in self._missing.items():
            if not missing and name not in going:
                self._queue(name)
        self._fill()
        while self._ends:
            self._now, name = heapq.heappop(self._ends)
            self._limit += 1
            self._free[self._hosts.get(name, "")] += 1
            for follower in self._dependents[name]:
                self._missing[follower] -= 1
                if not self._missing[follower] and follower not in going:
                    self._queue(follower)
            self._fill()
        return self._now

    def _queue(self, name: str) -> None:
        heapq.heappush(self._ready[self._hosts.get(name, "")], (-self._rank[name], name))

    def _start(self, name: str) -> None:
        self._limit -= 1
        self._free[self._hosts.get(name, "")] -= 1
        heapq.heappush(self._ends, (self._now + max(0.0, self._remaining.get(name, 0.0)), name))

    def _fill(self) -> None:
        """Start what may run: of all hosts with a free slot, the ready stage that has most after it."""
        while self._limit > 0:
            open_ = [(queue[0], host) for host, queue in self._ready.items() if queue and self._free[host] > 0]
            if not open_:
                return
            (_, name), host = min(open_)
            heapq.heappop(self._ready[host])
            self._start(name)
