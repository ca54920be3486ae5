"""The service against its own OpenAPI description: whatever is asked, the answer is one that it says there is."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_server.engine import start
from mcp_server.model import Plan, StageSpec
from tests.support.web_service import Service, web_service

pytestmark = pytest.mark.timeout(60)

Json = Mapping[str, Any]
Request = tuple[str, str, str, dict[str, str], Any]  # method, path of the description, address, query, body
EXAMPLES = 300
ENDLESS = "/api/events"
SLOW = ("/api/agents",)  # starts each agent's program to ask for its version
EDGES = [-1, 0, 1, 2, 200, 201, 2**31, 2**63 - 1, 2**63, 10**30]
KNOWN = {"build": "1", "project": "greenhouse", "stage": "build"}
WORDS = ["1", "greenhouse", "..", "a/../../b", "\0", "%00", "-", "é\u202e", "'; --", "9" * 400, "build:1.1", "null"]

texts = st.sampled_from(WORDS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
junk = st.recursive(
    st.none() | st.booleans() | st.sampled_from(EDGES) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=4,
)


def resolved(spec: Json, schema: Json) -> Json:
    """What a reference points to."""
    while "$ref" in schema:
        schema = spec["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def values(spec: Json, schema: Json, depth: int = 0) -> st.SearchStrategy[Any]:
    """Values that a schema allows, or nearly: limits and patterns are not kept on purpose."""
    schema = resolved(spec, schema)
    if "anyOf" in schema:
        return st.one_of(*(values(spec, one, depth) for one in schema["anyOf"]))
    if "enum" in schema:
        return st.sampled_from(list(schema["enum"]))
    match schema.get("type"):
        case "integer":
            return st.sampled_from(EDGES)
        case "number":
            return st.sampled_from(EDGES) | st.floats(allow_nan=False, allow_infinity=False)
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
        case "string":
            examples = ["build", "abc1234", "https://192.168.0.9/x.git", "pipeline: {name: p, stages: []}"]
            return texts | st.sampled_from(examples)
        case "array" if depth < 3:
            return st.lists(values(spec, schema.get("items", {}), depth + 1), max_size=3)
        case "object" if depth < 3 and "properties" in schema:
            needed = set(schema.get("required", ()))
            every = {name: values(spec, one, depth + 1) for name, one in schema["properties"].items()}
            return st.fixed_dictionaries(
                {name: one for name, one in every.items() if name in needed},
                optional={name: one for name, one in every.items() if name not in needed},
            )
        case _:
            return junk


def requests(spec: Json) -> st.SearchStrategy[Request]:
    """Any operation with parameters and a body that fit, or nearly, or not at all."""
    operations = [
        (method, path, cast("Json", operation))
        for path, item in spec["paths"].items()
        for method, operation in item.items()
        if path != ENDLESS and path not in SLOW
    ]

    @st.composite
    def one(draw: st.DrawFn) -> Request:
        method, path, operation = draw(st.sampled_from(operations))
        address, query = path, {}
        for parameter in operation.get("parameters", ()):
            value = draw(values(spec, parameter["schema"]) | texts)
            text, name = value if isinstance(value, str) else json.dumps(value), parameter["name"]
            if parameter["in"] == "path":
                if name in KNOWN and draw(st.booleans()):  # there is more behind what is there
                    text = KNOWN[name]
                # Without a segment it would be another route, and clients take dots out of addresses.
                address = address.replace(f"{{{name}}}", quote(text, safe="") if text.strip(".") else "0")
            elif parameter["in"] == "query" and draw(st.booleans()):
                query[name] = text
        schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        body = None if schema is None else draw(st.one_of(values(spec, schema), values(spec, schema), junk))
        return method, path, address, query, body

    return one()


def check(spec: Json, request: Request, status: int, kind: str, content: bytes) -> None:
    """The answer is described, to its media type and shape."""
    method, path, *_ = request
    responses = spec["paths"][path][method]["responses"]
    described = responses.get(str(status)) or responses.get(f"{status // 100}XX")
    assert status != 500
    assert described is not None, f"{status} is not described: {content[:300]!r}"
    media = kind.partition(";")[0]
    if not described.get("content") and not content:
        return
    assert media in described["content"], f"{status} as {media}: {content[:300]!r}"
    if media.endswith("json"):
        schema = {**described["content"][media].get("schema", {}), "components": spec["components"]}
        jsonschema.Draft202012Validator(schema).validate(json.loads(content))


async def a_build(service: Service, folder: Path) -> None:
    """Build 1 of project greenhouse, which nobody will ever run."""
    folder.mkdir()
    stage = StageSpec(name="build", kind="command", params={"command": "true", "project": str(folder)}, timeout_s=9)
    await service.orchestrator.start_plan(folder, Plan(stages=(stage,)), name="p")


def stays_asleep(home: Path, store: object) -> None:
    """In the place of waking the worker: what is ordered is never begun."""


def test_every_answer_is_as_described(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue: nothing that is asked leads to a 500, or to an answer that the description does not have."""
    monkeypatch.setattr(start, "poke", stays_asleep)
    with asyncio.Runner() as runner:
        around = web_service()
        service = runner.run(around.__aenter__())
        try:
            runner.run(a_build(service, tmp_path / "greenhouse"))
            spec = service.routes.openapi()

            @settings(
                derandomize=True, max_examples=EXAMPLES, database=None, suppress_health_check=[HealthCheck.too_slow]
            )
            @given(requests(spec))
            def ask(request: Request) -> None:
                method, _, address, query, body = request
                service.guarded._rates._left.clear()
                answer = runner.run(service.ask(method, address, params=query, json=body))
                check(spec, request, answer.status_code, answer.headers.get("content-type", ""), answer.content)

            ask()
        finally:
            runner.run(around.__aexit__(None, None, None))


async def test_numbers_and_names_that_nothing_can_hold_are_bad_input(home: Path) -> None:
    """Ours: found by asking at random. No database and no file system takes these."""
    async with web_service() as service:
        answers = [
            await service.ask("GET", f"/api/builds?after={2**63}"),
            await service.ask("GET", "/api/events", headers={"Last-Event-ID": str(2**63)}),
            await service.ask("POST", "/api/projects", json={"source": "9" * 400}),
        ]
    assert [answer.status_code for answer in answers] == [422, 422, 422]
    assert answers[2].json()["argument"] == "source"
