"""The shell programs of a build, run by the real sh and the real ninja; CMake and idf.py are played."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mcp_server.idf.build import NINJA_SCRIPT, SET_ASIDE_SCRIPT

NINJA = shutil.which("ninja")

pytestmark = pytest.mark.skipif(NINJA is None, reason="no ninja on PATH: pip install ninja")

BUILD_NINJA = """\
rule cmake
  command = sh regenerate.sh
  description = Re-running CMake...
  generator = 1
rule compile
  command = cp $in $out && test ! -e broken
build build.ninja: cmake CMakeLists.txt
build out.txt: compile in.txt
build all: phony out.txt
default all
"""

IDF_PY = """\
echo "idf.py $*" >> calls
echo "idf.py says $*"
[ -e idf_py_fails ] && exit 2
case $* in
    *reconfigure*)
        [ -e never_settles ] || touch CMakeLists.txt
        sh regenerate.sh && ninja -t restat build.ninja >/dev/null ;;  # as CMake does
    *) cp in.txt out.txt ;;
esac
"""


class Directory:
    """A build directory with one step; `run` is a job by ninja with idf.py behind it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.write("build.ninja", BUILD_NINJA)
        self.write("CMakeLists.txt", "")
        self.write("in.txt", "hello")
        self.write("regenerate.sh", "echo regenerated >> calls; touch build.ninja")
        self.write("idf.py", IDF_PY)
        self.run()
        (folder / "calls").unlink(missing_ok=True)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def date(self, name: str, seconds: float) -> None:
        os.utime(self.folder / name, (seconds, seconds))

    def run(self) -> subprocess.CompletedProcess[str]:
        argv = ["/bin/sh", "-c", NINJA_SCRIPT, "build-orchestrator", str(NINJA), str(self.folder)]
        idf_py = ["/bin/sh", "idf.py", "-D", "A=x y $(touch owned)"]
        return subprocess.run([*argv, *idf_py], cwd=self.folder, capture_output=True, text=True, check=False)

    @property
    def calls(self) -> list[str]:
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture(params=["build", "with space", 'it\'s $(touch owned) "x"'])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Directory:
    return Directory(tmp_path / request.param)


def test_nothing_to_do_is_said_once(directory: Directory) -> None:
    """Ours. build.ninja is looked at first, and apart; that is nobody's business."""
    done = directory.run()
    assert done.returncode == 0
    assert done.stdout.count("ninja: no work to do.") == 1
    assert directory.calls == []


def test_changed_source_is_built(directory: Directory) -> None:
    """The progress is ninja's own, as it is parsed by others."""
    directory.write("in.txt", "bye")
    done = directory.run()
    assert (done.returncode, (directory.folder / "out.txt").read_text()) == (0, "bye")
    assert "[1/1] " in done.stdout


def test_failed_step_is_final(directory: Directory) -> None:
    """Ours. A compiler's error is not CMake's: idf.py is not asked."""
    directory.write("in.txt", "bye")
    directory.write("broken", "")
    done = directory.run()
    assert done.returncode == 1
    assert "FAILED: " in done.stdout
    assert directory.calls == []


def test_cmake_that_succeeds_stays_ninjas(directory: Directory) -> None:
    """design: ninja re-runs CMake by itself where a CMakeLists.txt changed."""
    directory.date("build.ninja", 1)
    done = directory.run()
    assert done.returncode == 0
    assert "Re-running CMake..." in done.stdout
    assert directory.calls == ["regenerated"]


def test_cmake_that_fails_goes_on_with_idf_py(directory: Directory) -> None:
    """design: any failure inside CMake: idf.py. Both are in the log."""
    directory.date("build.ninja", 1)
    directory.write("regenerate.sh", 'echo regenerated >> calls; touch build.ninja; [ "$(wc -l < calls)" -gt 1 ]')
    done = directory.run()
    assert done.returncode == 0
    assert directory.calls == [
        "regenerated",
        "idf.py -D A=x y $(touch owned) reconfigure",
        "regenerated",
        "idf.py -D A=x y $(touch owned) build",
    ]
    assert "build-orchestrator: CMake did not settle under ninja, so idf.py configures anew\n" in done.stdout
    assert list(directory.folder.parent.rglob("owned")) == []


def test_failure_of_idf_py_is_the_failure(directory: Directory) -> None:
    """Ours. Its exit code, and nothing is built after it."""
    directory.date("build.ninja", 1)
    directory.write("regenerate.sh", "echo CMake Error; exit 1")
    directory.write("idf_py_fails", "")
    done = directory.run()
    assert done.returncode == 2
    assert done.stdout.count("CMake Error") == 1
    assert directory.calls == ["idf.py -D A=x y $(touch owned) reconfigure"]


def test_endless_cmake_is_ended_and_mended(directory: Directory) -> None:
    """Measured: ninja itself tries a hundred times, minutes for a chip."""
    directory.date("CMakeLists.txt", 4e9)
    done = directory.run()
    assert done.returncode == 0
    assert done.stdout.count("Re-running CMake...") <= 3
    assert len(directory.calls) < 10
    assert directory.calls[-1].endswith(" build")


def test_what_cannot_be_mended_is_explained(directory: Directory) -> None:
    """Ours. idf.py's own ninja would try a hundred times more."""
    directory.date("CMakeLists.txt", 4e9)
    directory.write("never_settles", "")
    done = directory.run()
    assert done.returncode == 1
    assert "build.ninja stays out of date after a new configure, so nothing was built:\n" in done.stdout
    assert "explain: output build.ninja older than most recent input CMakeLists.txt" in done.stdout
    assert len(directory.calls) < 10


def test_unreadable_build_ninja_goes_on_with_idf_py(directory: Directory) -> None:
    """Measured: what a full disk leaves."""
    directory.write("build.ninja", "rule")
    directory.write("regenerate.sh", "echo regenerated >> calls; cp good.ninja build.ninja")
    directory.write("good.ninja", BUILD_NINJA)
    assert directory.run().returncode == 0
    assert directory.calls[0].endswith("reconfigure")


def test_sdkconfig_is_set_aside_first(tmp_path: Path) -> None:
    """As set-target does; an older sdkconfig.old goes."""
    sdkconfig = tmp_path / "it's an sdkconfig"
    sdkconfig.write_text("new")
    Path(f"{sdkconfig}.old").write_text("old")
    argv = ["/bin/sh", "-c", SET_ASIDE_SCRIPT, "build-orchestrator", str(sdkconfig), "/bin/sh", "-c", "exit 7"]
    assert subprocess.run(argv, check=False).returncode == 7
    assert not sdkconfig.exists()
    assert Path(f"{sdkconfig}.old").read_text() == "new"
    assert subprocess.run(argv, check=False, capture_output=True).returncode not in (0, 7)
