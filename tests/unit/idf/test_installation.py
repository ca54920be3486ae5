"""What the files of an installation tell."""

import os
from pathlib import Path

import pytest

from mcp_server.errors import BadInput
from mcp_server.idf.installation import Installation, checked_target, read_text, read_version, version_numbers
from tests.unit.idf.made_up import make_idf


def test_survives_being_stored_with_a_build(installation: Installation) -> None:
    """Ours. A build carries the identity as JSON, to another process."""
    assert Installation.model_validate_json(installation.model_dump_json()) == installation


def test_version_comes_from_version_cmake(tmp_path: Path) -> None:
    """ESP-IDF's own file, so that git need not run."""
    assert read_version(make_idf(tmp_path / "idf", version="5.1.2")) == "5.1.2"


@pytest.mark.parametrize(("text", "version"), [("v5.1.2\n", "5.1.2"), ("v6.1-dev-12-gabc", "6.1"), ("main", None)])
def test_version_txt_stands_in(tmp_path: Path, text: str, version: str | None) -> None:
    """Espressif's release archives carry it."""
    (tmp_path / "version.txt").write_text(text)
    assert read_version(tmp_path) == version


def test_ten_is_newer_than_nine() -> None:
    """Ours. As text it would be older."""
    assert version_numbers("5.10") > version_numbers("v5.9.3")


def test_targets_are_read_without_running_the_installation(installation: Installation, tmp_path: Path) -> None:
    """Ours. Code in constants.py must not run here."""
    constants = installation.path / "tools" / "idf_py_actions" / "constants.py"
    constants.write_text(constants.read_text() + f"open({str(tmp_path / 'ran')!r}, 'w')\n")

    assert installation.targets() == ("esp32", "esp32c3", "esp32s3", "linux", "esp32h4")
    assert installation.preview_targets() == ("linux", "esp32h4")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("text", ["SUPPORTED_TARGETS = [", "SUPPORTED_TARGETS = make()", "\0", ""])
def test_unreadable_targets_are_none(installation: Installation, text: str) -> None:
    """Ours. A newer ESP-IDF may write the file in another way."""
    (installation.path / "tools" / "idf_py_actions" / "constants.py").write_text(text)
    assert installation.targets() == ()
    assert checked_target(installation, "esp32c9") == "esp32c9"


@pytest.mark.parametrize("given", ["esp32c3", "ESP32-C3", " esp32_c3 ", "Esp32c3"])
def test_target_is_spelt_as_by_esp_idf(installation: Installation, given: str) -> None:
    """idf.py ignores dashes and case."""
    assert checked_target(installation, given) == "esp32c3"


def test_unknown_target_is_refused_with_those_there_are(installation: Installation) -> None:
    """Ours: one sentence that names the argument and what it may be."""
    with pytest.raises(BadInput) as refused:
        checked_target(installation, "esp33")
    assert str(refused.value) == (
        "target: 'esp33' is unknown to ESP-IDF 6.0.2; it may be esp32, esp32c3, esp32s3, linux (preview), "
        "esp32h4 (preview)"
    )


def test_target_is_never_an_option(installation: Installation) -> None:
    """Ours. It ends up on a command line."""
    (installation.path / "tools" / "idf_py_actions" / "constants.py").unlink()
    with pytest.raises(BadInput, match="letters and digits"):
        checked_target(installation, "-Dx=$(reboot)")


def test_reading_never_waits_for_a_fifo(tmp_path: Path) -> None:
    """Ours. A project's file may be anything."""
    os.mkfifo(tmp_path / "fifo")
    assert read_text(tmp_path / "fifo") is None
    assert read_text(tmp_path) is None
    assert read_text(tmp_path / "absent\0") is None


def test_reading_stops_at_the_limit(tmp_path: Path) -> None:
    """Ours. A sparse file of 1 GB costs nothing to make."""
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 30)
    (tmp_path / "latin").write_bytes(b"caf\xe9")

    assert read_text(tmp_path / "huge") is None
    assert read_text(tmp_path / "latin") == "caf\udce9"
