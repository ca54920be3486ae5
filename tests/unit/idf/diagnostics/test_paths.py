"""Paths as a reader of the project would write them."""

import pytest

from mcp_server.idf.diagnostics.paths import Paths

TOOLS = "/home/dev/.espressif/tools/riscv32-esp-elf/esp-15.2.0/riscv32-esp-elf"


@pytest.fixture
def paths() -> Paths:
    known = Paths("/home/dev/lamp", "/home/dev/esp/v6.0")
    known.learn("Running ninja in directory /home/dev/lamp/out/esp32c3")
    return known


@pytest.mark.parametrize(
    ("path", "short", "own"),
    [
        ("/home/dev/lamp/main/a.c", "main/a.c", True),
        ("/home/dev/lamp/main/../components/x/a.c", "components/x/a.c", True),
        ("../main/a.c", "main/a.c", True),
        ("main/a.c", "main/a.c", True),
        ("/home/dev/lamp/out/esp32c3/config/sdkconfig.h", "build/config/sdkconfig.h", False),
        ("/home/dev/esp/v6.0/components/log/log.c", "IDF/components/log/log.c", False),
        ("/opt/esp-idf-v5.4/components/log/log.c", "IDF/components/log/log.c", False),
        (f"{TOOLS}/include/c++/15.2.0/bits/stl_map.h", "c++/15.2.0/bits/stl_map.h", False),
        (f"{TOOLS}/sys-include/stdio.h", "stdio.h", False),
        ("/usr/include/stdlib.h", "/usr/include/stdlib.h", False),
    ],
)
def test_a_path_is_shortened_and_owned(paths: Paths, path: str, short: str, own: bool) -> None:
    """Ours."""
    assert (paths.short(path), paths.in_project(path)) == (short, own)


def test_an_example_inside_esp_idf_is_the_project() -> None:
    """Ours: the deepest root owns a path."""
    paths = Paths("/idf/examples/blink", "/idf")

    assert paths.short("/idf/examples/blink/main/a.c") == "main/a.c"
    assert paths.short("/idf/components/log/log.c") == "IDF/components/log/log.c"


@pytest.mark.parametrize(
    "line",
    [
        "Running ninja in directory /home/dev/lamp/build",
        'Executing "cmake -G Ninja -B /home/dev/lamp/build -DIDF_TARGET=esp32 /home/dev/lamp"...',
        "/usr/bin/cmake --regenerate-during-build -S/home/dev/lamp -B/home/dev/lamp/build",
        "-- Project sdkconfig file /home/dev/lamp/sdkconfig",
        "ninja failed with exit code 1, output of the command is in the /home/dev/lamp/build/log/idf_py_stderr_1 and x",
    ],
)
def test_the_log_itself_names_the_project(line: str) -> None:
    """Ours: a saved log comes from another machine."""
    paths = Paths()
    paths.learn(line)

    assert paths.short("/home/dev/lamp/main/a.c") == "main/a.c"


def test_without_any_root_the_shape_shows_it() -> None:
    """Ours: an excerpt in a mail."""
    paths = Paths()
    paths.guess("C:\\work\\lamp\\main\\a.c")

    assert paths.short("C:\\work\\lamp\\main\\a.c") == "main/a.c"
