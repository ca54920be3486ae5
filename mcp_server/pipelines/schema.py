"""The JSON Schema of a pipeline file, made from its models; `pipeline.schema.json` beside this file is its copy."""

import json
from pathlib import Path
from typing import Any, cast

from mcp_server.pipelines.stage import SKIP_KEYS, WITH, PipelineFile, StageEntry

FILE = Path(__file__).with_name("pipeline.schema.json")


def pipeline_schema() -> dict[str, Any]:
    """The schema, draft 2020-12."""
    schema = PipelineFile.model_json_schema()
    stage = StageEntry.model_json_schema()
    definitions: dict[str, Any] = schema["$defs"] | stage.pop("$defs", {})
    stage["oneOf"] = [{"required": ["command"]}, {"required": ["uses"]}]
    stage["allOf"] = [_with(name, definitions) for name in WITH]
    definitions["StageEntry"] = stage
    definitions["PipelineBlock"]["properties"]["stages"]["items"] = {"$ref": "#/$defs/StageEntry"}
    schema["patternProperties"] = {f"^{SKIP_KEYS}": {}}
    schema["title"] = "build-orchestrator pipeline"
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "$defs": dict(sorted(definitions.items())),
    }
    return _bare(whole)


def _with(uses: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """`with` as `uses` takes it."""
    model = WITH[uses]
    made = model.model_json_schema()
    definitions.update(made.pop("$defs", {}))
    definitions[model.__name__] = made
    then: dict[str, Any] = {"properties": {"with": {"$ref": f"#/$defs/{model.__name__}"}}}
    if made.get("required"):
        then["required"] = ["with"]
    return {"if": {"properties": {"uses": {"const": uses}}, "required": ["uses"]}, "then": then}


def schema_text() -> str:
    """The schema as its file has it."""
    return json.dumps(pipeline_schema(), indent=2, ensure_ascii=False) + "\n"


def _bare(value: Any, *, within_properties: bool = False) -> Any:
    """Without the titles that repeat a key's name."""
    if isinstance(value, list):
        return [_bare(item) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    given = cast("dict[str, Any]", value)
    return {
        key: _bare(item, within_properties=key in ("properties", "$defs"))
        for key, item in given.items()
        if key != "title" or within_properties or "$schema" in given
    }
