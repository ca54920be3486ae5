"""What deploy/ and docs/operations.md name exists: commands, options, variables, keys, files."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mcp_server.cli.app import COMMANDS
from mcp_server.config import load_config

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
PROGRAM = "/opt/build-orchestrator/bin/build-orchestrator"
IN_FILES = ("BUILD_ORCHESTRATOR_DATABASE_URL", "BUILD_ORCHESTRATOR_TOKEN")
SECRET = "/run/secrets/"


def variables() -> set[str]:
    """Those that the program looks at."""
    text = "".join(path.read_text() for path in (ROOT / "mcp_server").rglob("*.py"))
    return set(re.findall(r"BUILD_ORCHESTRATOR_[A-Z_]*[A-Z]", text)) | {f"{name}_FILE" for name in IN_FILES}


def check_command(words: list[str]) -> None:
    """The command and each of its options are in the recorded help."""
    assert words[0] in COMMANDS
    told = (ROOT / "tests/recorded/help" / f"{words[0]}.txt").read_text()
    for word in words[1:]:
        if word.startswith("--"):
            assert re.search(rf"(^|\s){re.escape(word)}\b", told), f"{words[0]} has no {word}"


def unit(path: Path) -> dict[str, list[str]]:
    """Keys of all sections; a key may come several times."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith(("#", ";", "[")):
            found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_starts_what_exists_and_ends_no_job(path: Path) -> None:
    """Ours. Jobs outlive the worker: `systemctl restart`, an upgrade, a compiler that needs too much memory."""
    found = unit(path)

    [start] = found["ExecStart"]
    words = shlex.split(start)
    if words[0] == "/bin/sh":
        words = shlex.split(words[-1])[1:]
    assert words[0] == PROGRAM
    check_command(words[1:])
    names = {value.partition("=")[0] for value in found["Environment"]}
    assert names <= variables()
    assert found["KillMode"] == ["process"] and found["SendSIGKILL"] == ["no"]
    assert "PrivateTmp" not in found and "RuntimeDirectory" not in found  # both are taken away at a stop
    if found["Type"] == ["exec"]:
        assert found["OOMPolicy"] == ["continue"] and found["Restart"] == ["always"]


