"""The IDF_DEMO_ variables, by which tests make the simulated idf.py slow, loud, stuck or wrong."""

import os
import signal
import subprocess

import psutil
import pytest

from tests.integration.demo.conftest import Built
from tests.integration.demo.double import IdfPy, steps


def test_more_files_make_a_larger_build(small: IdfPy) -> None:
    """IDF_DEMO_FILES; without it the next build is as small as before."""
    run = small("build", IDF_DEMO_FILES="12")

    assert run.returncode == 0
    assert len([name for name in steps(run.stdout) if name.startswith("part_")]) == 12
    assert "Running cmake" in small("build").stdout
    assert "part_" not in (small.build / "build.ninja").read_text()


def test_compile_steps_can_take_longer(small: IdfPy) -> None:
    """IDF_DEMO_STEP_S is part of the compile command, so ninja shows steps one by one, also when it is run alone."""
    small("reconfigure", IDF_DEMO_STEP_S="0.05")

    assert "sleep 0.05 && " in small.ninja("-t", "commands").stdout
    assert small("build", IDF_DEMO_STEP_S="0.05").returncode == 0


def test_noise_is_printed_before_the_build(built: Built) -> None:
    """IDF_DEMO_NOISE: exactly so many bytes more, among them what is no UTF-8."""
    small, _ = built

    def size(**more: str) -> tuple[int, bytes]:
        run = subprocess.run(small.argv("build"), env=small.environment(**more), capture_output=True, check=True)
        return len(run.stdout) + len(run.stderr), run.stdout + run.stderr

    quiet, loud = size(), size(IDF_DEMO_NOISE="20000")
    assert loud[0] - quiet[0] == 20000
    with pytest.raises(UnicodeDecodeError):
        loud[1].decode()


@pytest.mark.parametrize("code", [3, -9])
def test_any_exit_code_can_be_had(small: IdfPy, code: int) -> None:
    """IDF_DEMO_EXIT: nothing is built; a negative code is a signal."""
    assert small("build", IDF_DEMO_EXIT=str(code)).returncode == code
    assert not small.build.exists()


def test_a_hang_has_a_child_that_outlives_term(small: IdfPy) -> None:
    """IDF_DEMO_HANG: only KILL for the whole group ends it."""
    with subprocess.Popen(
        small.argv("build"),
        env=small.environment(IDF_DEMO_HANG="1"),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as idf_py:
        assert idf_py.stdout is not None
        lines = [idf_py.stdout.readline() for _ in range(3)]
        child = psutil.Process(idf_py.pid).children()[0]
        os.killpg(idf_py.pid, signal.SIGTERM)
        assert idf_py.wait(5) == -signal.SIGTERM
        assert child.is_running()
        os.killpg(idf_py.pid, signal.SIGKILL)
        psutil.wait_procs([child], timeout=5)

    assert any("waits for ever" in line for line in lines)
    assert f"IDF_DEMO_HANG: child {child.pid} ignores TERM\n" in lines
    assert not child.is_running()


def test_an_interrupted_build_ends_as_there(small: IdfPy) -> None:
    """ESP-IDF 6.0.2: exit code 2, and ninja's own."""
    with subprocess.Popen(
        small.argv("build"),
        env=small.environment(IDF_DEMO_STEP_S="0.2", IDF_DEMO_FILES="20"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as idf_py:
        assert idf_py.stdout is not None and idf_py.stderr is not None
        while not idf_py.stdout.readline().startswith("["):
            pass
        os.killpg(idf_py.pid, signal.SIGINT)
        # Not communicate: it knows nothing of what was read ahead.
        out, err = idf_py.stdout.read(), idf_py.stderr.read()

    assert idf_py.returncode == 2
    assert "ninja: build stopped: interrupted by user." in out, err
    assert "ninja process terminated" in err
    assert err.splitlines()[-1].startswith("ninja failed with exit code")
