"""Builds that are over told to an OpenTelemetry collector, behind their end: no build waits, and none is forgotten.

Where OpenTelemetry's own variables say so. What was told is a number in the database, so a worker that is killed costs
no trace, nor does a collector that is away, unless for a day.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import sqlalchemy as sa

from mcp_server.engine.spans import spans_of
from mcp_server.errors import StoreError
from mcp_server.model import Build, Project, Stage
from mcp_server.store import builds, identity
from mcp_server.store.events import ended_builds, last_id
from mcp_server.store.identity import TRACED

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

    from mcp_server.engine.services import Services

T = TypeVar("T")
log = logging.getLogger(__name__)

AT_ONCE = 20  # builds
SCAN_S = 60
AGAIN_S = (5, 30, 120, 600)
GIVEN_UP = timedelta(days=1)

Whole = tuple[Build, Project, Sequence[Stage]]


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Whether the environment asks for traces, by OpenTelemetry's own variables."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    named = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    places = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return named != "none" and bool(named or any(environment.get(name) for name in places))


class Traces:
    """What one worker tells a collector."""

    def __init__(self, services: "Services") -> None:
        self._services = services
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """A build is over."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled; returns at once where nobody wants traces, or nothing here can make any."""
        environment = self._services.environment
        if not is_wanted(environment):
            return
        try:
            await self._begin()
            exporter = await asyncio.to_thread(_exporter, environment)
        except (ImportError, ValueError, StoreError) as error:
            log.warning("no traces: %s", error)
            return
        failures = 0
        try:
            while True:
                self._wake.clear()
                try:
                    while await self._tell(exporter):
                        failures = 0
                except (StoreError, ConnectionError) as error:
                    failures += 1
                    log.warning("traces are not taken, trying again: %s", error)
                except Exception:  # a fault of ours costs traces, never a build
                    failures += 1
                    log.exception("traces")
                pause = AGAIN_S[min(failures, len(AGAIN_S)) - 1] if failures else SCAN_S
                with contextlib.suppress(TimeoutError):
                    wait = self._services.clock.sleep(pause) if failures else self._wake.wait()
                    await self._services.clock.within(pause + 1, wait)
        finally:
            exporter.shutdown()

    async def _tell(self, exporter: "SpanExporter") -> bool:
        """The next builds; False: there are none. ConnectionError: the collector does not take them."""
        store, cursor = self._services.store, await self._begin()
        since = self._services.clock.now() - GIVEN_UP
        found, up_to = await store.read(lambda c: _next(c, cursor))
        if up_to == cursor:
            return False
        if spans := self._spans([one for one in found if (one[0].completed_at or since) >= since]):
            await _apart(lambda: _export(exporter, spans))
        await store.write(lambda c: identity.put_meta(c, {TRACED: str(up_to)}))
        return True

    async def _begin(self) -> int:
        """Up to which event builds' ends were told; the first time from now on: what was before was nobody's wish."""
        store = self._services.store
        if (cursor := await store.read(lambda c: identity.number(c, TRACED))) is not None:
            return cursor

        def first(c: sa.Connection) -> int:
            newest = last_id(c)
            identity.put_meta(c, {TRACED: str(newest)})
            return newest

        return await store.write(first)

    def _spans(self, found: Sequence[Whole]) -> "list[ReadableSpan]":
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - of an extra

        github = self._services.config.webhooks.github
        name = self._services.environment.get("OTEL_SERVICE_NAME") or "build-orchestrator"
        resource = Resource.create({"service.name": name})
        place = github.url if github else None
        return [span for build, project, rows in found for span in spans_of(build, project, rows, resource, place)]


def _next(c: sa.Connection, cursor: int) -> tuple[list[Whole], int]:
    """The next builds that were over, and up to which event that was looked."""
    numbers, up_to = ended_builds(c, cursor, AT_ONCE)
    found = [builds.get_build(c, number) for number in numbers]
    return [(one, builds.get_project(c, one.project_id), builds.stages_of(c, one.id)) for one in found], up_to


def _exporter(environment: Mapping[str, str]) -> "SpanExporter":
    """ImportError, ValueError: one sentence."""
    named = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower() or "otlp"
    if named != "otlp":
        raise ValueError(f"OTEL_TRACES_EXPORTER is {named[:40]!r}; it takes otlp or none")
    protocol = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol not in (None, "", "http/protobuf"):
        raise ValueError(f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol[:40]!r}; it takes http/protobuf")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
    except ImportError:
        raise ImportError("OTEL_… asks for them: that needs `pip install 'build-orchestrator[otel]'`") from None
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # what it has to say is said here, once
    return OTLPSpanExporter()


def _export(exporter: "SpanExporter", spans: "Sequence[ReadableSpan]") -> None:
    from opentelemetry.sdk.trace.export import SpanExportResult  # noqa: PLC0415 - of an extra

    if exporter.export(spans) is not SpanExportResult.SUCCESS:
        raise ConnectionError("the collector does not answer, or refuses them")


async def _apart(work: Callable[[], T]) -> T:
    """In a thread that a worker which leaves does not wait for: a dead collector takes its time."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: Exception | None) -> None:
        if not done.done():
            _ = done.set_result(result) if error is None else done.set_exception(error)  # pyright: ignore[reportArgumentType]

    def run() -> None:
        try:
            result, failed = work(), None
        except Exception as error:
            result, failed = None, error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, result, failed)

    threading.Thread(target=run, name="traces", daemon=True).start()
    return await done
