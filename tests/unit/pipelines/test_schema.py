"""The JSON Schema of a pipeline file is on record beside the code. REMAKE_SCHEMA=1 writes it anew."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from mcp_server.config import Defaults
from mcp_server.pipelines.schema import FILE, pipeline_schema, schema_text
from mcp_server.pipelines.spec import load
from tests.unit.pipelines.test_spec import EVERYTHING, SEED_PART

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))
REMAKE = bool(os.environ.get("REMAKE_SCHEMA"))


class EditorLoader(yaml.SafeLoader):
    """YAML 1.2, as editors read it: `on` and `no` are texts."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # the name and shape are yaml's
        letter: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:bool"]
        for letter, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


EditorLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("true|false"), list("tf"))


def complaints(text: str) -> list[str]:
    """What an editor with the schema would underline."""
    data = yaml.load(text, EditorLoader)
    return [error.message for error in Draft202012Validator(pipeline_schema()).iter_errors(data)]


def test_schema_is_as_recorded() -> None:
    """Issue. It is shipped, so that editors complete a pipeline."""
    if REMAKE:
        FILE.write_text(schema_text(), encoding="utf-8")

    assert schema_text() == FILE.read_text(encoding="utf-8")
    Draft202012Validator.check_schema(pipeline_schema())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_loads_and_keeps_to_the_schema(path: Path) -> None:
    """Ours. What people copy works, and an editor agrees."""
    assert load(path.read_bytes(), name=str(path), defaults=Defaults()).stages
    assert complaints(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("text", [SEED_PART, EVERYTHING.replace("yes", "true").replace("clean: on", "clean: true")])
def test_what_loads_keeps_to_the_schema(text: str) -> None:
    """Seed and ours. Every form of every key is in it."""
    assert complaints(text) == []


def test_there_are_examples() -> None:
    """Ours. A wrong path would make the tests above pass with nothing."""
    assert {path.stem for path in EXAMPLES} >= {"ccu2-full-build", "embedded-linux", "firmware-matrix"}


@pytest.mark.parametrize(
    "stage",
    [
        {"name": "a"},
        {"name": "a", "command": "x", "uses": "idf.build"},
        {"name": "a b", "command": "x"},
        {"name": "a", "comand": "x"},
        {"name": "a", "uses": "idf.bild"},
        {"name": "a", "uses": "idf.build", "with": {"taget": "x"}},
        {"name": "a", "command": "x", "retry": {"on": ["lots"]}},
        {"name": "a", "command": "x", "timeout": "three hours"},
        {"name": "a", "command": "x", "allow_failure": "maybe"},
    ],
)
def test_schema_refuses_what_does_not_load(stage: dict[str, Any]) -> None:
    """Ours. An editor underlines a mistake while it is typed."""
    assert not Draft202012Validator(pipeline_schema()).is_valid({"pipeline": {"stages": [stage]}})
