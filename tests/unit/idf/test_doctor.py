"""The doctor: what it finds, and whether what it advises is the next step."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from mcp_server.config import load_config
from mcp_server.idf import doctor as module
from mcp_server.idf import environment
from mcp_server.idf.doctor import Check, examine
from mcp_server.idf.installation import Installation
from tests.unit.idf.made_up import make_idf

Programs = Callable[..., Path]


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "SYSTEM", ())


@pytest.fixture
def client(tmp_path: Path, installation: Installation, programs: Programs) -> dict[str, str]:
    """An environment with everything that a build needs."""
    job_tools = [tool for tools in module.JOB_TOOLS.values() for tool in tools]
    path = programs("git", "cmake", "ninja", "cc", "riscv32-esp-elf-gcc", "setsid", prints="tool version 3.28.1")
    for tool in job_tools:
        (path / tool).symlink_to(shutil.which(tool) or "/bin/true")
    return {
        "HOME": str(tmp_path / "user"),
        "PATH": str(path),
        "IDF_PATH": str(installation.path),
        "IDF_TOOLS_PATH": str(installation.tools_path),
        "BUILD_ORCHESTRATOR_HOME": str(tmp_path / "home"),
    }


async def checks(client: Mapping[str, str], project: Path | None = None) -> dict[str, Check]:
    found = await examine(load_config(client), client, project)
    assert len({check.name for check in found}) == len(found)
    return {check.name: check for check in found}


async def test_all_is_well(client: dict[str, str], project: Path, installation: Installation) -> None:
    """Nothing to mend."""
    (project / "sdkconfig").write_text('CONFIG_IDF_TARGET="esp32c3"\n')
    found = await checks(client, project)
    assert {name for name, check in found.items() if check.status != "ok"} == set()
    assert found["ESP-IDF"].found == f"6.0.2 in {installation.path}"
    assert found["project"].found == f"lamp in {project}, target esp32c3"
    assert found["cmake"].found == f"3.28.1 ({client['PATH']}/cmake)"
    assert found["compiler for esp32c3"].status == "ok"


async def test_the_installation_that_builds_is_looked_at(client: dict[str, str], installation: Installation) -> None:
    """Ours: a worker that began in a shell without ESP-IDF says nothing else than the build beside it."""
    del client["IDF_PATH"]
    found = await examine(load_config(client), client, installation=installation)
    assert [check.found for check in found if check.name == "ESP-IDF"] == [f"6.0.2 in {installation.path}"]


async def test_a_folder_that_nobody_named_need_be_no_project(client: dict[str, str], tmp_path: Path) -> None:
    """Issue. One that was named is a failure."""
    folder = tmp_path / "plain"
    folder.mkdir()
    config = load_config(client)
    where = [check for check in await examine(config, client, folder, named=False) if check.name == "project"]
    assert where == [Check(name="project", status="ok", found=f"none was named, and {folder} is no ESP-IDF project")]
    assert (await checks(client, folder))["project"].status == "fail"


async def test_without_esp_idf_a_build_cannot_start(client: dict[str, str]) -> None:
    """Ours: what is absent, and what brings it."""
    del client["IDF_PATH"]
    found = await checks(client)
    assert found["ESP-IDF"].status == "fail"
    assert found["ESP-IDF"].found == "no ESP-IDF was found"
    assert str(found["ESP-IDF"].mend).startswith("install it (https://docs.espressif.com/")


async def test_named_folder_that_is_none(client: dict[str, str]) -> None:
    """Ours."""
    client["IDF_PATH"] = "/absent"
    check = (await checks(client))["ESP-IDF"]
    assert (check.status, check.found) == ("fail", "IDF_PATH names /absent, but there is no such folder")


async def test_others_and_broken_ones_are_told(client: dict[str, str], tmp_path: Path) -> None:
    """Ours. Two versions are common."""
    make_idf(tmp_path / "user" / "esp" / "v5.1" / "esp-idf", version="5.1.2")
    check = (await checks(client))["ESP-IDF"]
    assert check.status == "warn"
    assert str(check.mend).startswith("its Python environment is missing: run ")


async def test_activation_that_fails_is_a_failure(client: dict[str, str], installation: Installation) -> None:
    """Ours. Found is not usable."""
    (installation.path / "tools" / "idf_tools.py").write_text("import sys; sys.exit('ERROR: no good')")
    check = (await checks(client))["ESP-IDF"]
    assert check.status == "fail"
    assert "(no good)" in check.found
    assert check.mend == f"run {installation.path}/install.sh"


@pytest.mark.parametrize(("program", "word"), [("cmake", "cmake"), ("ninja", "ninja-build")])
async def test_missing_build_tool_is_a_failure(client: dict[str, str], program: str, word: str) -> None:
    """idf.py needs both."""
    (Path(client["PATH"]) / program).unlink()
    check = (await checks(client))[program]
    assert (check.status, check.found) == ("fail", f"{program} is not on the PATH of a build")
    assert word in str(check.mend)


async def test_missing_git_is_only_a_warning(client: dict[str, str]) -> None:
    """A build goes without."""
    (Path(client["PATH"]) / "git").unlink()
    assert (await checks(client))["git"].status == "warn"


async def test_old_cmake_is_a_failure(client: dict[str, str], installation: Installation) -> None:
    """The installation says which it needs."""
    cmake = installation.path / "tools" / "cmake" / "project.cmake"
    cmake.write_text("cmake_minimum_required(VERSION 3.30)\n")
    check = (await checks(client))["cmake"]
    assert check.status == "fail"
    assert check.found.endswith(", but ESP-IDF 6.0.2 needs 3.30")


async def test_tool_that_does_not_run_is_told(client: dict[str, str]) -> None:
    """Ours. A file on PATH proves nothing."""
    (Path(client["PATH"]) / "ninja").write_text("#!/bin/sh\necho 'no such library' >&2; exit 127\n")
    check = (await checks(client))["ninja"]
    assert (check.status, check.found) == ("fail", f"{client['PATH']}/ninja does not run: no such library")


async def test_hanging_tool_holds_up_nothing_else(client: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours: bounded, side by side."""
    monkeypatch.setattr(module, "CHECK_TIMEOUT_S", 1)
    (Path(client["PATH"]) / "git").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    found = await checks(client)
    assert (found["git"].status, found["git"].found) == ("warn", "no answer within 1 s")
    assert found["cmake"].status == "ok"


