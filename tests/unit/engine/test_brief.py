"""What a code agent is told of a failed round."""

from pathlib import Path
from typing import Any

from mcp_server.engine.brief import MAX_BYTES, Brief, Round, prompt
from mcp_server.model import Diagnosis, Diagnostic, Stage, StageStatus, Verdict


def row(name: str, kind: str = "idf.build", *, round_: int = 1, status: str = "failed", **verdict: Any) -> Stage:
    given = Verdict.model_validate({"result": "pass" if status == "success" else "fail", **verdict})
    return Stage(build=1, stage=name, round=round_, kind=kind, host="local", status=StageStatus(status), verdict=given)


def error(file: str, line: int = 3, message: str = "no y") -> Diagnosis:
    one = Diagnostic(severity="error", kind="compile", message=message, file=file, line=line)
    return Diagnosis(errors=(one,), hints=("add y",))


def source(folder: Path, name: str = "main/a.c", lines: int = 40) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(f"line {number}\n" for number in range(1, lines + 1)))


def test_it_has_the_error_its_hint_and_the_lines_around(tmp_path: Path) -> None:
    """Issue: diagnosis, the lines around."""
    source(tmp_path)
    rows = [row("build", diagnosis=error("main/a.c", 20)), row("qa", "qa", summary="1 error")]
    text = prompt(Brief(tmp_path, [Round(1, rows)], of=3))

    assert "What failed in round 1 of 3" in text and "no y" in text and "hint: add y" in text
    assert "   20 | line 20" in text and "   12 | line 12" in text and "   28 | line 28" in text
    assert "line 11\n" not in text and "line 29" not in text
    assert "stage qa" not in text  # it says the same in other words


def test_quality_alone_tells_its_issues(tmp_path: Path) -> None:
    """Ours. Where everything passed and quality did not, its issues are all there is."""
    issues = [{"severity": "error", "kind": "test", "file": "main/t.c", "line": 9, "message": "test closes failed"}]
    text = prompt(Brief(tmp_path, [Round(1, [row("qa", "qa", summary="1 error", details={"issues": issues})])], of=3))

    assert "error: main/t.c:9 test closes failed" in text


def test_it_has_the_diff_so_far_and_what_was_tried(tmp_path: Path) -> None:
    """Issue."""
    fix = row("fix", "agent.fix", status="success", summary="x changed main/a.c +1 -1")
    rounds = [Round(1, [row("build", diagnosis=error("main/a.c"))], fix), Round(2, [row("qemu", summary="no line")])]
    text = prompt(Brief(tmp_path, rounds, of=3, diff="--- a/main/a.c\n+++ b/main/a.c\n", wish="a clock"))

    assert "# Changed so far\n\n--- a/main/a.c" in text
    assert "round 1 failed: " in text and "then: x changed main/a.c +1 -1" in text
    assert "What failed in round 2 of 3" in text and "no line" in text and "a clock" in text


def test_it_is_bounded_whatever_failed(tmp_path: Path) -> None:
    """Issue: within a byte budget. The verdict and the limits are still in it."""
    source(tmp_path, lines=100_000)
    (tmp_path / "main/wide.c").write_text("x" * 500_000)
    errors = [row(f"b{n}", summary="s" * 9_000, diagnosis=error("main/wide.c", 1, "é" * 20_000)) for n in range(30)]
    rounds = [Round(n, errors, row("fix", summary="z" * 9_000)) for n in range(1, 20)]
    text = prompt(Brief(tmp_path, rounds, of=20, diff="d" * 1_000_000, allowed=("main/**",), wish="w" * 200_000))

    assert len(text.encode()) <= MAX_BYTES
    assert "Files you may change: main/**. Commands you may run: none." in text
    assert "# What failed in round 19 of 20" in text


def test_nothing_outside_of_the_copy_is_read(tmp_path: Path) -> None:
    """Ours. A log says any path, and a link may lead anywhere."""
    (tmp_path / "secret.c").write_text("the secret\n" * 9)
    folder = tmp_path / "copy"
    source(folder)
    (folder / "main/link.c").symlink_to(tmp_path / "secret.c")
    names = ("../secret.c", str(tmp_path / "secret.c"), "main/link.c", "main/gone.c", ".git/config")
    for name in names:
        assert "the secret" not in prompt(Brief(folder, [Round(1, [row("b", diagnosis=error(name))])], of=3))