@pytest.mark.parametrize("path", [*UNITS, *(DEPLOY / "systemd").glob("*.timer")], ids=lambda path: path.name)
def test_systemd_understands_each_unit(path: Path, tmp_path: Path) -> None:
    """Ours. Its own check, with a program that is there."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")
    for one in (DEPLOY / "systemd").glob("*.[st]*"):
        (tmp_path / one.name).write_text(one.read_text().replace(PROGRAM, sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(tmp_path / path.name)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert not [line for line in done.stderr.splitlines() if "build-orchestrator" in line]


def instructions() -> Iterator[tuple[str, str]]:
    """Of the Containerfile, each on one line."""
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "container/Containerfile").read_text(), flags=re.MULTILINE)
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            word, _, rest = line.partition(" ")
            yield word, rest.strip()


def test_the_image_is_made_of_what_is_here_and_runs_as_nobody_special() -> None:
    """Ours."""
    found = list(instructions())
    given = dict(found)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    copied = [rest.split() for word, rest in found if word == "COPY" and "--from" not in rest]
    sources = {source for words in copied for source in words[:-1]}
    assert all((ROOT / source).exists() for source in sources)
    ignored = (DEPLOY / "container/Containerfile.dockerignore").read_text().split()
    assert {line[1:] for line in ignored if line.startswith("!")} == sources
    [asked] = re.findall(r"'\.\[([a-z,]+)\]'", "".join(rest for word, rest in found if word == "RUN"))
    assert set(asked.split(",")) <= set(extras)
    assert given["USER"] == "10001:10001" and "--uid 10001" in str(found)
    assert json.loads(given["ENTRYPOINT"]) == ["build-orchestrator"]
    check_command(json.loads(given["CMD"]))
    assert set(re.findall(r"BUILD_ORCHESTRATOR_[A-Z_]+", given["ENV"])) <= variables()
    asks = given["HEALTHCHECK"].partition("CMD ")[2]
    from mcp_server.web.guard import PUBLIC  # noqa: PLC0415 - of an extra

    assert "/healthz" in json.loads(asks)[2] and "/healthz" in PUBLIC
    compile(json.loads(asks)[2], "HEALTHCHECK", "exec")


def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "container/compose.yaml").read_text())


def test_compose_names_what_exists(tmp_path: Path) -> None:
    """Ours. Services, volumes, secrets, files, commands and variables."""
    found = compose()
    services: dict[str, Any] = found["services"]
    shutil.copy(DEPLOY / "container/make-secrets", tmp_path)
    for _ in range(2):  # twice: what is there stays
        subprocess.run([str(tmp_path / "make-secrets")], check=True, timeout=20, env={"PATH": "/usr/bin:/bin"})
    made = {path.name: path for path in (tmp_path / "secrets").iterdir()}

    assert {Path(one["file"]).name for one in found["secrets"].values()} == set(made) == set(found["secrets"])
    for service in services.values():
        assert set(service.get("depends_on", ())) <= set(services)
        assert set(service.get("secrets", ())) <= set(found["secrets"])
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source in found["volumes"] or (DEPLOY / "container" / source).exists()
        for value in service.get("environment", {}).values():
            assert not value.startswith(SECRET) or value.removeprefix(SECRET) in service["secrets"]
        if service["image"].startswith("build-orchestrator"):
            check_command(service["command"])
            assert set(service["environment"]) <= variables() and service["init"] is True
    homes = [volume for one in services.values() for volume in one.get("volumes", ()) if volume.endswith(":/data")]
    assert len(homes) == len(set(homes))  # a home of its own for each
    assert made["database-password"].read_text() in made["database-url"].read_text()


def test_the_configuration_beside_it_is_one(tmp_path: Path) -> None:
    """Ours. With secrets that each service that reads it has."""
    text = (DEPLOY / "container/config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text)
    config = load_config({"BUILD_ORCHESTRATOR_HOME": str(tmp_path)})
    asked = set(re.findall(rf"\$\{{file:{SECRET}([a-z-]+)\}}", text))

    assert config.artifacts.is_remote and asked
    for name, service in compose()["services"].items():
        assert name not in ("serve", "worker-1", "worker-2") or asked <= set(service["secrets"])


def test_compose_itself_understands_the_file() -> None:
    """Ours. Where docker compose is here."""
    ask = ["docker", "compose", "-f", str(DEPLOY / "container/compose.yaml"), "config", "--quiet"]
    asked = shutil.which("docker") and subprocess.run([*ask[:2], "version"], capture_output=True, check=False)
    if not asked or asked.returncode:
        pytest.skip("docker compose is not here")

    assert subprocess.run(ask, capture_output=True, text=True, timeout=60, check=True).stderr == ""


def test_the_page_for_operators_names_what_exists() -> None:
    """Ours. Commands with their options, variables, keys of config.yaml and figures of /metrics."""
    spoken = "\n".join(line for line in OPERATIONS.splitlines() if "systemctl" not in line)
    command = r"(?m)^    (?:\S+ )*\S*build-orchestrator ([a-z][^`\n]*)$|`build-orchestrator ([^`]+)`"
    found = re.findall(command, spoken)
    ours = [shlex.split(one or other) for one, other in found]
    assert len(ours) > 5
    for words in ours:
        check_command(words)
    assert set(re.findall(r"BUILD_ORCHESTRATOR_[A-Z_]*[A-Z]", OPERATIONS)) <= variables()
    for name in re.findall(r"`(deploy/[^`]+)`", OPERATIONS):
        assert (ROOT / name).exists(), name
    metrics = "".join(path.read_text() for path in (ROOT / "mcp_server/web").glob("*.py"))
    for name in set(re.findall(r"\bbuild_orchestrator_(\w+)", OPERATIONS)):
        assert name in metrics, name
