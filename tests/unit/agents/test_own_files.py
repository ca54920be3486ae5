"""What an agent's client wrote into a project for itself is taken back, what an edit did stays."""

from pathlib import Path

import pytest

from mcp_server.agents.own_files import OwnFiles

NAMES = ("client.json", ".client/lock")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project in a work tree, each with the client's settings."""
    place = tmp_path / "tree" / "project"
    place.mkdir(parents=True)
    (tmp_path / "tree" / ".git").write_text("gitdir: x\n")
    for one in (tmp_path, place.parent, place):
        (one / "client.json").write_text("{}\n")
    return place


def test_what_the_client_changed_is_put_back_up_to_the_root(folder: Path, tmp_path: Path) -> None:
    """Ours. A file that it made is gone again; above the work tree nothing is touched."""
    (folder / "client.json").chmod(0o600)
    own = OwnFiles(folder, NAMES)
    for one in (tmp_path, folder.parent, folder):
        (one / "client.json").write_text('{"$schema": "x"}\n')
    (folder / ".client").mkdir()
    (folder / ".client/lock").write_text("1")

    assert own.put_back() == (
        "client.json, .client/lock, ../client.json: put back, as the agent's client changed it and no allowed edit did"
    )
    assert (folder / "client.json").read_text() == (folder.parent / "client.json").read_text() == "{}\n"
    assert (folder / "client.json").stat().st_mode & 0o777 == 0o600
    assert not (folder / ".client/lock").exists()
    assert "$schema" in (tmp_path / "client.json").read_text()
    assert own.put_back() is None


def test_what_an_allowed_edit_named_stays(folder: Path) -> None:
    """Ours. Whichever way it named it."""
    (folder / "main").mkdir()
    own = OwnFiles(folder, NAMES)
    own.edited(["main/../client.json", "main/main.c", "/etc/passwd"])
    (folder / "client.json").write_text("mended\n")

    assert own.put_back() is None
    assert (folder / "client.json").read_text() == "mended\n"


def test_links_are_never_written_through(folder: Path, tmp_path: Path) -> None:
    """Ours. Neither one that was there nor one that came."""
    (target := tmp_path / "target").write_text("before\n")
    (folder / ".client").symlink_to(tmp_path)
    (tmp_path / "lock").write_text("before\n")
    own = OwnFiles(folder, NAMES)
    (tmp_path / "lock").write_text("after\n")
    (folder / "client.json").unlink()
    (folder / "client.json").symlink_to(target)

    assert own.put_back() is None
    assert (target.read_text(), (tmp_path / "lock").read_text()) == ("before\n", "after\n")
