"""What is the same mistake, where the next round runs, and which evidence counts."""

from typing import Any

import pytest

from mcp_server.engine.rounds import evidence, first_cause
from mcp_server.model import Diagnosis, Diagnostic, Stage, StageSpec, StageStatus, Sync, Verdict
from mcp_server.moved import moved


def failed(message: str, line: int, file: str = "main/a.c", source: str = "x = y;") -> Stage:
    error = Diagnostic(severity="error", kind="compile", message=message, file=file, line=line, source=source)
    return row("build", verdict=Verdict(result="fail", diagnosis=Diagnosis(errors=(error,))))


def row(name: str, round_: int = 1, kind: str = "idf.build", status: str = "failed", **more: Any) -> Stage:
    return Stage(build=1, stage=name, round=round_, kind=kind, host="local", status=StageStatus(status), **more)


def test_a_mistake_that_moved_is_the_same() -> None:
    """Ours. Lines and numbers in a message move with every edit above them."""
    assert first_cause(failed("overflow of 3 bytes", 8)) == first_cause(failed("overflow of 0x12 bytes", 12))


@pytest.mark.parametrize(
    "other",
    [failed("no y", 8, file="main/b.c"), failed("no z", 8), failed("no y", 8, source="z = y;")],
    ids=["file", "message", "source"],
)
def test_another_mistake_is_another_cause(other: Stage) -> None:
    """Ours."""
    assert first_cause(other) != first_cause(failed("no y", 8))


def test_without_a_diagnosis_the_summary_and_the_stage_tell() -> None:
    """Ours."""
    one = row("qemu", verdict=Verdict(result="fail", summary="expected line not seen in 30 s"))
    assert first_cause(one) == first_cause(
        row("qemu", verdict=Verdict(result="fail", summary="expected line not seen in 10 s"))
    )
    assert first_cause(one) != first_cause(row("boot", verdict=one.verdict))
    assert first_cause(row("qemu"))  # without any verdict


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("/ws", "/copy"),
        ("/ws/build", "/copy/build"),
        ("/wsx/build", "/wsx/build"),
        ("/a/ws/build", "/a/ws/build"),
        ("make -C /ws/app all", "make -C /copy/app all"),
        ("cd '/ws' && PATH=/ws/bin:/bin ./x", "cd '/copy' && PATH=/copy/bin:/bin ./x"),
        (["/ws/a", {"b": "/ws"}, 3, None], ["/copy/a", {"b": "/copy"}, 3, None]),
    ],
)
def test_every_path_of_the_project_is_that_of_the_copy(given: object, wanted: object) -> None:
    """Ours. A command that names the project would else build what was not mended, and prove nothing."""
    spec = StageSpec(name="a", kind="command", params={"x": given}, directory="/ws/build", timeout_s=1)
    spec = spec.model_copy(update={"sync": Sync(source="local", path="/ws")})
    found = moved(spec, "/ws", "/copy")

    assert (found.params["x"], found.directory, found.sync) == (
        wanted,
        "/copy/build",
        Sync(source="local", path="/copy"),
    )


def test_evidence_is_of_the_last_round_unless_a_copy_was_mended() -> None:
    """Ours. What failed in a mended copy is not what is wrong with the project."""
    first, again, second = row("build"), row("build", attempt=2), row("build", 2)
    mended = row("fix", kind="agent.fix", status="success")

    assert evidence([first, again]) == [again]
    assert evidence([first, again, second]) == [second]
    assert evidence([first, again, mended, second]) == [again]
    assert evidence([]) == []
