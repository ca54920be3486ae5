"""Which esptool is run, and what its job looks at before."""

import hashlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from mcp_server.errors import EnvironmentMissing
from mcp_server.idf.flash import Image
from mcp_server.idf.flash_log import FlashLog, cause_of
from mcp_server.idf.flash_tool import CHANGED, HERE, checked, copies, esptool_version, find_esptool
from mcp_server.idf.installation import Installation

ODD = ("a b.bin", "sub/deeper/a.bin", "-x.bin", "@a", "-", " lead ", "*.bin", "q'$(touch x).bin", "ü.bin")


def python_with(folder: Path, version: str | None) -> Path:
    """An environment of Python as pip leaves it."""
    packages = folder / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    (folder / "bin").mkdir()
    if version:
        (packages / f"esptool-{version}.dist-info").mkdir()
    (folder / "bin" / "python").touch()
    return folder / "bin" / "python"


def installation(python: Path) -> Installation:
    return Installation(path=python.parent, version="5.4", python=python, tools_path=python.parent, source="found")


def test_the_installations_esptool_is_run_where_it_is_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue. ESP-IDF 5 brings esptool 4, whose commands have other names."""
    new, old = python_with(tmp_path / "new", "5.1.0"), python_with(tmp_path / "old", "4.8.1")
    own = python_with(tmp_path / "own", "5.6.0")
    monkeypatch.setattr("sys.executable", str(own))
    monkeypatch.setattr("mcp_server.idf.flash_tool._own_version", lambda: "5.6.0")
    assert find_esptool(installation(new), {}) == [str(new), "-m", "esptool"]
    assert find_esptool(installation(old), {}) == [str(own), "-m", "esptool"]
    assert find_esptool(None, {}) == [str(own), "-m", "esptool"]
    assert esptool_version(old) == "4.8.1"


def test_without_a_new_enough_esptool_the_versions_and_the_command_that_installs_one_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue."""
    old, none = python_with(tmp_path / "old", "4.8.1"), python_with(tmp_path / "none", None)
    monkeypatch.setattr("sys.executable", str(none))
    monkeypatch.setattr("mcp_server.idf.flash_tool._own_version", lambda: None)
    with pytest.raises(EnvironmentMissing, match=r"4\.8\.1 of .* is too old, 5 or newer is needed: pipx install"):
        find_esptool(installation(old), {"PATH": str(tmp_path)})
    with pytest.raises(EnvironmentMissing, match="there is no esptool on this machine: pipx install 'esptool>=5'"):
        find_esptool(None, {"PATH": str(tmp_path)})
    script = tmp_path / "esptool"
    script.write_text(f"#!{python_with(tmp_path / 'pipx', '5.2')}\n")
    script.chmod(0o755)
    assert find_esptool(installation(old), {"PATH": str(tmp_path)}) == [str(script)]


def test_the_hashes_are_written_as_sha256sum_reads_them() -> None:
    """Spec. Two spaces between hash and name."""
    assert checked([Image("a b.bin", 0, 1, "f" * 64)]) == f"{'f' * 64}  a b.bin\n"


def run_here(build_dir: Path, paths: Sequence[str], *command: str) -> subprocess.CompletedProcess[str]:
    """The job of a flash in `build_dir`, of 4 bytes `1234` as each image, with `command` instead of esptool."""
    wanted = checked([Image(path, at, 4, hashlib.sha256(b"1234").hexdigest()) for at, path in enumerate(paths)])
    argv = ["sh", "-c", HERE, "sh", wanted, copies(str(build_dir.parent / "lock")), *command]
    return subprocess.run(argv, cwd=build_dir, capture_output=True, text=True, timeout=5, check=False)


@pytest.fixture
def build_dir(tmp_path: Path) -> Path:
    """With images of 4 bytes."""
    folder = tmp_path / "build"
    for path in ODD:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"1234")
    return folder


@pytest.mark.parametrize("changed", [False, True])
def test_the_job_looks_at_the_hashes_once_more_when_its_turn_has_come(build_dir: Path, changed: bool) -> None:
    """Issue. It may have waited for the port for long: the files may be other ones by then."""
    if changed:
        (build_dir / "a b.bin").write_bytes(b"1235")
    done = run_here(build_dir, ["a b.bin"], "echo", "flashing", "it")
    assert (done.returncode, done.stdout) == ((CHANGED, "") if changed else (0, "flashing it\n"))
    log = FlashLog([Image("a b.bin", 0, 4)])
    log.feed(done.stderr.encode())
    if changed:
        assert cause_of(log, "/dev/ttyUSB0").sentence.endswith("changed after the flash was asked for: build again")


def test_what_is_written_are_the_bytes_that_were_checked_whatever_becomes_of_the_images(build_dir: Path) -> None:
    """Issue. esptool reads them seconds after the check, once the chip is there."""
    words = [Image(path, 0, 4).word for path in ODD]
    program = f'for each in "$@"; do printf evil >"{build_dir}/$each"; cat <"$each"; done; stat -c %a .'
    done = run_here(build_dir, ODD, "sh", "-c", program, "sh", *words)
    assert done.stdout == "1234" * len(ODD) + "700\n", done.stderr
    assert (build_dir / ODD[0]).read_bytes() == b"evil"


@pytest.mark.parametrize("end", ["exit 0", "exit 2", "kill -s TERM $$"])
def test_no_copy_is_left_behind_and_the_exit_code_is_esptools(build_dir: Path, end: str) -> None:
    """Ours."""
    done = run_here(build_dir, ODD, "sh", "-c", end)
    assert done.returncode == {"exit 0": 0, "exit 2": 2}.get(end, 143)
    assert list((build_dir.parent / "lock").iterdir()) == []


def test_what_a_killed_flash_left_is_cleaned_up_by_the_next_one_and_never_written(build_dir: Path) -> None:
    """Ours."""
    left = Path(copies(str(build_dir.parent / "lock")))
    (left / "sub").mkdir(parents=True)
    (left / "sub" / "old.bin").write_bytes(b"old")
    (left / "a b.bin").write_bytes(b"old")
    done = run_here(build_dir, ["a b.bin"], "sh", "-c", "ls -A; cat 'a b.bin'")
    assert done.stdout == "a b.bin\n1234", done.stderr
    assert not left.exists()


def test_no_room_for_the_copies_is_said_and_nothing_is_run(build_dir: Path) -> None:
    """Ours."""
    (build_dir.parent / "lock").write_bytes(b"")
    done = run_here(build_dir, ["a b.bin"], "echo", "flashing")
    assert (done.returncode, done.stdout) == (65, "")
    assert "build-orchestrator: no folder can be made at" in done.stderr
