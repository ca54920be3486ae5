"""Secrets: references, files closed to others, and sentences that say what sets a missing one."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import SecretStr

from mcp_server.config import load_config
from mcp_server.errors import BadInput, EnvironmentMissing, NotFound
from mcp_server.secret_store import Secrets, delete_secret, list_secrets, set_secret


@pytest.fixture
def folder(home: Path) -> Path:
    return home / "secrets"


@pytest.fixture
def secrets(home: Path) -> Secrets:
    return Secrets(load_config(), {"NPM": "from-environment", "EMPTY": ""})


def test_references_inside_a_text_are_replaced(secrets: Secrets, folder: Path) -> None:
    """Interfaces. The whole text, any number of references."""
    set_secret(folder, "BOT", "12:ab")

    assert secrets.resolve("tgram://${secret:BOT}/${env:NPM}/") == "tgram://12:ab/from-environment/"
    assert secrets.resolve(SecretStr("${secret:BOT}")) == "12:ab"
    assert secrets.resolve("plain $HOME {x}") == "plain $HOME {x}"


def test_a_value_that_looks_like_a_reference_is_not_resolved_again(secrets: Secrets, folder: Path) -> None:
    """Ours. A secret is data."""
    set_secret(folder, "BOT", "${env:NPM}")

    assert secrets.resolve("${secret:BOT}") == "${env:NPM}"


def test_the_file_comes_before_the_environment(secrets: Secrets, folder: Path) -> None:
    """Interfaces. A stage's `secrets: [NPM]`."""
    assert secrets.get("NPM") == "from-environment"
    set_secret(folder, "NPM", "from-file")
    assert secrets.get("NPM") == "from-file"


@pytest.mark.parametrize("text", ["${secret:GONE}", "${env:GONE}", "${env:EMPTY}"])
def test_a_missing_one_says_which_command_sets_it(secrets: Secrets, text: str) -> None:
    """Interfaces."""
    with pytest.raises(EnvironmentMissing, match=r"build-orchestrator secrets set (GONE|EMPTY)"):
        secrets.resolve(text)


def test_a_missing_name_says_which_command_sets_it(secrets: Secrets) -> None:
    """Interfaces."""
    with pytest.raises(EnvironmentMissing, match="GONE is not set: build-orchestrator secrets set GONE"):
        secrets.get("GONE")


def test_set_makes_a_closed_file_in_a_closed_folder(folder: Path) -> None:
    """Interfaces: 0600 in 0700; nothing half-written is left."""
    set_secret(folder, "BOT", "first")
    set_secret(folder, "BOT", "line one\nline two\n")

    assert (folder / "BOT").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in folder.iterdir()] == ["BOT"]


@pytest.mark.parametrize(("written", "read"), [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a ")])
def test_one_line_end_is_left_out_and_nothing_else(secrets: Secrets, folder: Path, written: str, read: str) -> None:
    """Ours. `echo token > file` is how people write it."""
    folder.mkdir(parents=True)
    (folder / "BOT").write_bytes(written.encode())
    (folder / "BOT").chmod(0o600)

    assert secrets.get("BOT") == read


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_may_read_is_refused(secrets: Secrets, folder: Path, mode: int) -> None:
    """Ours. The sentence says the chmod."""
    set_secret(folder, "BOT", "x" * 8)
    (folder / "BOT").chmod(mode)

    with pytest.raises(EnvironmentMissing, match=f"chmod 600 {folder}/BOT") as caught:
        secrets.get("BOT")
    assert "x" * 8 not in str(caught.value)


@pytest.mark.parametrize("content", [b"a\0b", b"\xff\xfe", b"x" * 70_000])
def test_what_is_no_text_is_refused(secrets: Secrets, folder: Path, content: bytes) -> None:
    """Ours."""
    set_secret(folder, "BOT", "x")
    (folder / "BOT").write_bytes(content)

    with pytest.raises(EnvironmentMissing, match="should be text"):
        secrets.get("BOT")


def _link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, _link])
def test_what_is_no_file_is_refused_at_once(secrets: Secrets, folder: Path, make: Callable[[Path], None]) -> None:
    """Ours. A pipe nobody writes must not hang, a link must not lead out of the folder."""
    folder.mkdir(parents=True)
    make(folder / "BOT")

    with pytest.raises(EnvironmentMissing, match="BOT"):
        secrets.get("BOT")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "-x", "a b", "x" * 200, "é"])
def test_a_name_cannot_lead_out_of_the_folder(folder: Path, name: str) -> None:
    """Ours."""
    with pytest.raises(BadInput, match="name"):
        set_secret(folder, name, "value")
    assert not folder.exists() or not list(folder.iterdir())


@pytest.mark.parametrize("value", ["", "\n", "a\0b", "x" * 70_000])
def test_a_value_that_cannot_be_one_is_refused(folder: Path, value: str) -> None:
    """Ours."""
    with pytest.raises(BadInput, match="value"):
        set_secret(folder, "BOT", value)


def test_list_and_delete_show_names_only(folder: Path) -> None:
    """Ours."""
    assert list_secrets(folder) == []
    set_secret(folder, "B", "hidden-value")
    set_secret(folder, "A", "hidden-value")
    assert list_secrets(folder) == ["A", "B"]
    delete_secret(folder, "A")
    with pytest.raises(NotFound, match="no secret A; set are: B"):
        delete_secret(folder, "A")


def test_without_keyring_the_sentence_says_what_to_do(secrets: Secrets, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours. None in sys.modules is an import that fails."""
    monkeypatch.setitem(sys.modules, "keyring", None)

    with pytest.raises(EnvironmentMissing, match="pip install keyring"):
        secrets.resolve("${keyring:slack/bot}")


def test_keyring_is_asked_for_service_and_name(secrets: Secrets, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interfaces. `${keyring:service/name}`."""
    stand_in = ModuleType("keyring")
    values = {("slack", "bot"): "xoxb"}

    def get_password(service: str, name: str) -> str | None:
        return values.get((service, name))

    vars(stand_in)["get_password"] = get_password
    monkeypatch.setitem(sys.modules, "keyring", stand_in)

    assert secrets.resolve("${keyring:slack/bot}") == "xoxb"
    with pytest.raises(EnvironmentMissing, match="keyring set slack other"):
        secrets.resolve("${keyring:slack/other}")


def test_a_file_that_a_container_was_given_is_read_whoever_else_may(secrets: Secrets, tmp_path: Path) -> None:
    """Ours. Its mode is the container's to say; what is no text, or nothing, is no secret."""
    path = tmp_path / "given"
    path.write_text("s3cret\n")
    path.chmod(0o444)
    assert secrets.resolve("a-${file:" + str(path) + "}") == "a-s3cret"
    (tmp_path / "empty").write_bytes(b"")
    for name, said in (("none", "is not there"), ("empty", "should be text"), ("", "is not there")):
        with pytest.raises(EnvironmentMissing, match=said):
            secrets.resolve("${file:" + f"{tmp_path}/{name}" + "}")
