"""What is wrong with a round, found without a model: verdicts, tests, panics, sizes, warnings, dependencies."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, cast

from mcp_server.model import Diagnostic, Model, Stage, StageStatus

MOST_ISSUES = 50
MOST_OF_A_KIND = 10
FULL_PERCENT = 95.0  # of an app partition: the next feature will not fit
GROWN_PERCENT = 5.0  # since the last good build, and at least GROWN_BYTES
GROWN_BYTES = 4096
TESTS = ("idf.run", "idf.qemu", "idf.boot")


class Issue(Model):
    """One thing to mend or to know. `error` is what makes the round fail; `evidence` is a line of a log or a figure.

    `kind`: compile, test, panic, flash, run, stage, size, warning, dependency, untested or remark. `by` is "agent" of
    what a model added, which decides nothing.
    """

    severity: Literal["error", "warning", "info"]
    kind: str
    stage: str
    message: str
    file: str | None = None
    line: int | None = None
    evidence: str = ""
    by: str = ""


def examine(rows: Sequence[Stage], good: Sequence[Stage], sizes: Mapping[str, Any] | None = None) -> Sequence[Issue]:
    """The issues of the last attempts in `rows`, errors first; `good` are those of the last good build, to compare.

    `sizes`: of the firmware in this round, as `Sizes` writes them; those of `good` are in its rows.
    """
    found: list[Issue] = []
    for row in rows:
        if row.status is StageStatus.FAILED:
            found += _of_failure(row)
        elif row.verdict is not None:
            found += _of_tests(row)
    found += _of_sizes(rows, sizes, _sizes_in(good))
    found += _new_warnings(rows, good)
    found += _of_dependencies(rows)
    found += _untested(rows)
    order = {"error": 0, "warning": 1, "info": 2}
    return sorted(found, key=lambda issue: order[issue.severity])[:MOST_ISSUES]


def _of_failure(row: Stage) -> Iterator[Issue]:
    verdict = row.verdict
    if verdict is not None and verdict.diagnosis and verdict.diagnosis.errors:
        for error in verdict.diagnosis.errors[:MOST_OF_A_KIND]:
            yield _of_diagnostic(row, error, "compile", "error")
        return
    tests = list(_of_tests(row))
    yield from tests
    panic = _mapping(verdict.details.get("panic") if verdict else None)
    if panic:
        yield _of_panic(row, panic)
    elif not tests:
        summary = verdict.summary if verdict else row.reason or "failed"
        kind = {"idf.flash": "flash"}.get(row.kind, "run" if row.kind in TESTS else "stage")
        last = _texts(verdict.details.get("last_lines")) if verdict else []
        yield Issue(severity="error", kind=kind, stage=row.stage, message=summary[:500], evidence="\n".join(last[-3:]))


def _of_diagnostic(row: Stage, error: Diagnostic, kind: str, severity: Literal["error", "warning"]) -> Issue:
    return Issue(
        severity=severity,
        kind=kind,
        stage=row.stage,
        message=error.message[:500],
        file=error.file,
        line=error.line,
        evidence=(error.source or "").strip()[:200],
    )


def _of_tests(row: Stage) -> Iterator[Issue]:
    """Tests that failed, whatever the stage came to."""
    tests = _mapping(row.verdict.details.get("tests") if row.verdict else None)
    failed = [case for case in _mappings(tests.get("cases")) if case.get("result") == "fail"]
    for case in failed[:MOST_OF_A_KIND]:
        line = case.get("line")
        yield Issue(
            severity="error",
            kind="test",
            stage=row.stage,
            message=f"test {case.get('name')} failed: {case.get('message') or 'no message'}"[:500],
            file=str(case["file"]) if case.get("file") else None,
            line=line if isinstance(line, int) else None,
        )


def _of_panic(row: Stage, panic: Mapping[str, Any]) -> Issue:
    """A panic; its place is the first frame in the project's own files, where it was decoded."""
    frames = _mappings(panic.get("frames"))
    own = next((one for one in frames if one.get("file") and not str(one["file"]).startswith("/")), None)
    line = own.get("line") if own else None
    before = _texts(panic.get("before"))
    return Issue(
        severity="error",
        kind="panic",
        stage=row.stage,
        message=str(panic.get("cause") or panic.get("kind") or "panic")[:500],
        file=str(own["file"]) if own else None,
        line=line if isinstance(line, int) else None,
        evidence=(before[-1] if before else "")[:200],
    )


