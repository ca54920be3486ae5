"""The arguments that tools share, their schemas made lean, and one sentence for each that cannot be used."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, cast

from mcp.server.mcpserver import Context
from mcp_types import ToolAnnotations
from pydantic import BeforeValidator, Field, ValidationError

Ctx = Context[Any, Any]
"""Its lifespan value is the `Opener` of mcp_server.tools.answers."""

MAX_WAIT_S = 55  # some clients drop a call at 60 s

READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
STARTS_WORK = ToolAnnotations(destructive_hint=False, open_world_hint=False)
FETCHES = ToolAnnotations(destructive_hint=False)
ENDS_WORK = ToolAnnotations(destructive_hint=True, open_world_hint=False)
RUNS_COMMANDS = None
"""For tools that run whatever the caller wrote: a tool without hints counts as destructive and of an open world."""


def none_is_empty(value: object) -> object:
    return "" if value is None else value


def _nothing_is_here(value: object) -> object:
    return value or "."


def _one_is_a_list(value: object) -> object:
    """Models write "ready" as often as ["ready"]; nothing is no text."""
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str) else value


def _none_is_no_object(value: object) -> object:
    return {} if value is None else value


def _scalars_are_text(value: object) -> object:
    """Models write {"JOBS": 8} as often as {"JOBS": "8"}."""
    if not isinstance(value, dict):
        return _none_is_no_object(value)
    given = cast("dict[object, object]", value)
    return {key: _as_text(item) for key, item in given.items()}


def number_is_text(value: object) -> object:
    return _as_text(none_is_empty(value))


def _as_text(item: object) -> object:
    if isinstance(item, bool):
        return "true" if item else "false"
    return str(item) if isinstance(item, int | float) else item


# Not `str | None`: the SDK reads such an argument as JSON first, which makes a list of the pattern "[0-9]".
Text = Annotated[str, BeforeValidator(none_is_empty)]
Here = Annotated[str, BeforeValidator(_nothing_is_here)]
Project = Annotated[Here, Field(description="path, name or id")]
BuildRef = Annotated[int, Field(strict=True)] | str
Texts = Annotated[list[str], BeforeValidator(_one_is_a_list)]
Variables = Annotated[dict[str, str], BeforeValidator(_scalars_are_text)]
Values = Annotated[dict[str, str | int | float | bool], BeforeValidator(_none_is_no_object)]
Target = Annotated[str, BeforeValidator(none_is_empty), Field(description="a chip")]
Build = Annotated[BuildRef, Field(description="number or UUID")]
WaitS = Annotated[int, Field(ge=0, le=MAX_WAIT_S)]
"""Seconds of waiting, not of building: the server's instructions say that the build goes on."""

_KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "text",
    "array": "a list of texts",
    "object": 'an object such as {"NAME": "value"}',
}
_BUILD = "a build number such as 42 or a task's UUID"


def lean_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A tool's input schema without what tells a model nothing: generated titles, nulls, the default "no"."""
    properties = {name: _lean_property(value) for name, value in schema.get("properties", {}).items()}
    lean = {"type": "object", "properties": properties}
    if required := schema.get("required"):
        lean["required"] = required
    return lean


def _lean_property(value: Mapping[str, Any]) -> dict[str, Any]:
    lean = {key: item for key, item in value.items() if key not in ("title", "anyOf", "default")}
    if (default := value.get("default")) not in (None, "", False, [], {}):
        lean["default"] = default
    if lean.get("minimum") == 0:
        del lean["minimum"]
    if lean.get("type") == "object":  # a model writes names and values without being told what else they may be
        lean.pop("additionalProperties", None)
    options = [option for option in value.get("anyOf", ()) if option.get("type") != "null"]
    if len(options) == 1:
        return {**_lean_property(options[0]), **lean}
    if options:
        lean["type"] = [option["type"] for option in options]
    return lean


def unknown_argument(tool: str, schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> str | None:
    """The sentence for the first argument that the tool does not have."""
    known = list(schema.get("properties", {}))
    for name in arguments:
        if name not in known:
            return f"{_shown(name, quotes=False)}: {tool} has no such argument; it takes {', '.join(known) or 'none'}"
    return None


def explain(schema: Mapping[str, Any], error: ValidationError) -> str:
    """One sentence that names the first argument at fault and what it may be."""
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "arguments"
    wanted = _wanted(schema.get("properties", {}).get(name, {}))
    if first["type"] == "missing":
        return f"{name}: is required, {wanted}"
    if first["type"] == "value_error":
        return f"{name}: {first['msg'].removeprefix('Value error, ')}"
    return f"{name}: {_shown(_given(first, name))} is not {wanted}"


def _given(error: Mapping[str, Any], name: str) -> object:
    # Inside a list or an object the input is the bad item: that is the one to show.
    return error.get("input")


def _wanted(value: Mapping[str, Any]) -> str:
    lean = {**value, **_lean_property(value)}
    if "enum" in lean:
        return "one of " + ", ".join(str(option) for option in lean["enum"])
    kind = lean.get("type")
    if isinstance(kind, list):
        return _BUILD
    words = _KINDS.get(str(kind), "valid here")
    low, high = lean.get("minimum"), lean.get("maximum")
    if low is not None and high is not None:
        return f"{words} from {low} to {high}"
    return f"{words} of at least {low}" if low is not None else words


def _shown(value: object, *, quotes: bool = True) -> str:
    text = value if isinstance(value, str) and not quotes else repr(cast(object, value))
    return "".join(_printable(text if len(text) <= 60 else text[:58] + "…"))


def _printable(text: str) -> Iterator[str]:
    yield from (letter if letter.isprintable() else "?" for letter in text)
