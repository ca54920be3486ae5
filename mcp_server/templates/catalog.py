"""What a template asks, and what it may do, as its copier.yml says; the templates that are built in."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from mcp_server.errors import BadInput
from mcp_server.yaml_model import nearest

BUILT_IN = Path(__file__).parent.parent / "_templates"
FILES = ("copier.yml", "copier.yaml")
MAX_BYTES = 256 * 1024  # of a copier.yml
MAX_VARIABLES, MAX_VALUE = 200, 10_000

_RUNS_CODE = ("_tasks", "_migrations", "_jinja_extensions", "_external_data")
_PATHS = ("_subdirectory", "_answers_file")


@dataclass(frozen=True, slots=True)
class Question:
    """A variable of a template. `required`: it has no default. `asked` False: it is worked out, never given."""

    name: str
    help: str = ""
    type: str = "str"
    default: str = ""
    choices: tuple[str, ...] = ()
    required: bool = False
    secret: bool = False
    asked: bool = True


@dataclass(frozen=True, slots=True)
class Template:
    """A template's copier.yml. `needs_trust` are its keys that run code; `paths` those that name places."""

    name: str
    summary: str
    questions: tuple[Question, ...]
    needs_trust: tuple[str, ...] = ()
    paths: Mapping[str, str] | None = None


def listing() -> Sequence[Template]:
    """The built-in templates by name. Reads files: call it in a thread."""
    return [read_template(folder, folder.name) for folder in sorted(BUILT_IN.iterdir()) if folder.is_dir()]


def read_template(folder: Path, name: str) -> Template:
    """The template in `folder`. BadInput: it is none, or its copier.yml cannot be read. Reads."""
    found = [folder / file for file in FILES if (folder / file).is_file()]
    if not found:
        raise BadInput("template", f"{name} has no copier.yml at its top, so it is no template")
    with found[0].open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise BadInput("template", f"the copier.yml of {name} is larger than {MAX_BYTES // 1024} kB")
    try:
        text = content.decode()
        data = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        line = f" (line {mark.line + 1})" if (mark := getattr(error, "problem_mark", None)) else ""
        raise BadInput("template", f"the copier.yml of {name} is no plain YAML{line}; !include is not known") from None
    if not isinstance(data, dict):
        raise BadInput("template", f"the copier.yml of {name} should be a mapping of questions")
    entries = {str(key): value for key, value in cast(dict[Any, Any], data).items()}
    secret = _texts(entries.get("_secret_questions"))
    return Template(
        name=name,
        summary=text.partition("\n")[0].lstrip("# ").strip()[:200] if text.startswith("#") else "",
        questions=tuple(_question(key, value, secret) for key, value in entries.items() if not key.startswith("_")),
        needs_trust=tuple(key for key in _RUNS_CODE if entries.get(key)),
        paths={key: str(entries[key]) for key in _PATHS if entries.get(key)},
    )


def check_variables(template: Template, variables: Mapping[str, str]) -> None:
    """BadInput names every variable that is missing or unknown, in one sentence."""
    if len(variables) > MAX_VARIABLES or any(len(value) > MAX_VALUE for value in variables.values()):
        raise BadInput("variables", f"at most {MAX_VARIABLES}, each of at most {MAX_VALUE} characters")
    for name, value in variables.items():
        if "\0" in value:
            raise BadInput("variables", f"{name[:40]} holds a zero byte")
    asked = [question for question in template.questions if question.asked]
    if secret := [question.name for question in asked if question.secret]:
        raise BadInput(
            "template", f"{template.name} asks for secrets ({', '.join(secret)}), which would end up in the project"
        )
    known = [question.name for question in asked]
    missing = [question.name for question in asked if question.required and question.name not in variables]
    unknown = [name for name in variables if name not in known]
    faults = [f"{_and(missing)} missing"] if missing else []
    faults += [f"no variable {name[:40]!r}{nearest(name, known)}" for name in unknown[:10]]
    if faults:
        takes = ", ".join(_described(question) for question in asked) or "none"
        raise BadInput("variables", f"{'; '.join(faults)}; {template.name} takes {takes}")


def check_trust(template: Template, trusted: bool) -> None:
    """BadInput: the template runs code, or names places outside itself, and is not trusted."""
    if template.needs_trust and not trusted:
        keys = ", ".join(template.needs_trust)
        raise BadInput(
            "template", f"{template.name} would run code of its own here ({keys}): read it, then pass trusted=true"
        )
    for key, path in (template.paths or {}).items():
        if path.startswith(("/", "~")) or ".." in re.split(r"[/\\]", path) or (key == "_answers_file" and "{" in path):
            raise BadInput("template", f"{template.name}: {key} should be a plain path inside the template")


def _question(name: str, value: Any, secret: Collection[str]) -> Question:
    if not isinstance(value, dict):
        return Question(name, default=_text(value), required=False, secret=name in secret)
    says = cast(dict[str, Any], value)
    choices: Any = says.get("choices")
    when = says.get("when", True)
    return Question(
        name,
        help=" ".join(_text(says.get("help")).split())[:300],
        type=_text(says.get("type", "str")),
        default=_text(says.get("default")),
        choices=tuple(_choices(choices)),
        required="default" not in says and when is True,
        secret=bool(says.get("secret")) or name in secret,
        asked=when is not False,
    )


def _choices(choices: Any) -> Sequence[str]:
    if isinstance(choices, dict):
        return [_text(value) for value in cast(dict[Any, Any], choices).values()]
    return _texts(choices)


def _texts(value: Any) -> list[str]:
    return [_text(entry) for entry in cast(list[Any], value)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or isinstance(value, (dict, list)):  # a nested one may be endless by its aliases
        return ""
    return str(value)[:MAX_VALUE]


def _described(question: Question) -> str:
    if question.required:
        return f"{question.name} (required)"
    return question.name


def _and(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]} are" if len(names) > 1 else f"{names[0]} is"
