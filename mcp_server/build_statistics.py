"""What earlier builds tell, as values: made by the store, shown by `report_stats`.

May import: nothing of this package.
"""

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, slots=True)
class Day:
    """The builds that were asked for on one day, UTC."""

    day: date
    total: int
    successful: int
    failed: int


@dataclass(frozen=True, slots=True)
class FailurePattern:
    """Failed builds with the same first cause. `message` is that of `last_build`; `place` is file:line or ""."""

    kind: str
    message: str
    count: int
    last_build: int
    place: str


@dataclass(frozen=True, slots=True)
class StageTime:
    """How long a stage takes where it succeeds: the median of its newest `runs`."""

    stage: str
    median_s: float
    runs: int


@dataclass(frozen=True, slots=True)
class HostCount:
    """Jobs that ran on a host, and how many of them failed."""

    host: str
    jobs: int
    failures: int


@dataclass(frozen=True, slots=True)
class Stats:
    """A project's builds, or all (`project_id` None). Durations are seconds of builds that succeeded.

    `success_rate` is percent of `total_builds`. `trend` has the last 30 days, the newest last.
    """

    project_id: str | None
    total_builds: int
    successful: int
    failed: int
    pending: int
    running: int
    cancelled: int
    success_rate: float
    average_duration: float | None
    p50_duration: float | None
    p90_duration: float | None
    trend: tuple[Day, ...]
    failures: tuple[FailurePattern, ...]
    slowest: tuple[StageTime, ...]
    hosts: tuple[HostCount, ...]
