"""Which command builds: idf.py or ninja, with which target, and what is remembered of it."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from mcp_server.errors import BadInput
from mcp_server.idf import build as module
from mcp_server.idf.build import NINJA_SCRIPT, SET_ASIDE_SCRIPT, BuildCommand, after_build, disk_is_full, plan_build
from mcp_server.idf.fingerprint import RECORD
from mcp_server.idf.installation import Installation

Programs = Callable[..., Path]


class Bench:
    """One project under one installation: plans, and plays what CMake leaves in the build directory."""

    def __init__(self, folder: Path, installation: Installation, path: Path) -> None:
        self.folder, self.installation = folder, installation
        self.build_dir = folder / "build"
        self.env = {"PATH": str(path), "HOME": "/home/dev"}

    def plan(self, **options: object) -> BuildCommand:
        return plan_build(self.folder, self.installation, self.env, **options)  # type: ignore[arg-type]

    def idf_py(self, *arguments: str) -> tuple[str, ...]:
        return (str(self.installation.python), str(self.installation.idf_py), *arguments)

    def configure(self, target: str = "esp32c3", python: str | None = None, build_dir: Path | None = None) -> None:
        folder = build_dir or self.build_dir
        folder.mkdir(parents=True, exist_ok=True)
        cache = {
            "IDF_TARGET": target,
            "PYTHON": python or str(self.installation.python),
            "CMAKE_GENERATOR": "Ninja",
            "CMAKE_HOME_DIRECTORY": str(self.folder),
            "CCACHE_ENABLE": "False",
        }
        (folder / "CMakeCache.txt").write_text("".join(f"{name}:STRING={cache[name]}\n" for name in cache))
        (folder / "build.ninja").write_text("rule x\n")
        sdkconfig = (self.folder if folder == self.build_dir else folder) / "sdkconfig"
        sdkconfig.write_text(f'CONFIG_IDF_TARGET="{target}"\n')

    def built(self, **options: object) -> BuildCommand:
        """A build of ours went through; the next command."""
        command = self.plan(**options)
        self.configure()
        assert after_build(command.memo, started_at=time.time() - 1, succeeded=True)
        return self.plan(**options)


@pytest.fixture
def bench(project: Path, installation: Installation, programs: Programs) -> Bench:
    return Bench(project, installation, programs("ninja"))


def test_first_build_is_idf_pys(bench: Bench) -> None:
    """design: idf.py configures."""
    command = bench.plan()
    assert command.argv == bench.idf_py("build")
    assert (command.cwd, command.build_dir, command.uses_ninja) == (str(bench.folder), bench.build_dir, False)
    assert command.why == "idf.py configures: nothing is configured here yet"


def test_next_build_is_ninjas(bench: Bench) -> None:
    """design: ninja rebuilds."""
    command = bench.built()
    assert command.uses_ninja
    assert command.argv[:4] == ("/bin/sh", "-c", NINJA_SCRIPT, "build-orchestrator")
    assert command.argv[5:] == (str(bench.build_dir), *bench.idf_py())
    assert command.argv[4].endswith("/ninja")


def test_nothing_is_changed_by_planning(bench: Bench) -> None:
    """Ours. A plan may be made and thrown away."""
    bench.configure()
    before = sorted((path, path.stat().st_mtime_ns) for path in bench.folder.rglob("*"))
    bench.plan(target="esp32s3", clean=True)
    assert sorted((path, path.stat().st_mtime_ns) for path in bench.folder.rglob("*")) == before


def test_configured_by_someone_else_is_configured_again(bench: Bench) -> None:
    """Ours. What they passed or changed since is unknown; nothing is cleaned."""
    bench.configure()
    command = bench.plan()
    assert command.argv == bench.idf_py("reconfigure", "build")
    assert command.why == "idf.py configures: no configure of ours is on record here"


def test_switch_turns_ninja_off(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """design: BUILD_ORCHESTRATOR_NINJA=0."""
    monkeypatch.setenv("BUILD_ORCHESTRATOR_NINJA", "0")
    command = bench.built()
    assert (command.argv, command.why) == (bench.idf_py("build"), "idf.py: BUILD_ORCHESTRATOR_NINJA=0")


def change_environment(bench: Bench) -> None:
    bench.env["IDF_CCACHE_ENABLE"] = "1"


def change_packages(bench: Bench) -> None:
    packages = bench.installation.python.parent.parent / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)


def change_version(bench: Bench) -> None:
    bench.installation = bench.installation.model_copy(update={"version": "6.0.3"})


def add_extension(bench: Bench) -> None:
    (bench.folder / "idf_ext.py").write_text("")


def change_generator(bench: Bench) -> None:
    cache = bench.build_dir / "CMakeCache.txt"
    cache.write_text(cache.read_text().replace("=Ninja", "=Unix Makefiles"))
    after_build(bench.plan().memo, started_at=time.time() - 1, succeeded=True)


def remove_ninja(bench: Bench) -> None:
    (Path(bench.env["PATH"]) / "ninja").unlink()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (change_environment, "idf.py: the environment changed"),
        (change_packages, "idf.py: the Python environment changed"),
        (change_version, "idf.py: the ESP-IDF version changed"),
        (add_extension, "idf.py: idf_ext.py may act on every run"),
        (change_generator, "idf.py: the generator is Unix Makefiles"),
        (remove_ninja, "idf.py: ninja is not on PATH"),
    ],
)
def test_any_doubt_means_idf_py(bench: Bench, change: Callable[[Bench], None], why: str) -> None:
    """design: a fingerprint that no longer matches."""
    assert bench.built().uses_ninja
    change(bench)
    assert (bench.plan().argv, bench.plan().why) == (bench.idf_py("build"), why)


def test_new_kconfig_is_configured(bench: Bench) -> None:
    """Measured: `idf.py build` alone would ignore it, too."""
    assert bench.built().uses_ninja
    (bench.folder / "main" / "Kconfig.projbuild").write_text("")
    command = bench.plan()
    assert command.argv == bench.idf_py("reconfigure", "build")
    assert command.why == "idf.py configures: main/Kconfig.projbuild is new"


def test_new_definition_is_passed_to_idf_py(bench: Bench) -> None:
    """design: the -D list."""
    assert bench.built(definitions=["A=1"]).uses_ninja
    command = bench.plan(definitions=["A=2", "B=x y"])
    assert command.argv == bench.idf_py("-D", "A=2", "-D", "B=x y", "build")


@pytest.mark.parametrize("python", [sys.executable, None])
def test_other_pythons_directory_is_left_to_idf_py(bench: Bench, python: str | None) -> None:
    """It refuses, and says what to do. To configure would mix the two up."""
    bench.configure(python=python or str(bench.installation.python))
    if python is None:
        text = (bench.build_dir / "CMakeCache.txt").read_text().replace(str(bench.folder), "/moved/from")
        (bench.build_dir / "CMakeCache.txt").write_text(text)
    command = bench.plan()
    assert command.argv == bench.idf_py("build")
    assert "another Python or folder" in command.why


def test_python_that_is_gone_is_configured_anew(bench: Bench) -> None:
    """Nothing can be mixed up with what is no longer there; idf.py's own refusal would only cost a clean."""
    bench.configure(python="/other/env/bin/python")
    command = bench.plan()
    assert command.argv == bench.idf_py("reconfigure", "build")
    assert command.why == "idf.py configures: /other/env/bin/python is gone"


