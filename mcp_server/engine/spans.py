"""A build that is over as spans of one trace, by the semantic conventions for CI/CD; nothing that may be secret.

Numbers of traces and spans come from the build's own, so whoever sends a build's spans again sends the same ones.
Imports OpenTelemetry when it is used: it is an extra.
"""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mcp_server import __version__
from mcp_server.model import Build, BuildStatus, Project, Stage, StageStatus
from mcp_server.store.builds import phase_of

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

_TASK_TYPES = {"test": "test", "build": "build"}
_DEPLOYS = frozenset({"idf.flash", "git.push", "git.deliver", "ci.wait"})
_RESULTS = {
    BuildStatus.SUCCESS: "success",
    BuildStatus.FAILED: "failure",
    BuildStatus.CANCELLED: "cancellation",
    StageStatus.SUCCESS: "success",
    StageStatus.FAILED: "failure",
    StageStatus.CANCELLED: "cancellation",
    StageStatus.SKIPPED: "skip",
}
_ERRORS = frozenset(
    {"lost", "internal", "unreachable", "store", "archive", "disk_full"}
)  # nobody's firmware is to blame


@dataclass(frozen=True, slots=True)
class _Made:
    """A span before it is one."""

    key: str
    name: str
    began: datetime
    ended: datetime
    result: str
    reason: str | None
    attributes: Mapping[str, Any]


def spans_of(
    build: Build, project: Project, stages: Sequence[Stage], resource: "Resource", place: str | None
) -> "list[ReadableSpan]":
    """The build's span, then one for its wait and one for each attempt that began. `place`: the service's address."""
    ended = build.completed_at or build.created_at
    url = f"{place}/#/build/{build.id}" if place else None
    root = _Made(
        "",
        f"RUN {build.name}",
        build.created_at,
        ended,
        _result(_RESULTS.get(build.status), build.reason),
        build.reason,
        {
            "cicd.pipeline.name": build.name,
            "cicd.pipeline.action.name": "RUN",
            "cicd.pipeline.run.id": str(build.id),
            "cicd.pipeline.run.url.full": url,
            "cicd.pipeline.result": _result(_RESULTS.get(build.status), build.reason),
            "vcs.ref.head.name": build.branch,
            "vcs.ref.head.revision": build.commit_sha or None,
            "build_orchestrator.project": project.name,
            "build_orchestrator.target": build.target,
            "build_orchestrator.trigger": build.triggered_by,
            "build_orchestrator.rounds": build.round,
            "build_orchestrator.retry_of": build.retry_of,
        },
    )
    made = [root]
    if (began := build.started_at or ended) > build.created_at:
        waited = {"cicd.pipeline.run.state": "pending"}
        made.append(_Made("queue", "queue", build.created_at, began, "success", None, waited))
    made += [_of_stage(stage, ended, url) for stage in stages if stage.started_at is not None]
    return [_span(build, one, root, resource) for one in made]


def _of_stage(stage: Stage, over: datetime, url: str | None) -> _Made:
    assert stage.started_at is not None
    key = f"{stage.stage}:{stage.round}.{stage.attempt}"
    result = _result(_RESULTS.get(stage.status), stage.reason)
    kind = "deploy" if stage.kind in _DEPLOYS else _TASK_TYPES.get(phase_of(stage.kind))
    attributes = {
        "cicd.pipeline.task.name": stage.stage,
        "cicd.pipeline.task.run.id": f"{stage.build}/{key}",
        "cicd.pipeline.task.run.url.full": url and f"{url}/log/{key}",
        "cicd.pipeline.task.run.result": result,
        "cicd.pipeline.task.type": kind,
        "cicd.worker.name": stage.host,
        "process.exit.code": stage.exit_code,
        "build_orchestrator.stage.kind": stage.kind,
        "build_orchestrator.round": stage.round,
        "build_orchestrator.attempt": stage.attempt,
    }
    return _Made(key, stage.stage, stage.started_at, stage.ended_at or over, result, stage.reason, attributes)


def _result(result: str | None, reason: str | None) -> str:
    if result != "failure":
        return result or "error"
    return "timeout" if reason == "timeout" else "error" if reason in _ERRORS else "failure"


def _span(build: Build, made: _Made, root: _Made, resource: "Resource") -> "ReadableSpan":
    from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415 - of an extra
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415 - the same
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags  # noqa: PLC0415 - the same

    def context(key: str) -> SpanContext:
        number = int.from_bytes(hashlib.sha256(f"{build.task_id} {key}".encode()).digest()[:8]) or 1
        flags = TraceFlags(TraceFlags.SAMPLED)
        return SpanContext(uuid.UUID(build.task_id).int, number, is_remote=False, trace_flags=flags)

    fell = made.result in ("failure", "error", "timeout")
    attributes = {name: value for name, value in made.attributes.items() if value is not None}
    if fell:
        attributes["error.type"] = made.reason or made.result
    return ReadableSpan(
        name=made.name,
        context=context(made.key),
        parent=None if made is root else context(root.key),
        resource=resource,
        attributes=attributes,
        kind=SpanKind.SERVER if made is root else SpanKind.INTERNAL,
        instrumentation_scope=InstrumentationScope("build-orchestrator", __version__),
        status=Status(StatusCode.ERROR, made.reason) if fell else Status(StatusCode.UNSET),
        start_time=_nanoseconds(made.began),
        end_time=max(_nanoseconds(made.ended), _nanoseconds(made.began)),
    )


def _nanoseconds(time: datetime) -> int:
    return int(time.timestamp()) * 1_000_000_000 + time.microsecond * 1000
