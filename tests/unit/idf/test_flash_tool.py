"""Which esptool is run, and what its job looks at before."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from mcp_server.errors import EnvironmentMissing
from mcp_server.idf.flash import Image
from mcp_server.idf.flash_log import FlashLog, cause_of
from mcp_server.idf.flash_tool import CHANGED, HERE, checked, esptool_version, find_esptool
from mcp_server.idf.installation import Installation


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


@pytest.mark.parametrize("changed", [False, True])
def test_the_job_looks_at_the_hashes_once_more_when_its_turn_has_come(tmp_path: Path, changed: bool) -> None:
    """Issue. It may have waited for the port for long: the files may be other ones by then."""
    (tmp_path / "a b.bin").write_bytes(b"1234")
    wanted = checked([Image("a b.bin", 0, 4, hashlib.sha256(b"1234").hexdigest())])
    if changed:
        (tmp_path / "a b.bin").write_bytes(b"1235")
    argv = ["sh", "-c", HERE, "sh", wanted, "echo", "flashing", "it"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=5, check=False)
    assert (done.returncode, done.stdout) == ((CHANGED, "") if changed else (0, "flashing it\n"))
    log = FlashLog([Image("a b.bin", 0, 4)])
    log.feed(done.stderr.encode())
    if changed:
        assert cause_of(log, "/dev/ttyUSB0").sentence.endswith("changed after the flash was asked for: build again")