def test_rules_that_name_what_is_gone_are_made_anew(bench: Bench) -> None:
    """ninja would end with `can't open file`, and idf.py build would only run ninja."""
    assert bench.built().uses_ninja
    again = f"{sys.executable} '/gone to/simulated_cmake.py' --regenerate-during-build -S/p -B/p/build"
    (bench.build_dir / "build.ninja").write_text(f"rule RERUN_CMAKE\n  command = {again}\n")
    assert bench.plan().argv == bench.idf_py("reconfigure", "build")
    assert bench.plan().why == "idf.py configures: /gone to/simulated_cmake.py is gone"


@pytest.mark.parametrize("other_python", [False, True])
def test_esp_idf_that_moved_is_configured_anew(bench: Bench, tmp_path: Path, other_python: bool) -> None:
    """The rules in build.ninja name the old folder, even where that is still there."""
    assert bench.built().uses_ninja
    moved = {"path": tmp_path / "moved"} | ({"python": Path(sys.executable)} if other_python else {})
    bench.installation = bench.installation.model_copy(update=moved)
    command = bench.plan()
    assert command.argv == bench.idf_py("reconfigure", "build")
    assert command.why == "idf.py configures: the ESP-IDF folder changed"


def test_output_is_unbuffered_and_that_changes_no_fingerprint(bench: Bench) -> None:
    """Python's lines must not reach the log after those of the tools that it runs."""
    assert bench.plan().env["PYTHONUNBUFFERED"] == "1"
    assert bench.built().env["PYTHONUNBUFFERED"] == "1"
    assert "PYTHONUNBUFFERED" not in bench.env


