"""What one build left and weighs against another, as values: from what is recorded, so no file need be there any more.

May import: idf, model, report_parts, report_sizes, views. Never: store, engine, a front.
"""

from typing import TYPE_CHECKING, Any

from mcp_server import report_parts
from mcp_server.report_sizes import sizes_of

if TYPE_CHECKING:
    from mcp_server.views import BuildView

Values = dict[str, Any]


def compared(view: "BuildView", other: "BuildView") -> Values:
    """`files` that are new, gone or changed, by hash; how many are `unchanged`; `sizes` of stages that tell them."""
    now, then = ({one.path: one for one in each.artifacts} for each in (view, other))
    same = {path for path in now if path in then and now[path].sha256 == then[path].sha256}
    files = [
        {
            "path": path,
            "change": "new" if path not in then else "gone" if path not in now else "changed",
            "size": now[path].size if path in now else None,
            "was": then[path].size if path in then else None,
        }
        for path in sorted({*now, *then} - same)
    ]
    return {
        "build": view.build.id,
        "to": other.build.id,
        "unchanged": len(same),
        "files": files,
        "sizes": _sizes(view, other),
    }


def _sizes(view: "BuildView", other: "BuildView") -> list[Values]:
    """The app's partition and each memory, in bytes, of both; what one of the two has not recorded is null."""
    found: list[Values] = []
    rows, earlier = report_parts.newest(view), report_parts.newest(other)
    for stage in dict.fromkeys((*rows, *earlier)):
        now, was = (sizes_of(each[stage]) if stage in each else None for each in (rows, earlier))
        used, before = (
            {} if one is None else {memory.name: memory.used for memory in one.memory} for one in (now, was)
        )
        if now and now.app:
            used = {"app": now.app.used, **used}
        if was and was.app:
            before = {"app": was.app.used, **before}
        found += [
            {"stage": stage, "what": what, "size": used.get(what), "was": before.get(what)}
            for what in dict.fromkeys((*used, *before))
        ]
    return found
