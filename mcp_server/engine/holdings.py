"""Who holds what, as far as this worker knows, so that a grant among a thousand hosts need not read them all."""

import heapq
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import overload

from mcp_server.store.leases import Held


@dataclass(frozen=True, slots=True)
class Choice:
    """A resource with so many slots. Of several choices the lowest `order` goes first, then the least loaded."""

    resource: str
    slots: int = 1
    order: int = 0


Claim = Sequence[Choice]
"""One slot of any of these."""

FEW = 8  # choices that are looked at one by one
MOST_POOLS = 64  # for which the best choice is kept at hand


class Pool(Sequence[Choice]):
    """A claim. One of many choices that many stages share is made once: what is worked out of it is kept with it."""

    def __init__(self, choices: Iterable[Choice]) -> None:
        self._choices = tuple(choices)
        self.names = frozenset(choice.resource for choice in self._choices)
        self.key: object = self._choices if len(self) <= FEW else id(self)  # a hash of a thousand costs a millisecond

    @classmethod
    def of(cls, claim: Claim) -> "Pool":
        """The claim itself where it is one already."""
        return claim if isinstance(claim, cls) else cls(claim)

    def __len__(self) -> int:
        return len(self._choices)

    def __iter__(self) -> Iterator[Choice]:
        return iter(self._choices)

    @overload
    def __getitem__(self, at: int) -> Choice: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Choice]: ...
    def __getitem__(self, at: int | slice) -> Choice | Sequence[Choice]:
        return self._choices[at]


Holder = tuple[int, str | None, datetime]
"""Build, stage, beginning."""


class Holdings:
    """What leases there were when last looked.

    The table is asked again for what may have changed, and for what is chosen. Whoever gives something back says so
    with `forget`, from any thread: as far as one knows it is free from then on.
    """

    def __init__(self) -> None:
        self._held: dict[str, dict[int, Holder]] = {}
        self._stale: set[str] = set()
        self._heaps: dict[Pool, list[tuple[int, float, int]]] = {}  # order, load, place; what is not so now is skipped
        self._in_pools: dict[str, list[tuple[Pool, int]]] = {}
        self._lock = threading.RLock()
        self.loaded = False

    def load(self, rows: Iterable[Held]) -> None:
        """All leases there are."""
        with self._lock:
            self._held, self.loaded = {}, True
            for resource, slot, build, stage, taken_at in rows:
                self._held.setdefault(resource, {})[slot] = (build, stage, taken_at)
            self._heaps, self._in_pools = {}, {}

    def forget(self, names: Iterable[str]) -> None:
        """Somebody gave some of these back, or it is not known what was written of them."""
        with self._lock:
            self._stale.update(names)

    def forget_all(self) -> None:
        """Anything may have been given back."""
        self.forget(list(self._held))

    def stale(self) -> set[str]:
        """What was given back since it was last looked at."""
        with self._lock:
            return set(self._stale)

    def take_stale(self) -> set[str]:
        """The same; whoever takes it looks at them, and `see`s what there is."""
        with self._lock:
            found, self._stale = self._stale, set()
            return found

    def see(self, names: Iterable[str], rows: Iterable[Held]) -> bool:
        """The leases of these resources, as they are; whether that is news."""
        with self._lock:
            found: dict[str, dict[int, Holder]] = {name: {} for name in names}
            for resource, slot, build, stage, taken_at in rows:
                found[resource][slot] = (build, stage, taken_at)
            news = False
            for name, slots in found.items():
                if slots != self._held.get(name, {}):
                    news = True
                    self._put(name, slots)
            return news

    def hold(self, name: str, slot: int, holder: Holder) -> bool:
        """Note that a slot was taken; False where it was before."""
        with self._lock:
            slots = self._held.setdefault(name, {})
            new = slot not in slots
            slots[slot] = holder
            self._changed(name)
            return new

    def drop(self, name: str, slot: int) -> None:
        """It was not taken after all."""
        with self._lock:
            self._held.get(name, {}).pop(slot, None)
            self._put(name, self._held.get(name, {}))

    def holders(self, name: str) -> dict[int, Holder]:
        """Who holds which slot."""
        return self._held.get(name, {})

    def full(self, pool: Pool) -> bool:
        """Whether no choice is free, as far as one knows."""
        with self._lock:
            if not self.loaded or self._best(pool) is not None:
                return False
            return self._stale.isdisjoint(pool.names)

    def hopeful(self, claims: Iterable[Pool]) -> bool:
        """Whether all that is claimed may be free."""
        return not any(self.full(pool) for pool in claims)

    def best(self, pool: Pool) -> Choice | None:
        """The free choice to take first; None: all are taken."""
        with self._lock:
            return self._best(pool)

    def _best(self, pool: Pool) -> Choice | None:
        if len(pool) <= FEW:
            free = [choice for choice in pool if len(self._held.get(choice.resource, ())) < choice.slots]
            return min(free, key=lambda one: (one.order, self._load(one)), default=None)
        heap = self._heaps.get(pool)
        if heap is None:
            heap = self._heap(pool)
        while heap:
            _, load, at = heap[0]
            choice = pool[at]
            now = self._load(choice)
            if now == load and now < 1:
                return choice
            heapq.heappop(heap)
        return None

    def _load(self, choice: Choice) -> float:
        return len(self._held.get(choice.resource, ())) / choice.slots

    def _heap(self, pool: Pool) -> list[tuple[int, float, int]]:
        if len(self._heaps) >= MOST_POOLS and pool not in self._heaps:
            self._heaps, self._in_pools = {}, {}
        if pool not in self._heaps:
            for at, choice in enumerate(pool):
                self._in_pools.setdefault(choice.resource, []).append((pool, at))
        heap = self._heaps[pool] = [
            (choice.order, load, at) for at, choice in enumerate(pool) if (load := self._load(choice)) < 1
        ]
        heapq.heapify(heap)
        return heap

    def _put(self, name: str, slots: dict[int, Holder]) -> None:
        if slots:
            self._held[name] = slots
        else:
            self._held.pop(name, None)
        self._changed(name)

    def _changed(self, name: str) -> None:
        for pool, at in self._in_pools.get(name, ()):
            choice, heap = pool[at], self._heaps[pool]
            if (load := self._load(choice)) < 1:
                heapq.heappush(heap, (choice.order, load, at))
                if len(heap) > 4 * len(pool):  # most of them are not so any more
                    self._heap(pool)