def _of_sizes(rows: Sequence[Stage], now: Mapping[str, Any] | None, before: Mapping[str, Any]) -> Iterator[Issue]:
    builder = next((row.stage for row in rows if row.verdict and row.verdict.artifacts), "build")
    app, old = _mapping((now or {}).get("app")), _mapping(before.get("app"))
    used, size, was = _number(app.get("used")), _number(app.get("size")), _number(old.get("used"))
    if size and 100 * used / size >= FULL_PERCENT:
        words = f"the app fills {100 * used / size:.1f} % of its partition"
        yield Issue(
            severity="warning", kind="size", stage=builder, message=words, evidence=f"{used:,} of {size:,} bytes"
        )
    if was and used - was >= GROWN_BYTES and 100 * (used - was) / was >= GROWN_PERCENT:
        words = f"the app grew by {100 * (used - was) / was:.1f} % since the last good build"
        yield Issue(
            severity="warning", kind="size", stage=builder, message=words, evidence=f"{was:,} to {used:,} bytes"
        )


def _new_warnings(rows: Sequence[Stage], good: Sequence[Stage]) -> Iterator[Issue]:
    """Warnings that the last good build did not have; all of them where there is none to compare with."""
    known = {_warning(one) for row in good for one in _warnings(row)}
    fresh = [(row, one) for row in rows for one in _warnings(row) if _warning(one) not in known]
    for row, one in fresh[:MOST_OF_A_KIND]:
        yield _of_diagnostic(row, one, "warning", "warning")


def _warnings(row: Stage) -> Sequence[Diagnostic]:
    return row.verdict.diagnosis.warnings if row.verdict and row.verdict.diagnosis else ()


def _warning(one: Diagnostic) -> tuple[str | None, str]:
    return one.file, one.message  # not its line, which moves


def _of_dependencies(rows: Sequence[Stage]) -> Iterator[Issue]:
    for row in rows:
        for what, names in _mapping(row.verdict.details.get("dependencies") if row.verdict else None).items():
            told = ", ".join(f"{name} {version}" for name, version in list(_mapping(names).items())[:MOST_OF_A_KIND])
            yield Issue(severity="info", kind="dependency", stage=row.stage, message=f"components {what}: {told}"[:500])


def _untested(rows: Sequence[Stage]) -> Iterator[Issue]:
    """A round in which everything was built and nothing was run says so."""
    built = [row for row in rows if row.kind in ("idf.build", "idf.remote") and row.status is StageStatus.SUCCESS]
    if built and not any(row.kind in TESTS and row.status is not StageStatus.SKIPPED for row in rows):
        yield Issue(
            severity="warning",
            kind="untested",
            stage=built[0].stage,
            message="built, and run neither here nor on a board",
        )


def last_attempts(rows: Iterable[Stage], round_: int) -> Sequence[Stage]:
    """The last attempt at each stage in a round, in the order they began."""
    return list({row.stage: row for row in rows if row.round == round_}.values())


def _sizes_in(rows: Sequence[Stage]) -> Mapping[str, Any]:
    found = [_mapping(row.verdict.details.get("sizes")) for row in rows if row.verdict]
    return next((one for one in reversed(found) if one), dict[str, Any]())


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else dict[str, Any]()


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [_mapping(one) for one in cast("Sequence[object]", value)] if isinstance(value, list | tuple) else []


def _texts(value: object) -> list[str]:
    return [str(one) for one in cast("Sequence[object]", value)] if isinstance(value, list | tuple) else []


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
