"""The worker's look at its own program."""

from pathlib import Path

from mcp_server.engine.installed import SETTLE_S, Installed


def test_a_program_that_stays_as_it_is_is_not_replaced(tmp_path: Path) -> None:
    """Ours."""
    file = tmp_path / "__init__.py"
    file.write_text("1")
    installed = Installed(file)

    assert not installed.replaced(0)
    assert not installed.replaced(10 * SETTLE_S)


def test_a_program_that_is_gone_or_another_is_replaced_once_that_has_settled(tmp_path: Path) -> None:
    """Ours. The demo's worker, of an installation that was removed, built with files that were not there any more."""
    file = tmp_path / "__init__.py"
    file.write_text("1")
    installed = Installed(file)

    file.unlink()
    assert not installed.replaced(100)  # pip is at work
    (tmp_path / "new").write_text("1")
    (tmp_path / "new").rename(file)
    assert not installed.replaced(100 + SETTLE_S - 1)
    assert installed.replaced(100 + SETTLE_S)


def test_a_program_that_is_back_is_not_replaced(tmp_path: Path) -> None:
    """Ours. A disk that did not answer for a moment ends no worker."""
    file = tmp_path / "__init__.py"
    file.write_text("1")
    installed = Installed(file)

    file.rename(tmp_path / "away")
    assert not installed.replaced(0)
    (tmp_path / "away").rename(file)
    assert not installed.replaced(SETTLE_S)
    file.unlink()
    assert not installed.replaced(SETTLE_S + 1)
