"""Which installations are found, and which of them a build uses."""

import json
from pathlib import Path

import pytest

from mcp_server.errors import BadInput, EnvironmentMissing
from mcp_server.idf import environment as module
from mcp_server.idf.environment import Found, choose_installation, find_installations
from tests.unit.idf.made_up import make_idf, make_python


@pytest.fixture(autouse=True)
def no_system_wide_installations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SYSTEM", ())


@pytest.fixture
def user(tmp_path: Path) -> Path:
    """The user's home, with the Python environments of 5.1 and 6.0 where install.sh puts them."""
    user = tmp_path / "user"
    for release in ("5.1", "6.0"):
        make_python(user / ".espressif" / "python_env" / f"idf{release}_py3.11_env", release)
    return user


def found_with(user: Path, extra: tuple[Path, ...] = (), **environment: str) -> Found:
    return find_installations({"HOME": str(user), "PATH": "/usr/bin:/bin", **environment}, extra)


def write_eim(file: Path, *entries: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"gitPath": "/usr/bin/git", "idfInstalled": entries, "version": "2.0"}))


def test_idf_path_is_found_and_wins_over_a_newer_one(user: Path) -> None:
    """The user's own word."""
    old = make_idf(user / "old", version="5.1.2")
    make_idf(user / "esp" / "esp-idf", version="6.0.2")

    chosen = choose_installation(found_with(user, IDF_PATH=str(old)))

    assert (chosen.path, chosen.version, chosen.source) == (old, "5.1.2", "IDF_PATH")
    assert chosen.python == user / ".espressif/python_env/idf5.1_py3.11_env/bin/python"


@pytest.mark.parametrize("place", ["esp/esp-idf", "esp/v6.0/esp-idf", "esp/v6.0", "esp/esp-idf-v6.0", "esp-idf"])
def test_customary_folders_are_found(user: Path, place: str) -> None:
    """Espressif's guides and editor plugins clone to these."""
    path = make_idf(user / place)
    assert [one.path for one in found_with(user).installations] == [path]


def test_newest_is_chosen_where_nothing_is_asked(user: Path) -> None:
    """docs: ESP_IDF_VERSION unset."""
    make_idf(user / "esp" / "v5.1" / "esp-idf", version="5.1.4")
    make_idf(user / "esp" / "v6.0" / "esp-idf", version="6.0.0")
    assert choose_installation(found_with(user)).version == "6.0.0"


@pytest.mark.parametrize("wanted", ["v5.1", "5.1", "5.1.4", "v5.1.4", "5", " 5.1 "])
def test_version_asked_for_is_chosen(user: Path, wanted: str) -> None:
    """docs: `v5.1`, `5.1`, `5.1.2`."""
    make_idf(user / "esp" / "v5.1" / "esp-idf", version="5.1.4")
    make_idf(user / "esp" / "v6.0" / "esp-idf", version="6.0.0")
    assert choose_installation(found_with(user), wanted).version == "5.1.4"


def test_absent_version_says_which_there_are(user: Path) -> None:
    """Ours. 5.1 is not 5.10 either."""
    path = make_idf(user / "esp" / "esp-idf", version="6.0.2")
    with pytest.raises(EnvironmentMissing) as absent:
        choose_installation(found_with(user), "v5.1")
    assert str(absent.value) == (
        f"ESP-IDF 5.1 is not here; there is 6.0.2 in {path}: set ESP_IDF_VERSION to one of these"
    )


@pytest.mark.parametrize("wanted", ["latest", "5.x", "5.1; rm -rf /", "-5"])
def test_what_is_no_version_is_refused(user: Path, wanted: str) -> None:
    """Ours: names the argument and what it may be."""
    with pytest.raises(BadInput, match=r"ESP_IDF_VERSION: .* is no version: it is written 5\.1"):
        choose_installation(Found(), wanted)


def test_nothing_found_says_what_to_do(user: Path) -> None:
    """Ours: one sentence with the next step."""
    with pytest.raises(EnvironmentMissing, match=r"^no ESP-IDF was found: install it \(https://docs.*or set IDF_PATH"):
        choose_installation(found_with(user))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        ("folder", "there is no such folder"),
        ("tools/idf.py", "it has no tools/idf.py"),
        ("tools/idf_tools.py", "it has no tools/idf_tools.py"),
        ("tools/cmake/version.cmake", "tools/cmake/version.cmake tells no version"),
        ("python", "its Python environment is missing: run .*/install.sh"),
    ],
)
def test_broken_idf_path_is_an_error_and_no_other_is_taken(user: Path, spoil: str, why: str) -> None:
    """Ours: never guess. Another one is there and is not used."""
    make_idf(user / "esp" / "esp-idf")
    named = user / "named"
    if spoil != "folder":
        make_idf(named, version="4.4.1" if spoil == "python" else "5.1.2")
    if spoil.startswith("tools"):
        (named / spoil).unlink()

    found = found_with(user, IDF_PATH=str(named))

    assert [bad.path for bad in found.broken] == [named]
    with pytest.raises(EnvironmentMissing, match=f"^IDF_PATH names {named}, but {why}"):
        choose_installation(found)
    assert choose_installation(found, "6.0").version == "6.0.2"  # asked for by version it is the only one


