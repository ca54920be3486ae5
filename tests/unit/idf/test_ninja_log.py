"""Times of files from ninja's own log: recorded ones, and whatever a disk may hold in its place."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.idf import ninja_log
from mcp_server.idf.ninja_log import LOG, compile_times, of_build, source_of

RECORDED = Path(__file__).parents[2] / "fixtures" / "files"
S = 10**9


def log(*lines: tuple[int, int, int, str, str], version: int = 5) -> bytes:
    """A log of start, end (ms), time (ns), output, hash."""
    return f"# ninja log v{version}\n".encode() + b"".join("\t".join(map(str, line)).encode() + b"\n" for line in lines)


def test_a_recorded_build_of_a_chip_has_each_source_once_and_the_slowest_first() -> None:
    """Ours. ESP-IDF v6.0.2, esp32c3: an edge may have several outputs, and counts once."""
    found = compile_times({"": (RECORDED / "ninja_log-c3").read_bytes()}, since=0)

    assert found is not None
    assert (found.edges, found.objects) == (363, 305)
    assert (found.files[0].file, found.files[0].seconds) == ("spi_flash/esp_flash_api.c", 0.6)
    assert found.steps[0].file == "bootloader/bootloader.elf"
    assert len(found.files) == ninja_log.MOST_FILES
    assert found.wall_s < found.total_s
    assert found.objects_s < found.total_s


def test_only_what_this_build_ran_counts_and_of_an_output_the_last_line() -> None:
    """Ours. A build that compiled one file must not look like the first one."""
    text = log(
        (0, 9000, 1_700_000_100 * S, "main/CMakeFiles/x.dir/a.c.o", "aa"),
        (0, 8000, 1_700_000_100 * S, "main/CMakeFiles/x.dir/b.c.o", "bb"),
        (5, 1005, 1_700_000_200 * S, "main/CMakeFiles/x.dir/a.c.o", "aa"),
        (1005, 1105, 1_700_000_201 * S, "app.elf", "cc"),
    )
    found = compile_times({"": text}, since=1_700_000_200)

    assert found is not None
    assert [(one.file, one.seconds) for one in found.files] == [("main/a.c", 1.0)]
    assert [one.file for one in found.steps] == ["app.elf"]
    assert (found.edges, found.wall_s, found.total_s) == (2, 1.1, 1.1)
    assert compile_times({"": text}, since=1_700_000_300) is None


def test_two_ninjas_one_after_the_other_take_the_time_of_both() -> None:
    """Ours. Each counts its milliseconds from its own start."""
    text = log((0, 2000, 5 * S, "a.o", "1"), (0, 3000, 5 * S, "b.o", "2"), (0, 500, 9 * S, "c.o", "3"))
    found = compile_times({"": text}, since=1)

    assert found is not None
    assert (found.wall_s, found.total_s) == (3.5, 5.5)

    again = log((0, 2000, 5 * S, "a.o", "1"), (0, 3000, 5 * S, "b.o", "2"), (0, 500, 9 * S, "a.o", "1"))
    found = compile_times({"": again}, since=1)
    assert found is not None
    assert (found.edges, found.wall_s, found.total_s) == (2, 3.5, 3.5)


def test_the_bootloaders_own_ninja_is_counted_and_the_step_around_it_is_not() -> None:
    """Ours. ESP-IDF builds its bootloader by a ninja of its own, within one step of the app's."""
    outer = log(
        (0, 9000, 5 * S, "bootloader-prefix/src/bootloader-stamp/bootloader-build", "1"),
        (0, 9000, 5 * S, "bootloader/bootloader.elf", "1"),
        (0, 400, 5 * S, "esp-idf/main/CMakeFiles/__idf_main.dir/app.c.obj", "2"),
    )
    inner = log((0, 700, 5 * S, "esp-idf/soc/CMakeFiles/__idf_soc.dir/x.c.obj", "3"))
    found = compile_times({"": outer, "bootloader": inner}, since=1)

    assert found is not None
    assert [one.file for one in found.files] == ["bootloader/soc/x.c", "main/app.c"]
    assert (found.edges, found.total_s) == (2, 1.1)


