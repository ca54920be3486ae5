"""What is delivered: how heavy the base install is, and that package, plugin and marketplace tell the same story."""

import importlib.metadata
import json
import operator
import os
import re
import tomllib
import zlib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / ".claude-plugin"
MAX_BASE_BYTES = 25_000_000  # ours, for all wheels of the base install together
ENTRY_BYTES = 150  # a file's name and sums in a wheel's directory, twice
ENVIRONMENT = {  # the machine whose packages are summed
    "sys_platform": "linux",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_system": "Linux",
}
PYTHON = (3, 11)
MAX_SKILL_LINES = 100
NAME_LIMIT, DESCRIPTION_LIMIT = 64, 1024  # the agent skills specification


def manifest(name: str) -> dict[str, Any]:
    return json.loads((PLUGIN / name).read_text())


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def roles() -> list[str]:
    return manifest("plugin.json")["agents"]


def front_matter(path: Path) -> dict[str, Any]:
    _, head, _ = path.read_text().split("---\n", 2)
    return yaml.safe_load(head)


def holds(marker: str) -> bool:
    """Whether a lock file's marker holds on the machine of ENVIRONMENT; only the forms that uv writes are read."""
    return any(all(_term_holds(term) for term in part.split(" and ")) for part in marker.split(" or "))


def _term_holds(term: str) -> bool:
    found = re.fullmatch(r"\(?(\w+) (==|!=|<|<=|>|>=) '([^']*)'\)?", term.strip())
    assert found, f"a marker of a new form: {term}"
    name, relation, value = found.groups()
    if name.startswith("python"):
        wanted = tuple(int(part) for part in value.split(".")[:2])
        compare = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}[relation]
        return compare(PYTHON, wanted)
    return (ENVIRONMENT[name] == value) is (relation == "==")


def base_packages() -> dict[str, dict[str, Any]]:
    """What an install without extras brings, by name, ourselves not counted."""
    packages: dict[str, dict[str, Any]] = {
        package["name"]: package for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    }
    brought: dict[str, dict[str, Any]] = {}
    wanted: list[tuple[str, tuple[str, ...]]] = [("build-orchestrator", ())]
    done: set[tuple[str, tuple[str, ...]]] = set()
    while wanted:
        name, extras = wanted.pop()
        if (name, extras) in done:
            continue
        done.add((name, extras))
        package = brought[name] = packages[name]
        optional = package.get("optional-dependencies", {})
        needed = package.get("dependencies", []) + [need for extra in extras for need in optional.get(extra, [])]
        wanted += [
            (need["name"], tuple(need.get("extra", ())))
            for need in needed
            if holds(need.get("marker", "os_name == 'posix'"))
        ]
    del brought["build-orchestrator"]
    return brought


def weight(name: str) -> int:
    """Of the package's wheel: its files as they are installed here, packed as a wheel packs them.

    The lock file cannot say it: not every index tells sizes.
    """
    files = importlib.metadata.files(name) or []
    packed = (file for file in files if file.suffix != ".pyc" and ".." not in file.parts)
    return sum(len(zlib.compress(Path(str(file.locate())).read_bytes())) + ENTRY_BYTES for file in packed)


def test_base_install_stays_light() -> None:
    """Ours. A plugin that is installed at a client's first start must not be a long download."""
    sizes = {name: weight(name) for name in base_packages()}

    assert {"mcp", "pydantic", "sqlalchemy", "pyyaml"} <= set(sizes)
    assert sum(sizes.values()) < MAX_BASE_BYTES, sorted(sizes.items(), key=lambda item: -item[1])[:5]


def test_base_install_brings_no_tool_of_an_extra() -> None:
    """Ours. What only tests or the demo need is not in it, nor a library with a licence that binds its users."""
    assert not {"pytest", "ninja", "pyright", "ruff", "esptool", "copier", "jinja2-ansible-filters"} & set(
        base_packages()
    )


def test_versions_agree() -> None:
    """Ours. Clients compare the plugin's version to see an update; pip shows the package's."""
    versions = {
        project()["version"],
        manifest("plugin.json")["version"],
        *(plugin["version"] for plugin in manifest("marketplace.json")["plugins"]),
    }

    assert len(versions) == 1


def test_names_and_licence_agree() -> None:
    """Ours."""
    plugin, market = manifest("plugin.json"), manifest("marketplace.json")

    assert plugin["name"] == project()["name"] == market["plugins"][0]["name"] == "build-orchestrator"
    assert plugin["license"] == project()["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert plugin["description"] == project()["description"] == market["plugins"][0]["description"]


def test_server_is_started_by_the_launcher() -> None:
    """Ours. Through sh, so that it does not hang on a file mode that some ways of copying lose."""
    [server] = manifest("plugin.json")["mcpServers"].values()
    launcher = PLUGIN / "launch.sh"

    assert server["command"] == "/bin/sh"
    assert server["args"] == ["${CLAUDE_PLUGIN_ROOT}/.claude-plugin/launch.sh"]
    assert os.access(launcher, os.X_OK)
    assert launcher.read_text().startswith("#!/bin/sh\n")


@pytest.mark.parametrize("role", roles())
def test_role_has_what_a_client_asks_for(role: str) -> None:
    """Spec: a description. Ours: a name like the file's, and a body of a screen."""
    path = ROOT / role
    head = front_matter(path)

    assert role.startswith("./prompts/")
    assert head["name"] == path.stem
    assert 40 <= len(head["description"]) <= DESCRIPTION_LIMIT
    assert 40 <= len(path.read_text().splitlines()) <= 60


def test_every_prompt_is_listed() -> None:
    """Ours. A role that no client can find is none."""
    assert sorted(roles()) == sorted(f"./prompts/{path.name}" for path in (ROOT / "prompts").glob("*.md"))


@pytest.mark.parametrize("skill", sorted((ROOT / "skills").glob("*/SKILL.md")), ids=lambda path: path.parent.name)
def test_skill_is_a_menu(skill: Path) -> None:
    """Spec: name and description. Ours: under 100 lines, and every file that it names is there."""
    head, text = front_matter(skill), skill.read_text()

    assert head["name"] == skill.parent.name
    assert len(head["name"]) <= NAME_LIMIT
    assert len(head["description"]) <= DESCRIPTION_LIMIT
    assert "argument-hint" in head
    assert "$ARGUMENTS" in text
    assert len(text.splitlines()) < MAX_SKILL_LINES
    named = set(re.findall(r"\]\((references/[^)]+)\)", text))
    assert {str(path.relative_to(skill.parent)) for path in skill.parent.glob("references/*")} == named


def test_skill_and_roles_speak_of_tools_that_exist() -> None:
    """Ours. A tool that is promised and absent sends a model in circles."""
    from mcp_server.server import TOOLS  # noqa: PLC0415  # only here: the rest reads files

    there = {tool.__name__ for tool, _ in TOOLS}
    prefix = "mcp__plugin_build-orchestrator_bo__"
    for role in roles():
        ours = [tool for tool in re.split(r",\s*", front_matter(ROOT / role)["tools"]) if tool.startswith("mcp__")]
        assert {tool.removeprefix(prefix) for tool in ours} <= there
    for text in [path.read_text() for folder in ("skills", "prompts") for path in (ROOT / folder).rglob("*.md")]:
        spoken = set(re.findall(r"`((?:idf|build|qemu|serial|remote|pipeline|workflow|project|create)_\w+)\(?", text))
        assert spoken - {"idf_component_register", "idf_component", *(Path(role).stem for role in roles())} <= there
