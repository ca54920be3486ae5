"""Makes the stages of one entry of the file: one, or one for each cell of its matrix."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, cast

from pydantic import BaseModel

from mcp_server.config import Defaults
from mcp_server.errors import BadInput
from mcp_server.model import Retry, Sync
from mcp_server.pipelines.keys import misplaced
from mcp_server.pipelines.matrix import Cell, Matrix, cell_names
from mcp_server.pipelines.params import ReferenceMistake, Scope
from mcp_server.pipelines.pipeline import PipelineStage
from mcp_server.pipelines.stage import FIX, FIX_S, HERE_ONLY, RUNNABLE, WITH, StageEntry
from mcp_server.pipelines.when import Condition, Value, Values, WhenError, parse
from mcp_server.yaml_document import Document, Loc, Mistake
from mcp_server.yaml_model import check_part, nearest, sound_part

KnownHosts = Callable[[str], Sequence[str]]
"""The hosts that a reference stands for; raises BadInput where there is none."""

KnownAgent = Callable[[str], object]
"""Raises BadInput where no agent has this name."""

_PRIVATE = frozenset({"env", "with"})
_NAMELESS = "stage"  # stands for a name that cannot be used, so that the rest of its entry is judged
_KEYS = {field.alias or name for name, field in StageEntry.model_fields.items()}


@dataclass(slots=True)
class Draft:
    """A stage whose dependencies are still as written, each with its place in the file."""

    stage: PipelineStage
    at: Loc
    depends_on: list[tuple[Loc, str]] = field(default_factory=list[tuple[Loc, str]])
    needs: list[tuple[Loc, str]] = field(default_factory=list[tuple[Loc, str]])


class StageReader:
    """Reads the entries of `stages` one by one. What is wrong with them gathers in `mistakes`, each once."""

    def __init__(
        self,
        document: Document,
        params: Mapping[str, Value],
        defaults: Defaults,
        uses: Collection[str],
        known_hosts: KnownHosts | None,
        known_agent: KnownAgent | None,
    ) -> None:
        self._document, self._params, self._defaults = document, params, defaults
        self._uses, self._known_hosts, self._known_agent = uses, known_hosts, known_agent
        self._hosts: dict[str, str] = {}  # reference → what is wrong with it
        self._found: dict[Mistake, None] = {}
        self.broken: set[str] = set()
        """Names of entries of which not all stages are known, as they have mistakes."""

    @property
    def mistakes(self) -> list[Mistake]:
        return list(self._found)

    def wrong(self, at: Loc, sentence: str, *, at_key: bool = False) -> None:
        """Note a mistake at `at`."""
        self._found[self._document.mistake(at, sentence, at_key=at_key)] = None

    def read(self, at: Loc, raw: Any) -> list[Draft]:
        """The stages of the entry `raw`, which stands at `at`."""
        entry = self._entry(at, raw)
        if entry is None:
            return []
        axes, cells = self._cells(at, entry)
        if not cells:
            self.broken.add(entry.name)
            return []
        condition = self._condition(at, entry)
        self._check_uses(at, entry)
        names = cell_names(entry.name, axes, cells) if entry.matrix is not None else [entry.name]
        scopes = [Scope({"params": self._params, "matrix": cell}) for cell in cells]
        maker = _CellMaker(self, at, entry, condition)
        drafts = [maker.draft(name, scope) for name, scope in zip(names, scopes, strict=True)]
        return drafts if entry.name != _NAMELESS else []

    def _entry(self, at: Loc, raw: Any) -> StageEntry | None:
        """The entry; what cannot be used in it is noted and left out, so that the rest is judged at once, too."""
        entry, mistakes = check_part(self._document, at, raw, StageEntry, private=_PRIVATE)
        self._found.update(dict.fromkeys(mistakes))
        given = cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
        if given:
            self._check_task(at, given)
        if entry is None and given:
            name = given.get("name")
            if isinstance(name, str) and given.get("matrix") is not None:
                self.broken.add(name)
            sound = {"name": _NAMELESS} | sound_part(given, StageEntry)
            entry, _ = check_part(self._document, at, sound, StageEntry)
        return entry

    def _check_task(self, at: Loc, given: Mapping[str, Any]) -> None:
        """A stage has one thing to do."""
        name, tasks = given.get("name"), [key for key in ("command", "uses") if given.get(key) is not None]
        subject = f"stage '{name[:64]}'" if isinstance(name, str) else "this stage"
        if len(tasks) > 1:
            self.wrong((*at, "uses"), f"{subject} has command and uses; leave one of them", at_key=True)
        elif not tasks and all(key in _KEYS for key in given):
            self.wrong(at, f"{subject} has nothing to do; give it a command, or uses")
        elif tasks == ["command"] and given.get("with"):
            self.wrong((*at, "with"), "with belongs to uses; give a command its values in env", at_key=True)

    def _cells(self, at: Loc, entry: StageEntry) -> tuple[Mapping[str, Any], list[Cell]]:
        """The axes and cells of the entry's matrix; one cell without values where it has none."""
        if entry.matrix is None:
            return {}, [{}]
        scope = Scope({"params": self._params, "matrix": {}})
        matrix = Matrix(self._document, (*at, "matrix"), entry.matrix, scope)
        self._found.update(dict.fromkeys(matrix.mistakes))
        return matrix.axes, matrix.cells

    def _condition(self, at: Loc, entry: StageEntry) -> Condition | None:
        if entry.when is None:
            return None
        try:
            return parse(entry.when)
        except WhenError as error:
            self.wrong((*at, "when"), f"when: {error}")
            return None

    def _check_uses(self, at: Loc, entry: StageEntry) -> None:
        if entry.uses is None:
            return
        if entry.uses in self._uses:
            for key, sentence in misplaced(entry):
                self.wrong((*at, key), sentence, at_key=key != "uses")
            return
        known = ", ".join(self._uses)
        if entry.uses in RUNNABLE:
            sentence = f"'{entry.uses}' cannot be run here; what can is {known}"
        else:
            sentence = f"there is no '{entry.uses[:60]}'{nearest(entry.uses, list(self._uses))}"
        self.wrong((*at, "uses"), f"uses: {sentence}")

    def check_host(self, at: Loc, reference: str) -> None:
        """Note a mistake if no host is known by `reference`; each reference is asked for once."""
        if self._known_hosts is None:
            return
        if reference not in self._hosts:
            self._hosts[reference] = ""
            try:
                if not self._known_hosts(reference):
                    self._hosts[reference] = f"no server is known as '{reference[:60]}'"
            except BadInput as error:
                self._hosts[reference] = str(error).removeprefix(f"{error.argument}: ")
        if self._hosts[reference]:
            self.wrong(at, self._hosts[reference])

    def checked_with(self, at: Loc, uses: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """What is given to `uses`, with the types it takes; as it is where they are not known."""
        model = WITH.get(uses)
        if model is None:
            return given
        made, mistakes = check_part(self._document, at, dict(given), model, private=frozenset())
        self._found.update(dict.fromkeys(mistakes))
        if made and (agent := getattr(made, "agent", None)) is not None:
            self._check_agent((*at, "agent"), agent)
        return _plain(made) if made else {}

    def _check_agent(self, at: Loc, name: str) -> None:
        """Note a mistake if no agent has this name."""
        try:
            if self._known_agent is not None:
                self._known_agent(name)
        except BadInput as error:
            self.wrong(at, str(error))

    @property
    def defaults(self) -> Defaults:
        return self._defaults


class _CellMaker:
    """Makes the stages of one entry, each with the values of its cell."""

    def __init__(self, reader: StageReader, at: Loc, entry: StageEntry, condition: Condition | None) -> None:
        self._reader, self._at, self._entry, self._condition = reader, at, entry, condition

    def draft(self, name: str, scope: Scope) -> Draft:
        entry = self._entry
        depends_on = self._texts("depends_on", entry.depends_on, scope)
        needs = self._texts("needs_artifacts", entry.needs_artifacts, scope)
        return Draft(self._stage(name, scope), self._at, depends_on, needs)

    def _stage(self, name: str, scope: Scope) -> PipelineStage:
        entry = self._entry
        defaults = self._reader.defaults
        with_: Mapping[str, Any] = self._one(("with",), entry.with_, scope.deep)
        if entry.uses:
            with_ = self._reader.checked_with((*self._at, "with"), entry.uses, with_)
        return PipelineStage(
            name=name,
            base=entry.name,
            matrix={key: value.text for key, value in scope.values["matrix"].items()},
            servers=self._servers(scope),
            command=self._one(("command",), entry.command, scope.command) if entry.command else None,
            uses=entry.uses,
            with_=with_,
            workdir=self._one(("workdir",), entry.workdir, scope.text) if entry.workdir else None,
            timeout_s=_timeout(entry, defaults),
            retry=_retry(entry, defaults),
            skip=self._skip(scope.values),
            env=self._environment(scope),
            secrets=entry.secrets,
            sync=self._sync(scope),
            artifacts=self._artifacts(scope),
            allow_failure=entry.allow_failure,
            group=self._one(("concurrency",), entry.concurrency, scope.text) if entry.concurrency else None,
        )

    def _one(self, way: Loc, value: Any, made: Callable[[Any], Any]) -> Any:
        """`made(value)`; a reference that names nothing is noted at `way`, and the value left as it is."""
        try:
            return made(value)
        except ReferenceMistake as mistake:
            self._reader.wrong((*self._at, *way), str(mistake))
            return value

    def _texts(self, key: str, values: Sequence[str], scope: Scope) -> list[tuple[Loc, str]]:
        """The texts listed at `key`, each with its place."""
        found = [(key, place) for place in range(len(values))]
        return [((*self._at, *way), self._one(way, text, scope.text)) for way, text in zip(found, values, strict=True)]

    def _servers(self, scope: Scope) -> tuple[str, ...]:
        found = self._texts("server", self._entry.server, scope)
        if not found:
            self._reader.wrong((*self._at, "server"), "server: should not be an empty list; leave it out for local")
        for at, reference in found:
            self._reader.check_host(at, reference)
        return tuple(dict.fromkeys(reference for _, reference in found)) or ("local",)

    def _sync(self, scope: Scope) -> Sync | None:
        entry = self._entry.sync
        if entry is None:
            return None
        source = self._one(("sync", "from"), entry.source, scope.text)
        self._reader.check_host((*self._at, "sync", "from"), source)
        return Sync(source=source, path=self._one(("sync", "path"), entry.path, scope.text))

    def _artifacts(self, scope: Scope) -> tuple[str, ...]:
        found = self._texts("artifacts", self._entry.artifacts, scope)
        for at, pattern in found:
            path = PurePosixPath(pattern)
            if path.is_absolute() or ".." in path.parts or pattern.startswith("~"):
                shown = f"artifacts: '{pattern[:60]}' leads out of the working folder"
                self._reader.wrong(at, f"{shown}; write a path below it, e.g. build/*.bin")
        return tuple(dict.fromkeys(pattern for _, pattern in found))

    def _environment(self, scope: Scope) -> dict[str, str]:
        """The entry's own variables, then for a command those that its references read."""
        own = {name: self._one(("env", name), text, scope.text) for name, text in self._entry.env.items()}
        exported = scope.exported() if self._entry.command else {}
        for name in own:
            if name in exported:
                space, _, key = name.partition("_")
                sentence = f"env.{name[:60]} is what ${{{space.lower()}.{key[:60]}}} is read from; choose another name"
                self._reader.wrong((*self._at, "env", name), sentence, at_key=True)
        for place, name in enumerate(self._entry.secrets):
            if name in own or name in exported:
                self._reader.wrong((*self._at, "secrets", place), f"secrets: {name[:60]} is in env, too; leave one")
        return own | exported

    def _skip(self, values: Values) -> str:
        if self._condition is None:
            return ""
        for space, name in self._condition.references:
            if name not in values[space]:
                near = nearest(name, list(values[space])) if values[space] else ""
                self._reader.wrong((*self._at, "when"), f"when: there is no '{space}.{name[:60]}'{near}")
                return ""
        try:
            return "" if self._condition.holds(values) else f"when: {self._condition.text} is false"
        except WhenError as error:
            self._reader.wrong((*self._at, "when"), f"when: {error}")
            return ""


def _timeout(entry: StageEntry, defaults: Defaults) -> float:
    if entry.timeout is not None:
        return entry.timeout
    return FIX_S if entry.uses == FIX else defaults.timeout


def _retry(entry: StageEntry, defaults: Defaults) -> Retry:
    if entry.retry is None:
        return Retry(times=0 if entry.uses in HERE_ONLY else defaults.retry)
    return Retry(times=entry.retry.times, on=entry.retry.on, backoff_s=entry.retry.backoff)


def _plain(model: BaseModel) -> dict[str, Any]:
    """What was given, in its types, as JSON has them."""
    return model.model_dump(mode="json", exclude_unset=True)
