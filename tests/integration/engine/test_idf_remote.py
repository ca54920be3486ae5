"""`idf_build(host=…)`: the tree goes there, what was built comes back. The ESP-IDF there is a stand-in of ten lines."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcp_server.config import load_config
from mcp_server.errors import BadInput
from mcp_server.model import BuildStatus
from mcp_server.orchestrator import Orchestrator
from mcp_server.views import BuildView
from tests.support.sizes import with_sizes
from tests.support.workers import end_everything, worker_inside

IDF_PY = """\
#!/bin/bash
# Stands in for ESP-IDF's idf.py: remembers the target, compiles by cc, leaves what a build leaves.
[ "$1" != --version ] || { echo "ESP-IDF v0-stand-in"; exit; }
build= sdkconfig= target=
while [ $# -gt 0 ]; do
    case $1 in
        -B) build=$2; shift ;;
        -D) case $2 in SDKCONFIG=*) sdkconfig=${2#*=} ;; IDF_TARGET=*) target=${2#*=} ;; esac; shift ;;
        set-target) target=$2; rm -f "$sdkconfig"; shift ;;
        fullclean) rm -rf "$build"/*.elf; echo cleaned ;;
    esac
    shift
done
grep -qs CONFIG_IDF_TARGET "$sdkconfig" || echo "CONFIG_IDF_TARGET=\\"${target:-esp32}\\"" >>"$sdkconfig"
target=$(sed -n 's/^CONFIG_IDF_TARGET="\\(.*\\)"$/\\1/p' "$sdkconfig")
cc -c main/main.c -o "$build/hello.elf" || exit 2
printf '{"target": "%s", "app_elf": "hello.elf", "app_bin": "hello.bin"}' "$target" >"$build/project_description.json"
cp "$build/hello.elf" "$build/hello.bin"
made=esp-idf/main/CMakeFiles/__idf_main.dir/main.c.obj
printf '# ninja log v5\\n0\\t40\\t%s\\t%s\\tab\\n' "$(date +%s%N)" "$made" >"$build/.ninja_log"
app='{"offset": "0x10000", "file": "hello.bin"}'
echo '{"flash_files": {"0x10000": "hello.bin"}, "app": '"$app}" >"$build/flasher_args.json"
echo "Project build complete."
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "hello"
    (folder / "main").mkdir(parents=True)
    (folder / "CMakeLists.txt").write_text("include($ENV{IDF_PATH}/tools/cmake/project.cmake)\nproject(hello)\n")
    (folder / "main" / "main.c").write_text("int main(void) { return 0; }\n")
    return folder


@pytest.fixture
async def far(tmp_path: Path, home: Path) -> AsyncIterator[Orchestrator]:
    """An orchestrator with the host `fast`: a command channel into another home of this machine."""
    idf, there = tmp_path / "esp-idf", tmp_path / "there"
    idf.mkdir()
    there.mkdir()
    (idf / "idf.py").write_text(IDF_PY)
    (idf / "idf.py").chmod(0o755)
    (idf / "export.sh").write_text('echo "Setting up"; PATH="$IDF_PATH:$PATH"; export PATH\n')
    channel = ["env", "-i", f"HOME={there}", f"PATH={os.environ['PATH']}"]
    config = {"servers": {"fast": {"exec": channel, "idf_path": str(idf)}, "bare": {"exec": channel}}}
    (home / "config.yaml").write_text(json.dumps(config))
    orchestrator = Orchestrator(load_config())
    async with worker_inside(home):
        yield orchestrator
        await orchestrator.aclose()
    end_everything(home)
    end_everything(there / ".build-orchestrator")


async def build(far: Orchestrator, project: Path, **more: str | None) -> BuildView:
    async with asyncio.timeout(40):
        started = await far.start_build(str(project), **{"host": "fast", **more})  # pyright: ignore[reportArgumentType]
        return await far.wait(started.build.id, 30)


async def test_what_was_built_there_is_here_with_its_hashes(far: Orchestrator, project: Path) -> None:
    """Issue: binaries, flasher_args.json and sizes come back; the verdict shows local paths."""
    view = await build(far, project, target="esp32c3")
    async with asyncio.timeout(20):
        sized = await with_sizes(far, view.build.id)

    place = project / "build" / "esp32c3-fast"
    assert view.build.status is BuildStatus.SUCCESS, view.build.build_output
    assert view.build.artifacts_path == str(place)
    assert {artifact.path for artifact in view.artifacts} >= {"hello.bin", "hello.elf", "flasher_args.json"}
    assert (place / "hello.bin").read_bytes() == (place / "hello.elf").read_bytes()
    assert next(artifact.offset for artifact in view.artifacts if artifact.path == "hello.bin") == "0x10000"
    assert [row.host for row in view.stages] == ["fast"]
    times = sized.stages[0].verdict.details["compile"] if sized.stages[0].verdict else {}
    assert times["files"] == [{"file": "main/main.c", "seconds": 0.04}]
    assert sized.stages[0].verdict and sized.stages[0].verdict.details["sizes"]["sections"]["text"] > 0


async def test_a_mistake_is_told_by_its_place_in_the_local_tree(far: Orchestrator, project: Path) -> None:
    """Issue. The next build there has the mended file."""
    source = project / "main" / "main.c"
    source.write_text("int main(void) { return x; }\n")
    failed = await build(far, project)
    source.write_text("int main(void) { return 1; }\n")
    mended = await build(far, project)

    (row,) = failed.stages
    assert row.verdict
    assert row.verdict.diagnosis
    assert (row.verdict.diagnosis.errors[0].file, row.verdict.diagnosis.errors[0].line) == ("main/main.c", 1)
    assert mended.build.status is BuildStatus.SUCCESS


async def test_the_local_configuration_goes_there_and_is_not_overwritten(far: Orchestrator, project: Path) -> None:
    """Ours. Each side has an sdkconfig of its own; a change of the local one is taken over."""
    (project / "sdkconfig").write_text('CONFIG_IDF_TARGET="esp32s3"\n')
    first = await build(far, project)
    (project / "sdkconfig").write_text('CONFIG_IDF_TARGET="esp32c6"\n')
    second = await build(far, project)

    targets = [view.stages[0].verdict.details["target"] for view in (first, second) if view.stages[0].verdict]
    assert targets == ["esp32s3", "esp32c6"]
    assert (project / "sdkconfig").read_text() == 'CONFIG_IDF_TARGET="esp32c6"\n'


async def test_a_host_without_esp_idf_says_what_to_set(far: Orchestrator, project: Path) -> None:
    """Ours."""
    view = await build(far, project, host="bare")

    assert view.build.status is BuildStatus.FAILED
    assert "set idf_path of this host in config.yaml" in (view.build.build_output or "")


async def test_an_unknown_host_is_refused_by_the_nearest_name(far: Orchestrator, project: Path) -> None:
    """Issue: unknown server."""
    with pytest.raises(BadInput, match="no server 'fats'; did you mean 'fast'"):
        await far.start_build(str(project), host="fats")