@pytest.mark.parametrize(
    ("output", "source"),
    [
        ("esp-idf/main/CMakeFiles/__idf_main.dir/app_main.c.obj", "main/app_main.c"),
        ("esp-idf/mbedtls/mbedtls/library/CMakeFiles/mbedcrypto.dir/aes.c.obj", "mbedtls/mbedtls/library/aes.c"),
        ("lib/CMakeFiles/valve.dir/__/common/pump.cpp.o", "common/pump.cpp"),
        ("CMakeFiles/app.elf.dir/project_elf_src_linux.c.o", "project_elf_src_linux.c"),
        ("src/prog.p/main.c.o", "src/prog.p/main.c"),
        ("esp-idf/main/libmain.a", None),
        ("app.elf", None),
    ],
)
def test_an_object_is_named_by_its_source(output: str, source: str | None) -> None:
    """Ours. As people and their editors name it."""
    assert source_of(output) == source


def test_formats_that_differ_in_the_hash_alone_are_read_and_others_are_not() -> None:
    """Ninja's. 5 to 7 have the same fields; 4 has a whole command in place of the hash."""
    lines = ((0, 10, 5 * S, "a.c.o", "9f"), (10, 20, 5 * S, "b.c.o", "8"))
    read = {v: compile_times({"": log(*lines, version=v)}, since=1) for v in range(3, 9)}

    assert [version for version, found in read.items() if found is not None] == [5, 6, 7]


def test_times_in_seconds_of_an_old_ninja_are_understood() -> None:
    """Ninja's. Before 1.9 it wrote whole seconds."""
    assert compile_times({"": log((0, 10, 1_700_000_000, "a.c.o", "9f"))}, since=1_700_000_000.4) is not None
    assert compile_times({"": log((0, 10, 1_700_000_000, "a.c.o", "9f"))}, since=1_700_000_002) is None


def test_of_a_log_that_is_too_long_the_end_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours. What this run did stands at the end."""
    monkeypatch.setattr(ninja_log, "MAX_LOG_BYTES", 300)
    lines = [(n, n + 1, 5 * S, f"dir/file{n}.c.o", f"{n:x}") for n in range(100)]
    (tmp_path / LOG).write_bytes(log(*lines))
    found = of_build(tmp_path, since=1)

    assert found is not None
    assert {one.file for one in found.files} <= {f"dir/file{n}.c" for n in range(85, 100)}
    assert "dir/file99.c" in {one.file for one in found.files}


@given(st.binary(max_size=400), st.booleans())
def test_whatever_is_in_a_log_is_no_error_and_no_more_than_it_holds(text: bytes, headed: bool) -> None:
    """Ours. A cut or garbled log costs the times, nothing else."""
    found = compile_times({"": (b"# ninja log v5\n" if headed else b"") + text}, since=0)

    assert found is None or found.edges <= text.count(b"\n") + 1


row = st.tuples(
    st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**18), st.sampled_from("abcdef"), st.just("1f")
)


@given(st.lists(row, max_size=30), st.floats(0, 1e9))
def test_sums_are_those_of_the_steps_whatever_is_logged(
    lines: list[tuple[int, int, int, str, str]], since: float
) -> None:
    """Ours. No step counts twice, none is negative, and the clock on the wall never shows more than all of them and
    the waits between."""
    found = compile_times({"": log(*((a, b, when, f"{out}.o", h) for a, b, when, out, h in lines))}, since)

    if found is not None:
        assert 0 <= found.objects <= found.edges <= 6
        assert 0 <= found.objects_s <= found.total_s + 0.001
        assert all(one.seconds >= 0 for one in found.files)


@pytest.mark.skipif(shutil.which("ninja") is None, reason="ninja is not installed")
def test_a_real_ninja_logs_what_it_ran_just_now(tmp_path: Path) -> None:
    """Ours. The time in the log is not before the moment at which the job began."""
    rules = "rule cc\n  command = sleep 0.05 && touch $out\nbuild x/a.c.o: cc\nbuild x/b.c.o: cc\n"
    (tmp_path / "build.ninja").write_text(rules)
    began = time.time()
    subprocess.run(["ninja", "-C", str(tmp_path)], check=True, capture_output=True, timeout=20)
    first = of_build(tmp_path, began)

    assert first is not None
    assert {one.file for one in first.files} == {"x/a.c", "x/b.c"}
    assert first.objects_s >= 0.1
    assert of_build(tmp_path, began + 3600) is None
