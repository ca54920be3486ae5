"""Parameters and references to them: `${params.x}` and `${matrix.x}`.

In a command a reference becomes a shell variable, `${PARAMS_x}`, whose value comes through the environment: so no
value can ever become code of the shell. Anywhere else it is replaced as text. `$${params.x}` stays `${params.x}`.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, cast

from mcp_server.pipelines.when import Value, Values
from mcp_server.yaml_document import Document, Loc, Mistake
from mcp_server.yaml_model import nearest

MAX_PARAMS = 100
MAX_VALUE = 32_768  # characters; Linux takes 131,072 bytes for a variable

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_REFERENCE = re.compile(r"(\$?)\$\{\s*(params|matrix)\.([^{}]*)\}")
_STRANGE = re.compile(r"(?<!\$)\$\{\{?\s*([A-Za-z_]\w*)\.([^{}]*)\}\}?", re.ASCII)


class ReferenceMistake(ValueError):
    """A reference that names nothing; the sentence says what there is."""


class Scope:
    """The values that a stage, or a cell of its matrix, can refer to."""

    def __init__(self, values: Values) -> None:
        self.values = values

    def text(self, text: str) -> str:
        """`text` with each reference replaced by its value, once: a value is not looked at again."""
        return self._filled(text, self._value)

    def command(self, text: str) -> str:
        """`text` with each reference as a shell variable of `exported`. It is the same whatever the values are."""
        return self._filled(text, lambda space, name: f"${{{variable(space, name)}}}")

    def deep(self, value: Any) -> Any:
        """A value of YAML with the references in all its texts replaced."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.deep(item) for item in cast("list[Any]", value)]
        if isinstance(value, dict):
            return {key: self.deep(item) for key, item in cast("dict[str, Any]", value).items()}
        return value

    def exported(self) -> dict[str, str]:
        """Every value as the environment variable that a command reads."""
        return {variable(space, name): value.text for space, own in self.values.items() for name, value in own.items()}

    def _value(self, space: str, name: str) -> str:
        return self.values[space][name].text

    def _filled(self, text: str, made: Callable[[str, str], str]) -> str:
        if "${" not in text:
            return text

        def replace(found: re.Match[str]) -> str:
            escaped, space, name = found[1], found[2], found[3].strip()
            if escaped:
                return found[0][1:]
            if name not in self.values[space]:
                raise ReferenceMistake(_no_value(space, name, list(self.values[space])))
            return made(space, name)

        filled = _REFERENCE.sub(replace, text)
        if strange := next((hit for hit in _STRANGE.finditer(text) if not _REFERENCE.match(text, hit.start())), None):
            raise ReferenceMistake(_no_space(strange[0], strange[1], strange[2].strip()))
        return filled


def variable(space: str, name: str) -> str:
    """The environment variable of a value: `PARAMS_x`."""
    return f"{space.upper()}_{name}"


def _no_value(space: str, name: str, known: list[str]) -> str:
    if not known:
        where = "the pipeline has no params" if space == "params" else "the stage has no matrix"
        return f"there is no '{space}.{name[:60]}'; {where}"
    return f"there is no '{space}.{name[:60]}'{nearest(name, known)}"


def _no_space(text: str, space: str, name: str) -> str:
    shown = f"'{text[:60]}'"
    if space in ("params", "matrix"):
        return f"{shown} has a brace too many; write ${{{space}.{name[:60]}}}"
    if space in ("env", "secrets"):
        return f"{shown} is no reference; a command reads it as ${{{name[:60]}}}"
    return f"{shown} is no reference; there are ${{params.NAME}} and ${{matrix.NAME}}"


def resolve(
    document: Document, at: Loc, defaults: Mapping[str, Any], given: Mapping[str, Any]
) -> tuple[dict[str, Value], list[Mistake]]:
    """The parameters: those of the file, which stand at `at`, with what was `given` in their place."""
    values: dict[str, Value] = {}
    mistakes: list[Mistake] = []
    for number, (name, default) in enumerate(defaults.items()):
        here = (*at, name)
        if number == MAX_PARAMS:
            mistakes.append(
                document.mistake(here, f"with this there are more than {MAX_PARAMS} parameters", at_key=True)
            )
            break
        if not NAME.fullmatch(name):
            mistakes.append(document.mistake(here, name_rule("parameter", name), at_key=True))
        elif isinstance(default, dict | list):
            mistakes.append(document.mistake(here, f"params.{name} should be one text, number or true/false"))
        else:
            values[name] = Value.written(default or "", plain=here in document.plain)
            if len(values[name].text) > MAX_VALUE:
                mistakes.append(document.mistake(here, f"params.{name} is longer than {MAX_VALUE:,} characters"))
            elif _REFERENCE.search(values[name].text):
                mistakes.append(document.mistake(here, f"params.{name} refers to a value; only stages can"))
    for name, value in given.items():
        if name in values:
            values[name], why = _converted(name, values[name], value)
        elif name in defaults:
            continue  # its own mistake is told above
        else:
            why = f"there is no parameter '{str(name)[:60]}'" + (
                nearest(str(name), list(values)) if values else "; the pipeline has no params"
            )
        if why:
            mistakes.append(Mistake(0, 0, why))
    return values, mistakes


def name_rule(what: str, name: str) -> str:
    """What a name of a parameter or a matrix key may be, with the right form of `name`."""
    right = re.sub(r"[^A-Za-z0-9_]+", "_", name[:60]).strip("_")
    right = f"_{right}" if right[:1].isdigit() else right
    return f"a {what}'s name has letters, digits and '_' only" + (f"; write {right}" if right else "")


def _converted(name: str, default: Value, given: Any) -> tuple[Value, str]:
    """`given` as a value of the default's kind, and why not."""
    if isinstance(given, bool):
        text = str(given).lower()
    elif isinstance(given, str | int | float):
        text = str(given)
    else:
        return default, f"params.{name} should be one text, number or true/false"
    if len(text) > MAX_VALUE or "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        return default, f"params.{name} has a character that no program takes, or more than {MAX_VALUE:,} of them"
    if default.kind == "number" and Value(text.strip()).number is None:
        why = f"is a number in the file ({default.text[:20]}); put that in quotes there if any text will do"
        return default, f"params.{name} {why}"
    if default.kind == "truth" and Value(text.strip()).as_word is None:
        return default, f"params.{name} is true or false, not '{text[:40]}'"
    if default.kind == "truth":
        return Value(str(Value(text.strip()).as_word).lower(), "truth"), ""
    return Value(text.strip() if default.kind == "number" else text, default.kind), ""