def test_folder_of_config_comes_before_found_ones(user: Path, tmp_path: Path) -> None:
    """config.yaml names it; the newest found does not matter then."""
    named = make_idf(tmp_path / "named", version="5.1.2")
    make_idf(user / "esp" / "esp-idf")
    assert choose_installation(found_with(user, (named,))).source == "config.yaml"


def test_eim_list_is_read(user: Path, tmp_path: Path) -> None:
    """EIM's format 2.0: path, python, idfToolsPath."""
    path = make_idf(tmp_path / "eim" / "esp-idf", version="5.4.1")
    python = make_python(tmp_path / "eim" / "python" / "venv", "5.4")
    entry = {"id": "x", "name": "v5.4.1", "path": str(path), "python": str(python), "idfToolsPath": str(tmp_path)}
    write_eim(user / ".espressif" / "tools" / "eim_idf.json", entry)

    (one,) = found_with(user).installations

    assert (one.source, one.python, one.tools_path, one.version) == ("eim", python, tmp_path, "5.4.1")


def test_eim_python3_is_called_by_the_name_idf_py_uses(user: Path, tmp_path: Path) -> None:
    """A build directory configured with bin/python refuses bin/python3, though both are one file."""
    path = make_idf(tmp_path / "eim" / "esp-idf", version="5.4.1")
    python = make_python(tmp_path / "venv", "5.4")
    python.with_name("python3").symlink_to("python")
    write_eim(user / ".espressif/tools/eim_idf.json", {"path": str(path), "python": str(python.with_name("python3"))})
    assert found_with(user).installations[0].python == python


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"idfInstalled": 7}', '{"idfInstalled": [1, {}, {"path": 3}, {"path": ""}]}']
)
def test_garbled_eim_list_is_as_good_as_none(user: Path, text: str) -> None:
    """Ours. Another program writes it."""
    file = user / ".espressif" / "tools" / "eim_idf.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    assert found_with(user) == Found()


def test_eim_entry_whose_folder_is_gone_is_reported_not_fatal(user: Path) -> None:
    """EIM keeps the entry of a folder that was deleted by hand."""
    write_eim(user / ".espressif/tools/eim_idf.json", {"path": str(user / "gone")})
    make_idf(user / "esp" / "esp-idf")
    found = found_with(user)
    assert [bad.path for bad in found.broken] == [user / "gone"]
    assert choose_installation(found).version == "6.0.2"


def test_one_installation_by_two_ways_is_one(user: Path) -> None:
    """Its spelling stays as it was written: CMake's cache holds that."""
    make_idf(user / "esp" / "esp-idf")
    link = user / "current"
    link.symlink_to(user / "esp" / "esp-idf")
    assert [one.path for one in found_with(user, IDF_PATH=str(link)).installations] == [link]


def test_activated_shell_brings_its_python(user: Path, tmp_path: Path) -> None:
    """IDF_PYTHON_ENV_PATH, where it is of the same release."""
    path = make_idf(tmp_path / "idf", version="5.1.2")
    fitting, other = tmp_path / "fitting", tmp_path / "other"
    make_python(fitting, "5.1")
    make_python(other, "6.0")
    active = found_with(user, IDF_PATH=str(path), IDF_PYTHON_ENV_PATH=str(fitting))
    stale = found_with(user, IDF_PATH=str(path), IDF_PYTHON_ENV_PATH=str(other))
    assert active.installations[0].python == fitting / "bin" / "python"
    assert stale.installations[0].python == user / ".espressif/python_env/idf5.1_py3.11_env/bin/python"


def test_idf_py_on_path_leads_to_its_installation(user: Path, tmp_path: Path) -> None:
    """A shell where only PATH was set."""
    path = make_idf(tmp_path / "idf")
    assert found_with(user, PATH=f"{path}/tools:/usr/bin").installations[0].source == "PATH"


def test_newest_python_environment_is_taken(user: Path) -> None:
    """3.12 is newer than 3.9, though not as text."""
    make_idf(user / "esp" / "esp-idf")
    for minor in ("9", "12"):
        make_python(user / ".espressif" / "python_env" / f"idf6.0_py3.{minor}_env", "6.0")
    assert "py3.12" in str(found_with(user).installations[0].python)


@pytest.mark.parametrize("path", ["~nobody-here/idf", "a\0b", "loop", "x" * 5000])
def test_impossible_path_is_reported(user: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Ours: one sentence, whatever was written."""
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EnvironmentMissing, match=r"^config\.yaml names .*, but there is no such folder"):
        choose_installation(found_with(user, (Path(path),)))
