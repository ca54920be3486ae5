"""Models that people write in YAML: what pydantic finds wrong, as sentences that say where and what would be right."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails

from mcp_server.model import Model
from mcp_server.yaml_document import Document, Loc, Mistake

M = TypeVar("M", bound="YamlModel")

_SHOWN_KEYS = 12  # of the known keys, where none is near


class YamlModel(Model):
    """A key with nothing after it counts as absent, so a section whose lines are all commented out is no mistake."""

    model_config = ConfigDict(defer_build=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _blank_is_absent(cls, data: Any) -> Any:
        if data is None:
            return {}
        if isinstance(data, dict):
            known = set(_keys(cls))
            given = cast("dict[str, Any]", data)
            return {key: value for key, value in given.items() if value is not None or key not in known}
        return data


def check(
    document: Document, model: type[M], *, private: frozenset[str] = frozenset()
) -> tuple[M | None, list[Mistake]]:
    """The document as `model`, or every mistake in it. What lies under a key in `private` is never shown."""
    data: object = document.data
    if not isinstance(data, dict | None):
        return None, [document.mistake((), "the file should be `key: value` lines at its top, not a list or a text")]
    return check_part(document, (), cast("object", data), model, private=private)


def check_part(
    document: Document, at: Loc, data: object, model: type[M], *, private: frozenset[str] = frozenset()
) -> tuple[M | None, list[Mistake]]:
    """`data`, which stands at `at` in the document, as `model`; names in the mistakes begin there."""
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        found = error.errors(include_url=False)
        return None, [_mistake(document, at, model, detail, private) for detail in found]


def sound_part(data: Mapping[str, Any], model: type[YamlModel]) -> dict[str, Any]:
    """`data` without the keys that `model` cannot use: what can still be judged beside them."""
    try:
        model.model_validate(data)
    except ValidationError as error:
        wrong = {detail["loc"][0] for detail in error.errors(include_url=False, include_input=False) if detail["loc"]}
        return {key: value for key, value in data.items() if key not in wrong}
    return dict(data)


def nearest(name: str, known: Sequence[str]) -> str:
    """`; did you mean 'x'?`, or which there are."""
    near = get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{near[0]}'?"
    shown = ", ".join(known[:_SHOWN_KEYS]) + (", …" if len(known) > _SHOWN_KEYS else "")
    return f"; known here: {shown}"


def _keys(model: type[BaseModel]) -> list[str]:
    """A model's keys as they are written in the file."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _mistake(
    document: Document, at: Loc, model: type[BaseModel], detail: ErrorDetails, private: frozenset[str]
) -> Mistake:
    loc = tuple(part for part in detail["loc"] if part != "[key]")
    name = dotted(loc)
    kind = detail["type"]
    if kind == "extra_forbidden":
        parent = _model_at(model, loc[:-1])
        within = f" in {dotted(loc[:-1])}" if loc[:-1] else ""
        known = _keys(parent) if parent else []
        key = str(loc[-1])[:60]
        return document.mistake((*at, *loc), f"unknown key '{key}'{within}{nearest(key, known)}", at_key=True)
    if kind == "missing":
        parent = (*at, *loc[:-1])
        return document.mistake(parent, f"{name} is missing", at_key=parent in document.keys)
    hidden = any(str(part) in private for part in loc)
    subject = f"{name}: " if name else ""
    return document.mistake((*at, *loc), f"{subject}{_wrong(detail, hidden=hidden)}")


def dotted(loc: Loc) -> str:
    """`servers.box.tags[2]`."""
    text = ""
    for part in loc:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part[:60]}"
    return text.removeprefix(".")


_EMPTY = "should not be empty"
_EXPECTED = {
    "string_type": "should be text",
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_from_float": "should be a whole number",
    "float_type": "should be a number",
    "float_parsing": "should be a number",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
    "dict_type": "should be `key: value` lines",
    "mapping_type": "should be `key: value` lines",
    "model_type": "should be `key: value` lines",
    "model_attributes_type": "should be `key: value` lines",
    "tuple_type": "should be a list, [a, b]",
    "list_type": "should be a list, [a, b]",
    "greater_than_equal": "should be at least {ge}",
    "greater_than": "should be more than {gt}",
    "less_than_equal": "should be at most {le}",
    "too_short": _EMPTY,
    "string_too_short": _EMPTY,
}


def _wrong(detail: ErrorDetails, *, hidden: bool) -> str:
    context = detail.get("ctx", {})
    value = detail["input"]
    if detail["type"] == "value_error":
        return str(context["error"])
    if value is None:
        return "is empty"
    if detail["type"] == "literal_error":
        expected = "should be " + str(context["expected"]).replace("'", "")
    else:
        expected = _EXPECTED.get(detail["type"], detail["msg"]).format(**context)
        if expected == _EMPTY:
            return expected
    return f"{expected}, not {_shown(value, hidden=hidden)}"


def _shown(value: object, *, hidden: bool) -> str:
    if isinstance(value, Mapping):
        return "`key: value` lines"
    if isinstance(value, list):
        return "a list"
    if hidden:
        return "this"
    text = str(value)
    return f"'{text}'" if len(text) <= 40 else f"'{text[:39]}…'"


def _model_at(model: type[BaseModel], loc: Loc) -> type[BaseModel] | None:
    """The model that the value at `loc` is read as."""
    annotation: Any = model
    for part in loc:
        annotation = _inside(annotation, part)
    return next((kind for kind in _kinds(annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _inside(annotation: Any, part: str | int) -> Any:
    for kind in _kinds(annotation):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            for name, field in kind.model_fields.items():
                if part in (name, field.alias):
                    return field.annotation
            extras = get_type_hints(kind).get("__pydantic_extra__")
            return get_args(extras)[1] if extras else None
        if args := get_args(kind):
            return args[-1] if get_origin(kind) is not tuple else args[0]
    return None


def _kinds(annotation: Any) -> tuple[Any, ...]:
    """What an annotation stands for: the parts of a union, without what `Annotated` adds to each."""
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return tuple(kind for part in get_args(annotation) for kind in _kinds(part))
    return (annotation,)
