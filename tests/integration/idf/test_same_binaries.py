"""Built by idf.py and by ninja in turns: with the simulated ESP-IDF, and with the real one where IDF_PATH is set."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mcp_server.demo import place
from mcp_server.idf.activation import activate
from mcp_server.idf.build import BuildCommand, after_build, plan_build
from mcp_server.idf.environment import choose_installation, find_installations, job_environment
from mcp_server.idf.installation import Installation, read_version
from mcp_server.idf.products import collect

OURS = dict(os.environ)  # as it was before the tests were closed off

SOURCE = '#include <stdio.h>\nvoid app_main(void);\nvoid app_main(void) { puts("hello"); fflush(stdout); }\n'
FILES = {
    place.MARKER: "",
    "CMakeLists.txt": "cmake_minimum_required(VERSION 3.16)\ninclude($ENV{IDF_PATH}/tools/cmake/project.cmake)\n"
    "idf_build_set_property(MINIMAL_BUILD ON)\nproject(small)\n",
    "main/CMakeLists.txt": 'idf_component_register(SRCS "app_main.c")\n',
    "main/app_main.c": SOURCE,
}

needs_tools = pytest.mark.skipif(
    not all(shutil.which(tool) for tool in ("cc", "ninja")),
    reason="no C compiler or no ninja",
)
needs_esp_idf = pytest.mark.skipif(not OURS.get("IDF_PATH"), reason="no ESP-IDF: IDF_PATH is not set")


class Bench:
    """Runs the planned command as a job would, and records it."""

    def __init__(self, folder: Path, installation: Installation, env: dict[str, str]) -> None:
        self.folder, self.installation, self.env = folder.resolve(), installation, env
        for name, text in FILES.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text)

    def build(self, *, fails: bool = False, target: str | None = None, clean: bool = False) -> BuildCommand:
        command = plan_build(self.folder, self.installation, self.env, target=target, clean=clean)
        started = time.time()
        job = subprocess.run(
            command.argv, cwd=command.cwd, env=dict(command.env), capture_output=True, text=True, check=False
        )
        after_build(command.memo, started_at=started, succeeded=job.returncode == 0)
        assert (job.returncode != 0) is fails, f"{command.why}\n{job.stdout}\n{job.stderr}"
        return command

    def program(self) -> str:
        return hashlib.sha256((self.folder / "build" / "small.elf").read_bytes()).hexdigest()


SIMULATED = pytest.param("simulated", marks=needs_tools)
REAL = pytest.param("real", marks=[needs_tools, needs_esp_idf])


@pytest.fixture(params=[SIMULATED, REAL])
async def bench(request: pytest.FixtureRequest, tmp_path: Path, home: Path) -> Bench:
    if request.param == "real":
        client = OURS
        installation = choose_installation(find_installations(client))
    else:
        client, path = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}, place.simulated_installation()
        installation = Installation(
            path=path,
            version=read_version(path) or "",
            python=Path(sys.executable),
            tools_path=path / "tools",
            source="demo",
        )
    activated = await activate(installation, home / "cache", client)
    return Bench(tmp_path / "a small one", installation, job_environment(activated, client))


@pytest.mark.timeout(300)
async def test_ninja_makes_what_idf_py_makes(bench: Bench) -> None:
    """design: same binaries, proven by a test."""
    assert not bench.build(target="linux").uses_ninja
    bench.write("main/app_main.c", SOURCE.replace("hello", "goodbye"))
    assert bench.build().uses_ninja
    by_ninja = bench.program()

    assert not bench.build(clean=True).uses_ninja

    assert bench.program() == by_ninja
    products = await collect(bench.folder / "build")
    assert (products.target, products.app_elf, products.notes) == ("linux", "small.elf", ())
    assert products.artifacts[0].sha256 == by_ninja


@pytest.mark.timeout(300)
async def test_mistake_is_mended_by_ninja(bench: Bench) -> None:
    """Ours. The fix loop's way: a failed first build, an edit, the next one."""
    bench.write("main/app_main.c", "int nonsense = ;\n")
    assert not bench.build(target="linux", fails=True).uses_ninja
    assert bench.build(fails=True).uses_ninja
    bench.write("main/app_main.c", SOURCE)
    assert bench.build().uses_ninja


@pytest.mark.timeout(300)
@pytest.mark.parametrize("bench", [REAL], indirect=True)  # the simulated one knows no Kconfig of a project's
async def test_new_kconfig_and_new_source_take_effect(bench: Bench) -> None:
    """Measured: plain idf.py ignores both until someone configures."""
    bench.build(target="linux")
    bench.write("main/Kconfig.projbuild", 'config LAMP\n    bool "lamp"\n    default y\n')
    bench.write("main/CMakeLists.txt", 'idf_component_register(SRC_DIRS ".")\n')
    assert not bench.build().uses_ninja
    assert "CONFIG_LAMP=y" in (bench.folder / "sdkconfig").read_text()
    bench.write("main/more.c", "int more_was_compiled;\n")
    assert bench.build().why == "idf.py configures: the list of sources of main changed"
    assert list((bench.folder / "build").rglob("more.c.o*"))
    assert bench.build().uses_ninja


@pytest.mark.timeout(300)
async def test_failed_first_configure_does_not_block_a_target(bench: Bench) -> None:
    """Measured: set-target refuses what a failed configure leaves."""
    bench.write("CMakeLists.txt", FILES["CMakeLists.txt"] + 'message(FATAL_ERROR "no")\n')
    bench.build(target="linux", fails=True)
    bench.write("CMakeLists.txt", FILES["CMakeLists.txt"])
    bench.build(target="linux")
    assert bench.build(target="linux").uses_ninja
