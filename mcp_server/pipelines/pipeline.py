"""A pipeline as it is to run: parameters known, matrices unfolded, references replaced."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from mcp_server.model import Ending, Model, Retry, Sync


class PipelineStage(Model):
    """One stage, or one cell of a matrix. Runs `command` in a shell, or what `uses` names with `with_`.

    `base` is the name in the file, `matrix` the cell's values. `servers` are references as written: names, aliases or
    tags, of which the first free one is taken. `env` also holds the parameters and cell values that `command` reads.
    `timeout_s` 0 means none. `skip` says why it is not run. `depends_on` and `needs_artifacts` are stages' names, the
    latter among the former. `group` is the key `concurrency`.
    """

    name: str
    base: str
    matrix: Mapping[str, str] = Field(default_factory=dict[str, str])
    servers: tuple[str, ...] = ("local",)
    command: str | None = None
    uses: str | None = None
    with_: Mapping[str, Any] = Field(default_factory=dict[str, Any])
    workdir: str | None = None
    depends_on: tuple[str, ...] = ()
    timeout_s: float
    retry: Retry = Retry()
    skip: str = ""
    env: Mapping[str, str] = Field(default_factory=dict[str, str])
    secrets: tuple[str, ...] = ()
    sync: Sync | None = None
    artifacts: tuple[str, ...] = ()
    needs_artifacts: tuple[str, ...] = ()
    allow_failure: bool = False
    group: str | None = None


class Pipeline(Model):
    """A pipeline file, worked out. `params` are texts as they go into commands; `source` is where it was read.

    `fix` is what comes between two rounds of the stages.
    """

    name: str
    source: str
    params: Mapping[str, str] = Field(default_factory=dict[str, str])
    stages: tuple[PipelineStage, ...]
    fix: PipelineStage | None = None
    parallel_limit: int
    on_failure: Ending = Ending()
    on_success: Ending = Ending()

    @property
    def graph(self) -> dict[str, tuple[str, ...]]:
        """Name → depends_on, in the file's order; skipped stages too."""
        return {stage.name: stage.depends_on for stage in self.stages}
