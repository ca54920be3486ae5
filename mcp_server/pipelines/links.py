"""Ties stages together: names that are twice there or nowhere, circles, and what is skipped with what."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from mcp_server.pipelines.cells import Draft
from mcp_server.pipelines.graph import find_cycle, order
from mcp_server.pipelines.pipeline import PipelineStage
from mcp_server.pipelines.stage import FIX
from mcp_server.yaml_document import Document, Loc, Mistake
from mcp_server.yaml_model import nearest

MAX_EDGES = 100_000  # after matrices: 256 cells after 256 cells are 65,536
_MAX_CYCLES = 10
_MAX_NEAREST = 20  # mistakes that tell the nearest name: more are not shown, and of 2,000 names it takes 20 ms


@dataclass(frozen=True, slots=True)
class _Links:
    """What one stage depends on, and which of its needs stand for which cells."""

    depends_on: Mapping[str, Loc]
    needs: Sequence[tuple[str, Sequence[str]]]


class Linker:
    """Works out the dependencies of `drafts`. Nothing is said of names in `broken`: their stages are not known.

    `mistakes` are complete after `stages()`.
    """

    def __init__(self, document: Document, drafts: Sequence[Draft], broken: Collection[str]) -> None:
        self._document, self._broken = document, broken
        self._mistakes: dict[Mistake, None] = {}
        self._fixes = [draft for draft in drafts if draft.stage.uses == FIX]
        self._drafts = [draft for draft in drafts if draft.stage.uses != FIX]
        drafts = self._drafts
        self._by_name = {draft.stage.name: draft for draft in reversed(drafts)}
        self._cells: dict[str, list[str]] = {}
        for draft in drafts:
            self._cells.setdefault(draft.stage.base, []).append(draft.stage.name)
        self._count = 0
        self._known = [*dict.fromkeys([*self._cells, *self._by_name])]

    @property
    def mistakes(self) -> list[Mistake]:
        return list(self._mistakes)

    @property
    def fix(self) -> PipelineStage | None:
        """What comes between two rounds, and is no part of the graph."""
        return self._fixes[0].stage if self._fixes else None

    def stages(self) -> tuple[PipelineStage, ...]:
        """Every stage, its dependencies as stages' names; none where there are mistakes."""
        self._duplicates()
        self._check_fixes()
        links: dict[str, _Links] = {}
        for draft in self._drafts:
            links.setdefault(draft.stage.name, self._links(draft))
            if self._count > MAX_EDGES:
                self._wrong(draft.at, f"the stages up to here have more than {MAX_EDGES:,} dependencies; group some")
                break
        else:
            self._cycles(links)
        return () if self._mistakes else self._tied(links)

    def _wrong(self, at: Loc, sentence: str) -> None:
        self._mistakes[self._document.mistake(at, sentence)] = None

    def _duplicates(self) -> None:
        first: dict[str, Draft] = {}
        for draft in (*self._drafts, *self._fixes[:1]):
            earlier = first.setdefault(draft.stage.name, draft)
            if earlier is not draft:
                line, column = self._document.values.get((*earlier.at, "name"), (1, 1))
                sentence = f"the stage '{draft.stage.name}' is here twice, first in line {line}:{column}"
                if earlier.stage.base != draft.stage.base:
                    sentence += ", as a cell of a matrix" if earlier.stage.matrix else ""
                self._wrong((*draft.at, "name"), f"{sentence}; choose another name")

    def _check_fixes(self) -> None:
        for draft in self._fixes[1:]:
            line, column = self._document.values.get((*self._fixes[0].at, "uses"), (1, 1))
            self._wrong((*draft.at, "uses"), f"a pipeline has one {FIX}, which is in line {line}:{column}")
        if self._fixes and not self._drafts and not self._broken:
            self._wrong(self._fixes[0].at, f"{FIX} mends what other stages fail of, and there are none")

    def _links(self, draft: Draft) -> _Links:
        depends_on: dict[str, Loc] = {}
        for at, name in draft.depends_on:
            depends_on |= dict.fromkeys(self._resolve("depends_on", at, name), at)
        needs: list[tuple[str, Sequence[str]]] = []
        for at, name in draft.needs:
            cells = self._resolve("needs_artifacts", at, name)
            for cell in cells:
                depends_on.setdefault(cell, at)
                self._check_leaves(at, name, cell)
            needs.append((name, cells))
        self._count += len(depends_on)
        return _Links(depends_on, needs)

    def _check_leaves(self, at: Loc, name: str, cell: str) -> None:
        stage = self._by_name[cell].stage
        if stage.command and not stage.artifacts:
            self._wrong(at, f"needs_artifacts: '{name[:64]}' keeps no artifacts; list some under artifacts there")

    def _resolve(self, key: str, at: Loc, name: str) -> Sequence[str]:
        """The stages that a name stands for: itself, or all cells of a matrix."""
        if name in self._by_name:
            return (name,)
        if name in self._cells:
            return self._cells[name]
        if any(name == draft.stage.name for draft in self._fixes):
            self._wrong(at, f"{key}: '{name[:64]}' comes between two rounds of all stages; no stage waits for it")
        elif not any(name == base or name.startswith(f"{base}.") for base in self._broken):
            near = nearest(name[:64], self._known) if len(self._mistakes) < _MAX_NEAREST else ""
            self._wrong(at, f"{key}: there is no stage '{name[:64]}'{near}")
        return ()

    def _cycles(self, links: Mapping[str, _Links]) -> None:
        graph = {name: tuple(own.depends_on) for name, own in links.items()}
        for _ in range(_MAX_CYCLES):
            path = find_cycle(graph)
            if path is None:
                return
            self._wrong(links[path[0]].depends_on[path[1]], f"the stages wait for each other: {_way(path)}")
            graph = {name: after for name, after in graph.items() if name not in path}

    def _tied(self, links: Mapping[str, _Links]) -> tuple[PipelineStage, ...]:
        stages: dict[str, PipelineStage] = {}
        for name in order({name: tuple(own.depends_on) for name, own in links.items()}):
            stage, needs = self._by_name[name].stage, links[name].needs
            left = dict.fromkeys(cell for _, cells in needs for cell in cells if not stages[cell].skip)
            skip = stage.skip or next((_why(need) for need, cells in needs if not left.keys() & set(cells)), "")
            stages[name] = stage.model_copy(
                update={"depends_on": tuple(links[name].depends_on), "needs_artifacts": tuple(left), "skip": skip}
            )
        return tuple(stages[draft.stage.name] for draft in self._drafts)


def _why(need: str) -> str:
    return f"needs the artifacts of '{need}', which is skipped"


def _way(path: Sequence[str]) -> str:
    shown = path if len(path) <= 12 else (*path[:10], "…", path[-1])
    return " → ".join(shown)