async def test_compiler_of_the_projects_chip(client: dict[str, str], project: Path, installation: Installation) -> None:
    """A failure where the project says esp32c3; else only a warning for the default chip."""
    (project / "sdkconfig").write_text('CONFIG_IDF_TARGET="esp32c3"\n')
    (Path(client["PATH"]) / "riscv32-esp-elf-gcc").unlink()
    found = await checks(client, project)
    assert found["compiler for esp32c3"].status == "fail"
    assert found["compiler for esp32c3"].mend == f"run {installation.path}/install.sh esp32c3"
    assert (await checks(client))["compiler for esp32"].status == "warn"


async def test_linux_target_needs_the_machines_compiler(client: dict[str, str], project: Path) -> None:
    """Measured: it includes libbsd's headers, and CMake only warns."""
    (project / "sdkconfig").write_text('CONFIG_IDF_TARGET="linux"\n')
    compiler = Path(client["PATH"]) / "cc"
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] && echo cc 12.2.0\n')
    found = await checks(client, project)
    assert "compiler for linux" not in found
    if os.uname().sysname == "Linux":
        assert (found["C compiler"].status, found["C compiler"].mend) == ("fail", "sudo apt install libbsd-dev")
    compiler.unlink()
    assert (await checks(client, project))["C compiler"].status == "fail"
    assert (await checks(client))["C compiler"].status == "warn"


async def test_folder_that_is_no_project(client: dict[str, str], project: Path) -> None:
    """The sentence of `inspect_project`."""
    check = (await checks(client, project / "main"))["project"]
    assert check.status == "fail"
    assert check.found.endswith("is a component, which only builds inside a project")
    assert check.mend == f"the project is likely '{project}'"


async def test_home_that_cannot_be_used(client: dict[str, str], tmp_path: Path) -> None:
    """The sentence of the configuration."""
    (tmp_path / "home").write_text("")
    check = (await checks(client))["data home"]
    assert check.status == "fail"
    assert check.mend == "set BUILD_ORCHESTRATOR_HOME to a folder on a local disk"


@pytest.mark.parametrize(("free", "status"), [(10, "fail"), (1024**3 - 1, "warn"), (1024**3, "ok")])
async def test_space_of_the_home(
    client: dict[str, str], monkeypatch: pytest.MonkeyPatch, free: int, status: str
) -> None:
    """Ours: under 1 GB a build may not end well, under 1 MiB none does."""
    usage = module.shutil.disk_usage("/")._replace(free=free)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage)  # pyright: ignore[reportUnknownLambdaType]
    assert (await checks(client))["data home"].status == status


async def test_what_runs_jobs_is_looked_for(client: dict[str, str]) -> None:
    """Without one of them no job starts."""
    assert (await checks(client))["job tools"].status == "ok"
    for name in ("awk", "mkfifo", "tail"):
        (Path(client["PATH"]) / name).unlink()
    check = (await checks(client))["job tools"]
    assert (check.status, check.found) == ("fail", "not on PATH: awk, mkfifo, tail")
    assert check.mend == "sudo apt install gawk coreutils"


async def test_perl_stands_in_for_setsid(client: dict[str, str], programs: Programs) -> None:
    """The job script's own rule; macOS has no setsid."""
    (Path(client["PATH"]) / "setsid").unlink()
    assert (await checks(client))["job tools"].mend == "sudo apt install util-linux"
    programs("perl")
    assert (await checks(client))["job tools"].status == "ok"


async def test_demo_needs_no_esp_idf(client: dict[str, str], project: Path) -> None:
    """It brings a simulated one, so nothing may say that its build could not start."""
    del client["IDF_PATH"]
    (project / "sdkconfig").write_text('CONFIG_IDF_TARGET="linux"\n')
    (project / ".build-orchestrator-demo").write_text("")
    (Path(client["PATH"]) / "cc").unlink()
    found = await checks(client, project)
    assert found["ESP-IDF"].found == "no ESP-IDF was found: the demo's simulated one is used"
    assert [check.name for check in found.values() if check.status == "fail"] == []


@pytest.mark.parametrize("usable", [True, False])
async def test_demo_with_a_named_esp_idf_that_fails_is_a_failure(
    client: dict[str, str], project: Path, installation: Installation, usable: bool
) -> None:
    """Issue. It is not replaced by the simulated one, so it must not be said to be."""
    (project / ".build-orchestrator-demo").write_text("")
    if usable:
        (installation.path / "tools" / "idf_tools.py").write_text("import sys; sys.exit('ERROR: no good')")
    else:
        (installation.path / "tools" / "idf.py").unlink()
    check = (await checks(client, project))["ESP-IDF"]
    assert check.status == "fail"
    assert "simulated" not in check.found
