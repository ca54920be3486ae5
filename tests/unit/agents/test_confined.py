"""Files of one folder: what leads out of it, what is no file, and how one is replaced."""

import os
import stat
import time
from pathlib import Path

import pytest

from mcp_server.agents import confined
from mcp_server.agents.confined import MAX_FILE_BYTES, ConfinedFiles, Refused
from mcp_server.agents.permission import Policy


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "task"
    (made / "main").mkdir(parents=True)
    (made / "main" / "main.c").write_text("int x;\n")
    (tmp_path / "secret").write_text("secret")
    return made


@pytest.fixture
def files(folder: Path) -> ConfinedFiles:
    return ConfinedFiles(Policy(folder))


@pytest.mark.parametrize("path", ["../secret", "main/../../secret", "/etc/passwd", "out", "away/secret", ".git/config"])
def test_nothing_outside_is_read_or_written(files: ConfinedFiles, folder: Path, path: str) -> None:
    """Issue. By name, by a link to a file, by a link to a folder; nor Git's own."""
    (folder / "out").symlink_to(folder.parent / "secret")
    (folder / "away").symlink_to(folder.parent)

    for use in (lambda: files.read(path), lambda: files.write(path, "x"), lambda: files.write(path, "x", new=True)):
        with pytest.raises(Refused) as refused:
            use()
        assert refused.value.denied
    assert (folder.parent / "secret").read_text() == "secret"


def test_link_inside_the_folder_is_followed(files: ConfinedFiles, folder: Path) -> None:
    """Ours. Components are often linked; the file behind is replaced, not the link."""
    (folder / "link.c").symlink_to("main/main.c")
    files.write("link.c", "int y;\n")

    assert (folder / "link.c").is_symlink()
    assert (folder / "main" / "main.c").read_text() == "int y;\n"


def test_folder_that_becomes_a_link_after_the_look_is_not_followed(
    files: ConfinedFiles, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. A command may swap it between the policy's answer and the opening."""
    real = ConfinedFiles._real

    def swapped(self: ConfinedFiles, path: str, *, change: bool = False) -> Path:
        found = real(self, path, change=change)
        (folder / "main").rename(folder / "moved")
        (folder / "main").symlink_to(folder.parent)
        return found

    (folder.parent / "main.c").write_text("outside")
    monkeypatch.setattr(ConfinedFiles, "_real", swapped)
    with pytest.raises(Refused, match="cannot be reached"):
        files.write("main/main.c", "x")

    assert (folder.parent / "main.c").read_text() == "outside"


def test_what_is_no_file_is_not_opened(files: ConfinedFiles, folder: Path) -> None:
    """Ours. A FIFO without a writer would never answer."""
    os.mkfifo(folder / "pipe")
    for path, why in (("pipe", "no regular file"), ("main", "a folder"), (".", "a folder"), ("none.c", "is not there")):
        with pytest.raises(Refused, match=why) as refused:
            files.read(path)
        assert not refused.value.denied


def test_large_and_binary_files_are_refused(files: ConfinedFiles, folder: Path) -> None:
    """Ours."""
    (folder / "large").write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    (folder / "binary").write_bytes(b"\x7fELF\0")

    with pytest.raises(Refused, match=r"has 1,000,001 bytes: at most 1,000,000 are read"):
        files.text("large")
    with pytest.raises(Refused, match="is a binary file"):
        files.text("binary")
    with pytest.raises(Refused, match="at most"):
        files.write("main/main.c", "x" * (MAX_FILE_BYTES + 1))


def test_mode_and_bytes_are_kept(files: ConfinedFiles, folder: Path) -> None:
    """Ours. A script stays one; bytes that are no UTF-8 stay what they are."""
    script = folder / "run.sh"
    script.write_bytes(b"# caf\xe9\r\n")
    script.chmod(0o750)
    files.write("run.sh", files.text("run.sh") + "x")

    assert script.read_bytes() == b"# caf\xe9\r\nx"
    assert stat.S_IMODE(script.stat().st_mode) == 0o750
    assert sorted(path.name for path in folder.iterdir()) == ["main", "run.sh"]


def test_other_name_of_a_file_keeps_its_content(files: ConfinedFiles, folder: Path) -> None:
    """Ours. A hard link leads out of the folder too: replacing leaves what it shares alone."""
    outside = folder.parent / "secret"
    (folder / "hard").hardlink_to(outside)
    files.write("hard", "changed")

    assert outside.read_text() == "secret"


def test_failed_write_leaves_the_file_and_no_rest(
    files: ConfinedFiles, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(confined.os, "replace", full)
    with pytest.raises(Refused, match="cannot be written: No space left on device"):
        files.write("main/main.c", "x")

    assert [path.name for path in (folder / "main").iterdir()] == ["main.c"]
    assert (folder / "main" / "main.c").read_text() == "int x;\n"


def test_new_file_gets_its_folders_and_replaces_none(files: ConfinedFiles, folder: Path) -> None:
    """Ours."""
    files.write("components/led/led.c", "x", new=True)
    with pytest.raises(Refused, match="is there already"):
        files.write("main/main.c", "x", new=True)

    assert (folder / "components" / "led" / "led.c").read_text() == "x"
    assert (folder / "main" / "main.c").read_text() == "int x;\n"


def test_names_come_near_ones_first_without_what_was_built(files: ConfinedFiles, folder: Path) -> None:
    """Ours. Links are not followed: one to the folder above would never end."""
    for name in ("build/a.o", "managed_components/x/y.c", ".git/HEAD", "CMakeLists.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    (folder / "main" / "up").symlink_to("..")
    until = time.monotonic() + 10

    assert list(files.files(".", until)) == ["CMakeLists.txt", "main/main.c"]
    assert list(files.files("managed_components", until)) == ["managed_components/x/y.c"]
    assert list(files.files("main/main.c", until)) == ["main/main.c"]
