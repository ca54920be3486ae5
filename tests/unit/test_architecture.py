"""The folder list is the architecture: each room's `__init__.py` says what it may import, and is held to it here."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "mcp_server"
FRONTS = frozenset({"cli", "server", "tools", "web", "__main__"})
GROUND = {  # what everything stands on; it stands on nothing but itself
    "clock": {"clock"},
    "errors": {"errors"},
    "model": {"model"},
    "config": {
        *(
            "config",
            "config_agents",
            "config_environment",
            "config_file",
            "config_prints",
            "config_rules",
            "config_schedules",
            "config_store",
        ),
        *("durations", "home", "yaml_document", "yaml_model"),
    },
}
DATA = ("_data", "demo/idf")  # the second is a simulated ESP-IDF, run as one and never imported
KNOW_ROWS = (
    "backup",
    "figures",
    "orchestrator",
    "crew",
    "elsewhere",
    "kept",
    "whereabouts",
    "projects",
    "queue_view",
    "schedules",
    "tokens",
    "views",
    "webhooks",
    "product_lookup",
    "serial_sessions",
    "engine",
    "store",
)
MAX_LINES = 400  # a file beyond that is two rooms
MAX_FUNCTION_LINES = 40

SAYS = re.compile(r"(May import|Never):\s+(.+?)\.(?=\s|$)", re.DOTALL)


def rooms() -> list[str]:
    """Every package below mcp_server, dotted, without `mcp_server.`; what a room carries as its data is no room."""
    found = (path.parent.relative_to(PACKAGE) for path in PACKAGE.rglob("__init__.py"))
    rooms = (folder for folder in found if folder.parts and not any(folder.is_relative_to(data) for data in DATA))
    return sorted(".".join(folder.parts) for folder in rooms)


def files_of(room: str) -> Iterator[Path]:
    """A room's own modules, without those of a room inside it."""
    return (PACKAGE / room.replace(".", "/")).glob("*.py")


def said_by(room: str) -> dict[str, list[str]]:
    """{"May import": […], "Never": […]} of the room's docstring."""
    docstring = ast.get_docstring(ast.parse((PACKAGE / room.replace(".", "/") / "__init__.py").read_text())) or ""
    return {what: [name.strip() for name in names.split(",")] for what, names in SAYS.findall(docstring)}


@cache
def imports_of(path: Path) -> set[str]:
    """The modules of ours that a file imports anywhere in it, without `mcp_server.`; the package itself is none."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = ["mcp_server", *path.relative_to(PACKAGE).parts[:-1]]
            above = parents[: len(parents) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    ours = {name.removeprefix("mcp_server.") for name in found if name.startswith("mcp_server.")}
    return {module for name in ours if (module := _module(name))}


def _module(name: str) -> str:
    """The part of `module.name` that is a module of ours; "" where it is only a name of the package."""
    while name and not (
        (PACKAGE / f"{name.replace('.', '/')}.py").exists() or (PACKAGE / name.replace(".", "/")).is_dir()
    ):
        name = name.rpartition(".")[0]
    return name


def within(module: str, name: str, *, own: str = "") -> bool:
    """Whether `module` is `name` or lies in it; `name` may be "a front", "another front" or a part of the ground."""
    if name in ("a front", "another front"):
        return any(within(module, front) for front in FRONTS - ({own} if name == "another front" else set()))
    return any(module == part or module.startswith(part + ".") for part in GROUND.get(name, {name}))


def test_every_room_says_what_it_may_import() -> None:
    """Ours."""
    silent = [room for room in rooms() if set(said_by(room)) != {"May import", "Never"}]

    assert not silent, "no line `May import: …. Never: ….` in the docstring of these rooms"


@pytest.mark.parametrize("room", rooms())
def test_room_imports_only_what_it_says(room: str) -> None:
    """Ours. A room inside another belongs to it: the two may import each other."""
    family, said = room.partition(".")[0], said_by(room)
    may, never = said.get("May import", []), said.get("Never", [])
    wrong = [
        f"{path.relative_to(PACKAGE.parent)} imports {module}"
        for path in files_of(room)
        for module in sorted(imports_of(path))
        if any(within(module, name, own=family) for name in never)
        or not (within(module, family) or any(within(module, name) for name in may))
    ]

    assert not wrong


@pytest.mark.parametrize("part", sorted(set.union(*GROUND.values())))
def test_the_ground_stands_on_itself(part: str) -> None:
    """Ours. model, config, clock and errors import no room."""
    ground = set.union(*GROUND.values())

    assert imports_of(PACKAGE / f"{part}.py") <= ground


def test_only_orchestrator_and_engine_know_the_store() -> None:
    """Design: nothing but orchestrator (with what it looks at rows by) and engine imports store."""
    wrong = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0].removesuffix(".py") not in KNOW_ROWS
        and any(within(module, "store") for module in imports_of(path))
    ]

    assert not wrong


def test_nothing_below_knows_a_front() -> None:
    """Design: the arrows point one way, down from the fronts."""
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0].removesuffix(".py") not in FRONTS
        for module in sorted(imports_of(path))
        if within(module, "a front")
    ]

    assert not wrong


def test_no_file_is_two_rooms() -> None:
    """Ours. At most 400 lines a file."""
    sizes = {path.relative_to(PACKAGE): len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}

    assert not {str(path): lines for path, lines in sizes.items() if lines > MAX_LINES}


def test_no_function_is_two() -> None:
    """Ours. At most 40 lines a function, its docstring not counted."""
    long: dict[str, int] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node
                lines = (node.end_lineno or 0) - first.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long[f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}"] = lines

    assert not long
