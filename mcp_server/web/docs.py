"""/api/docs: the whole API on one page that loads nothing from anywhere, made from its OpenAPI description."""

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, cast

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

router = APIRouter()

Json = Mapping[str, Any]
METHODS = ("get", "post", "put", "patch", "delete")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
STYLE = """
:root { color-scheme: light dark; --line: #8885; --soft: #8882; --mark: #2563eb }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem }
code, pre { font: 14px/1.45 ui-monospace, monospace } pre { background: var(--soft); padding: .6rem; overflow-x: auto }
article { border-top: 1px solid var(--line); padding: .6rem 0 } h3 { margin: .4rem 0; overflow-wrap: anywhere }
h3 b { color: var(--mark); display: inline-block; min-width: 4.5rem }
table { border-collapse: collapse; width: 100% } nav { display: flex; flex-wrap: wrap; gap: 0 1rem }
td, th { text-align: left; vertical-align: top; padding: .15rem .6rem .15rem 0 }
td { border-top: 1px solid var(--line) }
@media (max-width: 40rem) { th { display: none } td { display: block } td + td { border: 0 } }
"""


@router.get("/api/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """The page."""
    return HTMLResponse(page(request.app.openapi(), str(request.base_url).rstrip("/")), headers=HEADERS)


def page(spec: Json, base_url: str) -> str:
    """The page of an OpenAPI description; `base_url` is where its examples send to."""
    sections = _sections(spec)
    links = "".join(f'<a href="#{_anchor(tag)}">{escape(tag)}</a>' for tag in sections)
    parts = [f"<h2 id='{_anchor(tag)}'>{escape(tag)}</h2>{''.join(found)}" for tag, found in sections.items()]
    title = escape(f"{spec['info']['title']} {spec['info']['version']}")
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{title} · API</title><style>{STYLE}</style><h1>{title} · API</h1>"
        f"<p>{_prose(spec['info'].get('description', ''))} "
        f"<a href='/api/openapi.json'>openapi.json</a></p><nav>{links}</nav>"
        + "".join(parts).replace("{BASE}", escape(base_url))
        + "</html>"
    )


def _sections(spec: Json) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path, item in cast("Mapping[str, Json]", spec["paths"]).items():
        for method in (method for method in METHODS if method in item):
            operation = cast("Json", item[method])
            tag = str((operation.get("tags") or ["other"])[0])
            found.setdefault(tag, []).append("".join(_operation(spec, method, path, operation)))
    return found


def _operation(spec: Json, method: str, path: str, operation: Json) -> Iterator[str]:
    yield f"<article><h3><b>{method.upper()}</b> <code>{escape(path)}</code></h3>"
    yield f"<p>{_prose(operation.get('description', ''))}</p>"
    rows = [_parameter(spec, one) for one in cast("Sequence[Json]", operation.get("parameters", ()))]
    body = _resolved(spec, _content(operation.get("requestBody", {})))
    rows += [_property(spec, name, one, name in body.get("required", ())) for name, one in _properties(body)]
    if rows:
        yield f"<table><tr><th>name<th>where<th>what{''.join(rows)}</table>"
    yield _answer(spec, operation)
    example = next(iter(body.get("examples", ())), None)
    yield f"<pre>{escape(_curl(method, path, example, has_body=bool(body)))}</pre></article>"


def _parameter(spec: Json, one: Json) -> str:
    schema = cast("Json", one["schema"])
    needed = " (needed)" if one.get("required") else _default(schema)
    return _row(one["name"], one["in"], f"{_type(spec, schema)}{needed}", str(one.get("description", "")))


def _default(schema: Json) -> str:
    return f" · default {json.dumps(schema['default'])}" if schema.get("default") is not None else ""


def _property(spec: Json, name: str, one: Json, needed: bool) -> str:
    kind = _type(spec, one) + (" (needed)" if needed else _default(one))
    return _row(name, "body", kind, str(one.get("description", "")))


def _answer(spec: Json, operation: Json) -> str:
    """What comes back where all is well: the keys of its object, or that it is a list of them."""
    for status, one in sorted(cast("Mapping[str, Json]", operation.get("responses", {})).items()):
        if not status.startswith("2"):
            continue
        schema = _content(one)
        listed = schema.get("type") == "array"
        keys = ", ".join(name for name, _ in _properties(_resolved(spec, schema.get("items", schema))))
        inside = ("[{…}]" if listed else "") if not keys else (f"[{{{keys}}}]" if listed else f"{{{keys}}}")
        return f"<p>answers {escape(status)} <code>{escape(inside)}</code></p>" if inside else ""
    return ""


def _row(name: str, where: str, kind: str, said: str) -> str:
    told = escape(kind) + (f"<br>{_prose(said)}" if said else "")
    return f"<tr><td><code>{escape(name)}</code><td>{escape(where)}<td>{told}"


def _type(spec: Json, schema: Json) -> str:
    """`string`, `one of a, b`, `list of string`; that something may be left out goes without saying."""
    if choices := schema.get("enum"):
        return "one of " + ", ".join(map(str, choices))
    if several := schema.get("anyOf"):
        return " or ".join(dict.fromkeys(_type(spec, one) for one in several if one.get("type") != "null"))
    if schema.get("$ref"):
        whole = _resolved(spec, schema)
        return _type(spec, whole) if "enum" in whole else str(schema["$ref"]).rsplit("/", 1)[-1]
    if schema.get("type") == "array":
        return f"list of {_type(spec, schema.get('items', {}))}"
    return str(schema.get("type", "anything"))


def _properties(schema: Json) -> Iterator[tuple[str, Json]]:
    yield from cast("Mapping[str, Json]", schema.get("properties", {})).items()


def _content(body: Json) -> Json:
    return body.get("content", {}).get("application/json", {}).get("schema", {})


def _resolved(spec: Json, schema: Json) -> Json:
    """A schema without its reference; of `X or null` the X."""
    for one in schema.get("anyOf", ()):
        if one.get("type") != "null":
            return _resolved(spec, one)
    reference = str(schema.get("$ref", ""))
    return spec["components"]["schemas"][reference.rsplit("/", 1)[-1]] if reference else schema


def _curl(method: str, path: str, example: Any, *, has_body: bool) -> str:
    words = ["curl", *(["-X", method.upper()] if method != "get" else []), f"'{{BASE}}{path}'"]
    lines = [" ".join(words), '-H "Authorization: Bearer $TOKEN"']
    if has_body and example is not None:
        lines += ["-H 'Content-Type: application/json'", f"-d '{json.dumps(example)}'"]
    return " \\\n  ".join(lines)


def _prose(text: str) -> str:
    """`code` and paragraphs of a docstring."""
    parts = escape(str(text)).split("`")
    return "".join(f"<code>{part}</code>" if at % 2 else part.replace("\n\n", "<br>") for at, part in enumerate(parts))


def _anchor(tag: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in tag)