def test_python_is_called_by_the_name_in_the_cache(bench: Bench) -> None:
    """bin/python3 and bin/python are one file, but idf.py compares the text."""
    python3 = bench.installation.python.with_name("python3")
    python3.symlink_to("python")
    bench.configure(python=str(python3))
    assert bench.plan().argv[0] == str(python3)


def test_target_that_is_right_is_not_set_again(bench: Bench) -> None:
    """design: no needless full clean."""
    bench.configure("esp32c3")
    assert "set-target" not in bench.plan(target="esp32c3").argv
    (bench.folder / "sdkconfig").unlink()
    assert "set-target" not in bench.plan(target="esp32c3").argv


@pytest.mark.parametrize(("target", "preview"), [("esp32s3", ()), ("linux", ("--preview",))])
def test_other_target_is_set_and_built_at_once(bench: Bench, target: str, preview: tuple[str, ...]) -> None:
    """idf.py takes both in one call, measured; --preview where the chip is new."""
    bench.configure("esp32c3")
    command = bench.plan(target=target)
    assert command.argv == bench.idf_py(*preview, "set-target", target, "build")
    assert command.why == f"idf.py sets the target: esp32c3 becomes {target}"


def test_sdkconfig_of_another_target_is_noticed(bench: Bench) -> None:
    """The cache is right, sdkconfig is not: idf.py would refuse."""
    bench.configure("esp32c3")
    (bench.folder / "sdkconfig").write_text('CONFIG_IDF_TARGET="esp32"\n')
    assert bench.plan(target="esp32c3").argv == bench.idf_py("set-target", "esp32c3", "build")


def test_first_target_needs_no_set_target(bench: Bench) -> None:
    """Measured: after a failed first configure set-target refuses, as its full clean finds no CMakeCache.txt."""
    (bench.build_dir / "log").mkdir(parents=True)
    assert bench.plan(target="linux").argv == bench.idf_py("-D", "IDF_TARGET=linux", "--preview", "build")
    assert bench.plan(target="linux", clean=True).argv == bench.plan(target="linux").argv


def test_sdkconfig_of_another_target_is_set_aside(bench: Bench) -> None:
    """What set-target does, too; here it may not be called."""
    (bench.folder / "sdkconfig").write_text('CONFIG_IDF_TARGET="esp32"\n')
    command = bench.plan(target="esp32c3")
    assert command.argv[2:5] == (SET_ASIDE_SCRIPT, "build-orchestrator", str(bench.folder / "sdkconfig"))
    assert command.argv[5:] == bench.idf_py("-D", "IDF_TARGET=esp32c3", "build")
    assert command.why.endswith("sdkconfig, made for esp32, becomes sdkconfig.old")


def test_target_of_the_argument_beats_the_environments(bench: Bench) -> None:
    """idf.py refuses where the two differ."""
    bench.env["IDF_TARGET"] = "esp32"
    assert "IDF_TARGET" not in bench.plan(target="esp32c3").env
    assert bench.plan().env["IDF_TARGET"] == "esp32"


def test_clean_is_done_only_when_asked(bench: Bench) -> None:
    """design: never fullclean on our own."""
    assert "fullclean" not in bench.built().argv
    command = bench.plan(clean=True)
    assert (command.argv, command.why) == (bench.idf_py("fullclean", "build"), "idf.py cleans all, as asked")
    (bench.folder / "sdkconfig").unlink()
    assert bench.plan(clean=True, target="esp32c3").argv == bench.idf_py(
        "-D", "IDF_TARGET=esp32c3", "fullclean", "build"
    )


def test_other_build_directory_has_its_own_sdkconfig(bench: Bench) -> None:
    """docs: a matrix cell or another host."""
    cell = bench.folder / "build" / "esp32c3"
    options = ["-B", str(cell), "-D", f"SDKCONFIG={cell}/sdkconfig"]
    first = bench.plan(target="esp32c3", build_dir=cell)
    assert first.argv == bench.idf_py(*options, "-D", "IDF_TARGET=esp32c3", "build")
    bench.configure(build_dir=cell)
    assert after_build(first.memo, started_at=time.time() - 1, succeeded=True)
    assert bench.plan(target="esp32c3", build_dir=cell).argv[6:] == bench.idf_py(*options)
    assert bench.plan(target="esp32c3", build_dir=cell, clean=True).argv[-4:] == (
        "-D", "IDF_TARGET=esp32c3", "fullclean", "build",
    )  # fmt: skip


