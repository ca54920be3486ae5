"""A pipeline file, read and checked: `pipeline = load(path.read_bytes(), name=str(path), defaults=config.defaults)`."""

from collections.abc import Collection, Mapping
from pathlib import PurePath
from typing import Any, cast

from mcp_server.config import Defaults
from mcp_server.errors import PipelineError
from mcp_server.pipelines.cells import Draft, KnownAgent, KnownHosts, StageReader
from mcp_server.pipelines.links import Linker
from mcp_server.pipelines.params import resolve
from mcp_server.pipelines.pipeline import Pipeline, PipelineStage
from mcp_server.pipelines.stage import RUNNABLE, SKIP_KEYS, EndingEntry, PipelineBlock, PipelineFile, ending
from mcp_server.yaml_document import Document, Mistake, YamlError, entries, read
from mcp_server.yaml_model import check, check_part

__all__ = ["MAX_STAGES", "Pipeline", "PipelineStage", "load"]

MAX_STAGES = 2000  # after matrices were unfolded

INLINE = "<yaml>"
"""The name of a file that was given as text."""

_AT = ("pipeline", "stages")


def load(
    text: bytes | str,
    *,
    name: str = INLINE,
    params: Mapping[str, Any] | None = None,
    defaults: Defaults,
    known_hosts: KnownHosts | None = None,
    known_agent: KnownAgent | None = None,
    uses: Collection[str] = RUNNABLE,
) -> Pipeline:
    """The pipeline in `text`, with `params` in place of its own. `name` is the file's, for mistakes.

    `uses` are the built-in stages that can be run, `known_hosts` finds the hosts of a reference, `known_agent` refuses
    the name of no agent. PipelineError has every mistake, each with its place.
    """
    content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    try:
        document = read(content)
    except YamlError as error:
        raise PipelineError(name, [_placed(name, mistake) for mistake in error.mistakes]) from None
    loading = _Loading(document, name, defaults, uses, known_hosts, known_agent)
    pipeline = loading.pipeline(params or {})
    if pipeline is None:
        raise PipelineError(name, [_placed(name, mistake) for mistake in sorted(loading.mistakes)])
    return pipeline


def _placed(name: str, mistake: Mistake) -> str:
    place = f":{mistake.line}:{mistake.column}" if mistake.line else ""
    return f"{name}{place}: {mistake.sentence}"


class _Loading:
    """One load: every step notes its mistakes and goes on, so that all are told at once."""

    def __init__(
        self,
        document: Document,
        source: str,
        defaults: Defaults,
        uses: Collection[str],
        known_hosts: KnownHosts | None,
        known_agent: KnownAgent | None,
    ) -> None:
        self._document, self._source, self._defaults = document, source, defaults
        self._uses, self._known_hosts, self._known_agent = uses, known_hosts, known_agent
        self.mistakes: set[Mistake] = set()

    def pipeline(self, given: Mapping[str, Any]) -> Pipeline | None:
        """The pipeline; None where there are mistakes."""
        file = self._file()
        block = entries(self._document.data, "pipeline")
        params, mistakes = resolve(self._document, ("pipeline", "params"), entries(block, "params"), given)
        self.mistakes.update(mistakes)
        raw = block.get("stages")
        reader = StageReader(self._document, params, self._defaults, self._uses, self._known_hosts, self._known_agent)
        drafts = self._drafts(reader, cast("list[Any]", raw) if isinstance(raw, list) else [])
        linker = Linker(self._document, drafts, reader.broken)
        stages = linker.stages()
        self.mistakes.update(reader.mistakes, linker.mistakes)
        if self.mistakes or file is None:
            return None
        own = file.pipeline
        return Pipeline(
            name=own.name or self._name(),
            source=self._source,
            params={name: value.text for name, value in params.items()},
            stages=stages,
            fix=linker.fix,
            parallel_limit=own.parallel_limit or self._defaults.parallel_limit,
            on_failure=ending(own.on_failure or file.on_failure),
            on_success=ending(own.on_success or file.on_success),
        )

    def _name(self) -> str:
        """A name for a pipeline that has none: its file's."""
        stem = PurePath(self._source).stem if self._source != INLINE else ""
        return "".join(letter for letter in stem if letter.isprintable())[:100] or "pipeline"

    def _file(self) -> PipelineFile | None:
        data: Any = self._document.data
        if data is None:
            self._wrong((), "the file is empty; it begins with `pipeline:`")
            return None
        if not isinstance(data, dict):
            return self._noted(*check(self._document, PipelineFile))
        top = {key: value for key, value in entries(data).items() if not key.startswith(SKIP_KEYS)}
        inside = [key for key in top if key in PipelineBlock.model_fields and key not in PipelineFile.model_fields]
        if "pipeline" not in top and inside:
            self._wrong((inside[0],), f"'{inside[0]}' belongs under `pipeline:`, two spaces further in", at_key=True)
            return None
        file = self._noted(*check_part(self._document, (), top, PipelineFile))
        if file is not None:
            self._check_endings(file)
        return file

    def _noted(self, file: PipelineFile | None, mistakes: list[Mistake]) -> PipelineFile | None:
        self.mistakes.update(mistakes)
        return file

    def _wrong(self, way: tuple[str | int, ...], sentence: str, *, at_key: bool = False) -> None:
        self.mistakes.add(self._document.mistake(way, sentence, at_key=at_key))

    def _check_endings(self, file: PipelineFile) -> None:
        for key in ("on_failure", "on_success"):
            inside: tuple[EndingEntry, ...] = getattr(file.pipeline, key)
            beside: tuple[EndingEntry, ...] = getattr(file, key)
            if inside and beside:
                self._wrong((key,), f"{key} is here twice, the other is under pipeline; leave one", at_key=True)
        for way, own in ((("pipeline",), file.pipeline), ((), file)):
            for place, entry in enumerate(own.on_success):
                if entry.retry is not None:
                    self._wrong(
                        (*way, "on_success", place), "on_success takes notify and archive; retry is for on_failure"
                    )

    def _drafts(self, reader: StageReader, raw: list[Any]) -> list[Draft]:
        drafts: list[Draft] = []
        for place, entry in enumerate(raw):
            drafts += reader.read((*_AT, place), entry)
            if len(drafts) > MAX_STAGES:
                self._wrong(
                    (*_AT, place), f"with this there are more than {MAX_STAGES:,} stages; at most that many run"
                )
                return []
        return drafts
