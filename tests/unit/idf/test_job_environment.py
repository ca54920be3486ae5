"""What a job may see of the client's environment."""

import socket
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mcp_server.idf.environment import DEFAULT_PATH, job_environment, joined_path

CLIENT = {
    "HOME": "/home/dev",
    "PATH": "/usr/bin:/bin",
    "LANG": "de_DE.UTF-8",
    "LC_ALL": "C",
    "TZ": "UTC",
    "https_proxy": "http://proxy",
    "NO_PROXY": "localhost",
    "CCACHE_DIR": "/ccache",
    "IDF_CCACHE_ENABLE": "1",
    "IDF_PATH": "/other/idf",
    "IDF_PYTHON_ENV_PATH": "/other/env",
    "IDF_DEACTIVATE_FILE_PATH": "/tmp/x",
    "ANTHROPIC_API_KEY": "secret",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "CFLAGS": "-O3",
    "LD_PRELOAD": "x.so",
    "VIRTUAL_ENV": "/venv",
    "PYTHONPATH": "/x",
    "MY_LICENCE": "1",
}


def test_little_of_the_client_passes() -> None:
    """design: HOME USER PATH SHELL LANG LC_* TZ TMPDIR, proxies, CCACHE_*, IDF_*, env_pass; nothing else."""
    names = set(job_environment({}, CLIENT, ["MY_LICENCE"]))
    kept = {"HOME", "PATH", "LANG", "LC_ALL", "TZ", "https_proxy", "NO_PROXY", "CCACHE_DIR", "MY_LICENCE"}
    assert names - kept == {"IDF_CCACHE_ENABLE", "IDF_PATH", "IDF_PYTHON_ENV_PATH", "IDF_DEACTIVATE_FILE_PATH"}


def test_activation_replaces_the_clients_own_shell() -> None:
    """Ours. A shell activated for another version must not leak into the build."""
    activated = {"IDF_PATH": "/idf", "PATH": "/idf/tools:/gcc/bin", "ESP_IDF_VERSION": "6.0"}
    env = job_environment(activated, CLIENT)
    assert env["IDF_PATH"] == "/idf"
    assert env["PATH"] == "/idf/tools:/gcc/bin:/usr/bin:/bin"
    assert env["IDF_CCACHE_ENABLE"] == "1"
    assert {"IDF_PYTHON_ENV_PATH", "IDF_DEACTIVATE_FILE_PATH"}.isdisjoint(env)


def test_without_path_there_is_a_plain_one() -> None:
    """Ours. An MCP client may start its servers with next to nothing."""
    assert job_environment({}, {})["PATH"] == DEFAULT_PATH


def test_living_agent_passes(tmp_path: Path) -> None:
    """design: SSH_AUTH_SOCK only if the socket lives."""
    path = str(tmp_path / "agent")
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(path)
        agent.listen()
        assert job_environment({}, {"SSH_AUTH_SOCK": path})["SSH_AUTH_SOCK"] == path
    assert "SSH_AUTH_SOCK" not in job_environment({}, {"SSH_AUTH_SOCK": path})


def test_dead_agent_does_not(tmp_path: Path) -> None:
    """Ours. Neither a path that is no socket, nor one that no socket can have."""
    (tmp_path / "file").write_text("")
    for path in (str(tmp_path / "file"), str(tmp_path / "absent"), "/x" * 200, "a\0b"):
        assert "SSH_AUTH_SOCK" not in job_environment({}, {"SSH_AUTH_SOCK": path})


@given(st.dictionaries(st.text(st.characters(codec="ascii", exclude_characters="=\0"), min_size=1), st.just("1")))
def test_unknown_names_never_pass(client: dict[str, str]) -> None:
    """Ours, for any environment."""
    prefixes = ("LC_", "CCACHE_", "IDF_")
    named = {"HOME", "USER", "PATH", "SHELL", "LANG", "TZ", "TMPDIR"}
    for name in job_environment({}, client):
        assert name in named or name.startswith(prefixes) or name.lower().endswith("_proxy")


def test_joined_path_keeps_each_folder_once_where_it_comes_first() -> None:
    """Ours. Activating an activated PATH must not let it grow."""
    assert joined_path(["/a:/b:", "", "/b:/c:/a"]) == "/a:/b:/c"
