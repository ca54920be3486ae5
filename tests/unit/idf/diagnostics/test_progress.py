"""Progress: the outermost ninja, whatever runs inside it."""

import pytest

from mcp_server.idf.diagnostics import Diagnoser
from mcp_server.model import Progress


def progress(*lines: str) -> Progress | None:
    diagnoser = Diagnoser()
    diagnoser.feed(b"".join(line.encode() + b"\n" for line in lines))
    return diagnoser.progress


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("Building C object esp-idf/driver/CMakeFiles/__idf_driver.dir/gpio/gpio.c.obj", "compiling gpio.c"),
        ("Building CXX object esp-idf/main/CMakeFiles/__idf_main.dir/view.cpp.o", "compiling view.cpp"),
        ("Building ASM object esp-idf/riscv/CMakeFiles/__idf_riscv.dir/vectors.S.obj", "compiling vectors.S"),
        ("Linking C static library esp-idf/main/libmain.a", "linking libmain.a"),
        ("Linking CXX executable lamp.elf", "linking lamp.elf"),
        ("cd /p/build && /usr/bin/python /idf/check_sizes.py --offset 0x8000 partition", "running check_sizes.py"),
        ("Performing build step for 'bootloader'", "performing build step for 'bootloader'"),
        ("Generating ../../x509_crt_bundle", "generating ../../x509_crt_bundle"),
    ],
)
def test_a_step_is_said_shortly(step: str, message: str) -> None:
    """Ours."""
    assert progress(f"[412/1043] {step}") == Progress(done=412, total=1043, message=message)


def test_nothing_is_known_before_the_first_step() -> None:
    """Ours."""
    assert progress("Executing action: all (aliases: build)", "[]", "[x/9] y") is None


def test_a_build_inside_the_build_is_not_shown() -> None:
    """Ours: the bootloader's steps would make the bar jump."""
    inner = [f"[{n}/101] Building C object b{n}.c.obj" for n in range(1, 102)]

    assert progress(
        "[6/900] Building C object a.c.obj", "[7/900] Performing build step for 'bootloader'", *inner
    ) == Progress(done=7, total=900, message="performing build step for 'bootloader'")
    done = progress("[7/900] Performing build step for 'bootloader'", *inner, "[8/900] Building C object c.c.obj")
    assert done == Progress(done=8, total=900, message="compiling c.c")


def test_cmake_running_first_does_not_count() -> None:
    """Ours."""
    assert progress("[0/1] Re-running CMake...", "[1/9] Building C object a.c.obj") == Progress(
        done=1, total=9, message="compiling a.c"
    )


def test_the_next_ninja_starts_again() -> None:
    """Ours: build, then flash."""
    again = progress(
        "[900/900] Linking CXX executable a.elf", "Running ninja in directory /p/build", "[1/5] Generating x"
    )

    assert again == Progress(done=1, total=5, message="generating x")


def test_flashing_is_told_in_percent() -> None:
    """Ours: esptool 5 and 4 draw their bars differently, both end a line by \\r."""
    bar = "Writing at 0x000268e2 ━━━━━━━━━━━━━━━━━━━━━           70.3% 48.00kB/68.25kB [0s] \r"

    assert progress("[4/5] Running utility command for flash", bar) == Progress(
        done=70, total=100, message="writing flash at 0x000268e2"
    )
    assert progress("Writing at 0x00010000... (12 %)") == Progress(
        done=12, total=100, message="writing flash at 0x00010000"
    )


def test_make_counts_in_percent() -> None:
    """Ours: idf.py -G "Unix Makefiles"."""
    assert progress("[ 46%] Building C object main/a.c.obj") == Progress(done=46, total=100, message="compiling a.c")
