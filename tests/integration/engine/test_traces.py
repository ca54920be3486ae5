"""Traces of builds, as a collector gets them: real OTLP over HTTP, decoded."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from mcp_server.engine import traces
from mcp_server.orchestrator import Orchestrator
from mcp_server.store import events, identity
from mcp_server.views import BuildView
from tests.support import extras
from tests.support.http_peer import Peer, answer, http_peer
from tests.support.workers import worker_inside

extras.need("opentelemetry.exporter", "otel")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest  # noqa: E402
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status  # noqa: E402

pytestmark = [pytest.mark.timeout(60), pytest.mark.worker_inside]

PIPELINE = """
pipeline:
  name: pack
  stages:
  - {name: make, server: local, workdir: FOLDER, command: "echo s3cr3t > a.bin"}
  - {name: check, server: local, workdir: FOLDER, command: "echo s3cr3t; exit 3", depends_on: [make], retry: 0}
"""


@pytest_asyncio.fixture(autouse=True)
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Peer]:
    """One that takes everything; asked for by the environment of whatever starts here."""
    async with http_peer() as peer:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{peer.port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20collector-key")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        monkeypatch.setattr(traces, "AGAIN_S", (0.05,))
        yield peer


async def built(orchestrator: Orchestrator, folder: Path) -> BuildView:
    text = PIPELINE.replace("FOLDER", str(folder))
    started = await orchestrator.start_pipeline(await orchestrator.read_pipeline(text=text), folder)
    return await orchestrator.wait(started.build.id, 30)


async def told(peer: Peer, count: int) -> tuple[dict[str, str], list[Span]]:
    """The resource, and spans, once so many have come."""
    while True:
        spans: list[Span] = []
        resource: dict[str, str] = {}
        for got in peer.got:
            for one in ExportTraceServiceRequest.FromString(got.body).resource_spans:
                resource = {pair.key: pair.value.string_value for pair in one.resource.attributes}
                spans += [span for scope in one.scope_spans for span in scope.spans]
        if len(spans) >= count:
            return resource, spans
        peer.arrived.clear()
        await peer.arrived.wait()


def attributes(span: Span) -> dict[str, Any]:
    pairs = {pair.key: pair.value for pair in span.attributes}
    return {key: value.string_value or value.int_value for key, value in pairs.items()}


async def test_a_build_is_a_trace_of_its_own_stages_in_the_words_of_the_conventions(
    orchestrator: Orchestrator, tmp_path: Path, collector: Peer
) -> None:
    """Issue. Its number is the build's, times and results are those of the rows; nothing of a log is in it."""
    view = await built(orchestrator, tmp_path)
    async with asyncio.timeout(20):
        resource, spans = await told(collector, 4)

    by_name = {span.name: span for span in spans}
    root, make, check = by_name["RUN pack"], by_name["make"], by_name["check"]
    assert {span.trace_id for span in spans} == {UUID(view.build.task_id).bytes}
    assert root.kind == Span.SPAN_KIND_SERVER and not root.parent_span_id
    assert {span.parent_span_id for span in spans if span is not root} == {root.span_id}
    assert len({span.span_id for span in spans}) == 4 and set(by_name) == {"RUN pack", "queue", "make", "check"}
    said = attributes(root)
    assert (said["cicd.pipeline.name"], said["cicd.pipeline.run.id"]) == ("pack", str(view.build.id))
    assert (said["cicd.pipeline.result"], said["error.type"]) == ("failure", view.build.reason)
    assert root.status.code == check.status.code == Status.STATUS_CODE_ERROR
    assert make.status.code == Status.STATUS_CODE_UNSET
    said = attributes(check)
    assert (said["cicd.pipeline.task.run.result"], said["process.exit.code"]) == ("failure", 3)
    assert said["cicd.worker.name"] == "local" and "error.type" not in attributes(make)
    row = next(one for one in view.stages if one.stage == "check")
    assert row.started_at is not None and abs(check.start_time_unix_nano / 1e9 - row.started_at.timestamp()) < 1e-3
    assert root.start_time_unix_nano <= make.start_time_unix_nano <= make.end_time_unix_nano <= root.end_time_unix_nano
    assert (resource["service.name"], resource["deployment.environment.name"]) == ("build-orchestrator", "test")
    assert collector.got[0].headers["authorization"] == "Bearer collector-key"
    assert b"s3cr3t" not in b"".join(got.body for got in collector.got)


async def test_a_dead_collector_costs_no_build_and_is_told_when_it_is_back(
    orchestrator: Orchestrator, tmp_path: Path, collector: Peer
) -> None:
    """Issue. Refused, then silent: builds take no longer; then all of it comes, once."""
    silence = asyncio.Event()
    collector.answers = [answer(400), answer()]

    async def silent(*_: object) -> None:
        await silence.wait()

    first = await built(orchestrator, tmp_path)
    collector.talk = silent
    second = await built(orchestrator, tmp_path)
    assert (first.build.duration or 99) < 5 and (second.build.duration or 99) < 5
    collector.talk = None
    silence.set()
    async with asyncio.timeout(20):
        store = await orchestrator.store()
        while (await store.read(lambda c: identity.number(c, identity.TRACED)) or 0) < await store.read(events.last_id):  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.05)
    _, spans = await told(collector, 8)
    assert {span.trace_id for span in spans} == {UUID(one.build.task_id).bytes for one in (first, second)}


async def test_what_a_worker_that_was_ended_had_not_told_the_next_one_tells(
    home: Path, tmp_path: Path, collector: Peer
) -> None:
    """Issue. The number of what was told is in the database, behind what it tells of."""
    hold = asyncio.Event()

    async def silent(*_: object) -> None:
        await hold.wait()

    collector.talk = silent
    from mcp_server.config import load_config  # noqa: PLC0415

    orchestrator = Orchestrator(load_config())
    async with worker_inside(home):
        view = await built(orchestrator, tmp_path)
    collector.talk = None
    collector.got.clear()
    async with worker_inside(home):
        again = await built(orchestrator, tmp_path)
        async with asyncio.timeout(20):
            _, spans = await told(collector, 8)
        assert {span.trace_id for span in spans} == {UUID(one.build.task_id).bytes for one in (view, again)}
        await orchestrator.aclose()


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
    ],
)
def test_only_who_asks_by_opentelemetrys_own_variables_has_traces(environment: dict[str, str], wanted: bool) -> None:
    """Spec. OpenTelemetry's."""
    assert traces.is_wanted(environment) is wanted


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER is 'zipkin'; it takes otlp or none"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "is 'grpc'; it takes http/protobuf"),
    ],
)
def test_what_cannot_be_done_is_said(environment: dict[str, str], said: str) -> None:
    """Ours."""
    with pytest.raises(ValueError, match=said):
        traces._exporter(environment)
