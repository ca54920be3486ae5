"""Variables that may be secret: in the environment, or in a file."""

from pathlib import Path

import pytest

from mcp_server.config import load_config
from mcp_server.errors import ConfigError


def test_a_secret_variable_may_be_in_a_file(tmp_path: Path) -> None:
    """Ours. As systemd's credentials and a container's secrets are."""
    (tmp_path / "url").write_text("postgresql+psycopg://u:p@h/n\n")
    (tmp_path / "empty").write_text("\n")
    given = {"BUILD_ORCHESTRATOR_HOME": str(tmp_path)}
    name = "BUILD_ORCHESTRATOR_DATABASE_URL"

    assert load_config({**given, f"{name}_FILE": f"{tmp_path}/url"}).database_url == "postgresql+psycopg://u:p@h/n"
    for more, said in (
        ({f"{name}_FILE": f"{tmp_path}/none"}, "none, which cannot be read: No such file"),
        ({f"{name}_FILE": f"{tmp_path}/empty"}, "should hold one value"),
        ({f"{name}_FILE": f"{tmp_path}/url", name: "sqlite:///x"}, "are both set: keep one"),
    ):
        with pytest.raises(ConfigError, match=said):
            load_config({**given, **more})
