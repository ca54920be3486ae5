"""The `uses: idf.…` stages of one pipeline: what runs firmware finds the stage that builds it, here or far away.

May import: model, errors, plans, device_plans, idf, pipelines. Never: orders, store, engine, hosts, a front.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mcp_server import device_plans, plans
from mcp_server.device_plans import Firmware, Watching
from mcp_server.errors import PipelineError
from mcp_server.idf.project import DEFAULT_TARGET, inspect_project
from mcp_server.model import StageSpec
from mcp_server.pipelines.pipeline import Pipeline, PipelineStage

BUILD = "idf.build"

MakeBuild = Callable[[PipelineStage, Path, str], tuple[StageSpec, str | None]]
"""The stage that builds a project in a folder of it, and its target where that is known."""

FindInstallation = Callable[[Path], dict[str, Any] | None]


class IdfStages:
    """Makes the stages of one pipeline whose relative paths start from `folder`."""

    def __init__(self, pipeline: Pipeline, folder: Path, build: MakeBuild, installation: FindInstallation) -> None:
        self._pipeline, self._folder = pipeline, folder
        self._build, self._installation = build, installation
        self._stages = {stage.name: stage for stage in pipeline.stages}
        self._built: dict[str, tuple[StageSpec, str | None]] = {}

    def stage(self, stage: PipelineStage) -> StageSpec:
        """What `stage.uses` names. PipelineError: it may run the firmware of several. BadInput: no project."""
        if stage.uses == BUILD:
            return self._made(stage)[0]
        with_, firmware = stage.with_, self._firmware(stage)
        expect, fail_on = tuple(with_.get("expect", ())), tuple(with_.get("fail_on", ()))
        watching = Watching(expect, fail_on, stage.timeout_s)
        host, port = stage.servers[0], with_.get("port")
        if stage.uses == "idf.run":
            project, place = Path(firmware.project), Path(firmware.build_dir)
            return plans.idf_run(project, expect=expect, fail_on=fail_on, timeout_s=stage.timeout_s, build_dir=place)
        if stage.uses == "idf.qemu":
            return device_plans.emulate(firmware, watching)
        if stage.uses == "idf.boot":
            return device_plans.boot(firmware, watching, host=host, port=port)
        return device_plans.flash(firmware, host=host, port=port, erase=bool(with_.get("erase")))

    def _firmware(self, stage: PipelineStage) -> Firmware:
        """What the nearest build stage that `stage` comes after makes; without one what lies in the folder build/."""
        if (builder := self._builder(stage)) is not None:
            made, target = self._made(builder)
            project, place = made.params["project"], made.params["build_dir"]
            installation: Mapping[str, Any] | None = made.params.get("installation")
        else:
            found = inspect_project(self._project(stage))
            project, place, target = (
                str(found.path),
                str(found.path / "build"),
                stage.with_.get("target") or found.target,
            )
            installation = None
        known = dict(installation) if installation is not None else self._installation(Path(project))
        return Firmware(project, place, target or DEFAULT_TARGET, installation=known)

    def _builder(self, stage: PipelineStage) -> PipelineStage | None:
        project, target = self._project(stage), stage.with_.get("target")
        seen, level = {stage.name}, stage.depends_on
        while level:
            fits = [one for one in map(self._stages.__getitem__, level) if self._builds(one, project, target)]
            if len(fits) == 1:
                return fits[0]
            if fits:
                names = ", ".join(one.name for one in fits)
                mend = "let it come after one of them, or name the target: with: {target: …}"
                source = self._pipeline.source
                sentence = f"{source}: stage '{stage.name}' may mean the firmware of {names}: {mend}"
                raise PipelineError(source, [sentence])
            seen.update(level)
            level = tuple(dict.fromkeys(n for one in level for n in self._stages[one].depends_on if n not in seen))
        return None

    def _builds(self, one: PipelineStage, project: Path, target: str | None) -> bool:
        if one.uses != BUILD or one.skip or self._project(one) != project:
            return False
        return target is None or self._made(one)[1] == target

    def _made(self, stage: PipelineStage) -> tuple[StageSpec, str | None]:
        if stage.name not in self._built:
            self._built[stage.name] = self._build(stage, self._project(stage), self._place(stage))
        return self._built[stage.name]

    def _place(self, stage: PipelineStage) -> str:
        """A build directory of its own where the pipeline builds the project for more than one target."""
        target = stage.with_.get("target")
        if target is None:
            return "build"
        others = (
            one for one in self._pipeline.stages if one.uses == BUILD and self._project(one) == self._project(stage)
        )
        several = any(one.with_.get("target") != target for one in others)
        return f"build/{target}" if several or stage.matrix else "build"

    def _project(self, stage: PipelineStage) -> Path:
        return self._folder / str(stage.with_.get("project") or ".")