def test_build_directory_may_be_a_link(bench: Bench, tmp_path: Path) -> None:
    """Ours. People link build/ to a faster disk; it stays the project's own, with the project's sdkconfig."""
    (tmp_path / "fast").mkdir()
    bench.build_dir.symlink_to(tmp_path / "fast")
    for given in (None, bench.build_dir):
        assert bench.plan(build_dir=given).argv == bench.idf_py("build")
    assert bench.built().uses_ninja


def test_ninja_gets_what_idf_py_would_give_it(bench: Bench) -> None:
    """ninja may have to re-run CMake, which reads PYTHON and IDF_VERSION; gcc and Python need an UTF-8 locale."""
    assert bench.built().uses_ninja
    bench.env["LC_ALL"] = "C"
    env = bench.plan().env
    assert env["PYTHON"] == str(bench.installation.python)
    assert env["IDF_VERSION"] == "6.0.2"
    assert env["LC_CTYPE"].endswith("UTF-8")
    assert "LC_ALL" not in env
    bench.env["LC_ALL"] = "de_DE.utf8"
    assert bench.plan().env["LC_ALL"] == "de_DE.utf8"


def test_failed_compile_is_still_recorded(bench: Bench) -> None:
    """Ours. The next build, with the mistake mended, is ninja's."""
    command = bench.plan()
    started = time.time() - 1
    bench.configure()
    assert after_build(command.memo, started_at=started, succeeded=False)
    assert bench.plan().uses_ninja


@pytest.mark.parametrize("left", ["no cache", "no build.ninja", "empty build.ninja", "old build.ninja"])
def test_failed_configure_is_forgotten(bench: Bench, left: str) -> None:
    """design: only if our own last configure here succeeded."""
    assert bench.built().uses_ninja
    (bench.folder / "main" / "Kconfig").write_text("")
    command = bench.plan()
    if left == "no cache":
        (bench.build_dir / "CMakeCache.txt").unlink()
    elif left == "no build.ninja":
        (bench.build_dir / "build.ninja").unlink()
    elif left == "empty build.ninja":
        (bench.build_dir / "build.ninja").write_text("")
    else:
        os.utime(bench.build_dir / "build.ninja", (1, 1))

    assert not after_build(command.memo, started_at=time.time() - 1, succeeded=False)

    assert not (bench.build_dir / RECORD).exists()
    assert not bench.plan().uses_ninja


def test_file_added_while_the_job_waited_is_configured_next(bench: Bench) -> None:
    """Ours. Decided upon is what was there when the plan was made, not when the job got its turn."""
    assert bench.built().uses_ninja
    command = bench.plan()
    (bench.folder / "main" / "Kconfig").write_text("")
    assert after_build(command.memo, started_at=time.time() + 1, succeeded=True)
    assert bench.plan().why == "idf.py configures: main/Kconfig is new"


def test_memo_can_be_stored(bench: Bench) -> None:
    """Ours. Another worker may see the end of the job; no secret of the environment may lie in a table."""
    bench.env["IDF_TOKEN"] = "hunter2"
    text = json.dumps(bench.plan().memo)
    assert "hunter2" not in text
    assert len(text) < 4000


def test_file_of_the_future_is_refused_with_its_remedy(bench: Bench) -> None:
    """Measured: a hundred re-runs of CMake, three minutes and more, then no build."""
    os.utime(bench.folder / "CMakeLists.txt", (4e9, 4e9))
    with pytest.raises(BadInput, match=r"^project: CMakeLists\.txt is dated in the future.*: touch CMakeLists\.txt$"):
        bench.plan()


@pytest.mark.parametrize(
    ("available", "files", "full"), [(10, 5, True), (1 << 20, 5, False), (1 << 20, 0, True), (0, 0, True)]
)
def test_full_disk_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, available: int, files: int, full: bool
) -> None:
    """Measured: CMake says "Build files have been written" on a full disk. A disk can run out of inodes, too."""
    state = SimpleNamespace(f_bavail=available, f_frsize=4096, f_files=100, f_favail=files)
    monkeypatch.setattr(module.os, "statvfs", lambda path: state)  # pyright: ignore[reportUnknownLambdaType]
    assert disk_is_full(tmp_path) is full


def test_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    """Ours: the one it would be made on."""
    assert not disk_is_full(tmp_path / "a" / "b")
