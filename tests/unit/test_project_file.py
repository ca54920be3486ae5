"""The project file: found, read as a pipeline, refused in words."""

import os
from pathlib import Path

import pytest

from mcp_server.config import Defaults
from mcp_server.errors import BadInput, PipelineError
from mcp_server.project_file import find_project_file, load_project_file

PIPELINE = "pipeline: {name: page, params: {jobs: 2}, stages: [{name: check, command: 'make -j${params.jobs}'}]}\n"


@pytest.mark.parametrize("name", [".build-orchestrator.yaml", ".build-orchestrator.yml"])
def test_a_project_file_is_a_pipeline(name: str, tmp_path: Path) -> None:
    """Spec. With parameters, as any other."""
    (tmp_path / name).write_text(PIPELINE)

    found = load_project_file(tmp_path, defaults=Defaults(), params={"jobs": 4})

    assert found is not None
    assert (found.name, found.source, found.params) == ("page", str(tmp_path / name), {"jobs": "4"})
    assert [stage.name for stage in found.stages] == ["check"]


def test_a_folder_without_one_has_none(tmp_path: Path) -> None:
    """Ours. Only the folder's own counts, not that of a folder above."""
    (tmp_path / ".build-orchestrator.yaml").write_text(PIPELINE)
    (tmp_path / "sub").mkdir()

    assert find_project_file(tmp_path / "sub") is None
    assert load_project_file(tmp_path / "none", defaults=Defaults()) is None


def test_its_mistakes_are_told_with_their_places(tmp_path: Path) -> None:
    """Spec."""
    (tmp_path / ".build-orchestrator.yaml").write_text("pipeline:\n  stages:\n    - nam: x\n")

    with pytest.raises(PipelineError, match=r"\.build-orchestrator\.yaml:3:7: unknown key 'nam'"):
        load_project_file(tmp_path, defaults=Defaults())


def test_what_is_no_file_of_the_project_is_refused(tmp_path: Path) -> None:
    """Ours. A link out of the project would have another file of the user's read and quoted."""
    project, file = tmp_path / "p", tmp_path / "p" / ".build-orchestrator.yaml"
    project.mkdir()
    (tmp_path / "key").write_text("hunter2")

    def refused(why: str) -> None:
        with pytest.raises(BadInput, match=why) as refusal:
            load_project_file(project, defaults=Defaults())
        assert "hunter2" not in str(refusal.value)

    file.symlink_to("../key")
    refused("leads out of the project")
    file.unlink()
    file.symlink_to("absent")
    refused("No such file")
    file.unlink()
    file.mkdir()
    refused("should be a file")
    file.rmdir()
    os.mkfifo(file)
    refused("should be a file")
    file.unlink()
    file.write_text("#" * (1024 * 1024 + 1))
    refused("larger than 1 MB")
    (project / ".build-orchestrator.yml").write_text(PIPELINE)
    refused("keep one")
