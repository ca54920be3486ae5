"""Messages: the seed's forms, the first cause, never more than 600 characters."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mcp_server.model import (
    Build,
    BuildStatus,
    Diagnosis,
    Diagnostic,
    Ending,
    Plan,
    Stage,
    StageSpec,
    StageStatus,
    Verdict,
)
from mcp_server.notify import messages

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NAMES = ("yocto-image", "host-build", "tests")


def build(status: str = "running", stages: int = 3, **more: Any) -> Build:
    ending = Ending(notify=("discord",))
    specs = tuple(StageSpec(name=name, kind="command") for name in NAMES[:stages])
    values: dict[str, Any] = {
        "id": 42,
        "project_id": "p",
        "status": BuildStatus(status),
        "created_at": NOW,
        "task_id": "t",
        "name": "ccu2-full-build",
        "plan": Plan(stages=specs, on_failure=ending, on_success=ending),
        "args_key": "k",
    }
    return Build(**{**values, **more})


def stage(name: str = "yocto-image", status: str = "success", seconds: float = 2700, **more: Any) -> Stage:
    values: dict[str, Any] = {"build": 42, "stage": name, "kind": "command", "host": "fast", "started_at": NOW}
    ends: dict[str, Any] = {"status": StageStatus(status), "ended_at": NOW + timedelta(seconds=seconds)}
    return Stage(**{**values, **ends, **more})


def failed(text: str = "CMake error in container-manager", **more: Any) -> Stage:
    found = Diagnostic(severity="error", kind="cmake", message=text, file="CMakeLists.txt", line=3)
    diagnosis = Diagnosis(errors=(found,), error_count=1)
    return stage("host-build", "failed", verdict=Verdict(result="fail", diagnosis=diagnosis), **more)


def test_the_seeds_forms() -> None:
    """Seed."""
    assert messages.started(build()).text.startswith("🚀 Pipeline started: ccu2-full-build\n")
    assert messages.stage_over(build(), stage(), 1, 3).text == "✅ Stage 1/3 complete: yocto-image (45min)"
    said = messages.stage_over(build(), failed(), 2, 3).text
    assert said.startswith(
        "❌ Stage 2 FAILED: host-build\nError: CMakeLists.txt:3 error: CMake error in container-manager"
    )
    over = messages.ended(build("success", duration=8100.0), [stage()])
    assert over.text == "✅ Pipeline complete: ccu2-full-build (2h 15min)"
    assert over.mood == "success"


def test_a_build_of_one_stage_says_its_error_at_its_end() -> None:
    """Ours. Its stage has no message of its own."""
    said = messages.ended(build("failed", stages=1, duration=12.0), [failed()])

    assert said.text.startswith("❌ Build FAILED: ccu2-full-build (12s)\nError: CMakeLists.txt:3 error: CMake error")
    assert said.mood == "failure"


def test_a_failed_pipeline_names_what_stayed_failed() -> None:
    """Ours. An attempt that a later one mended is not named."""
    rows = [stage(status="failed"), stage(attempt=2), failed()]

    assert messages.ended(build("failed", duration=60.0), rows).text.endswith("Build 42, stage host-build")


@pytest.mark.parametrize("text", ["x" * 5000, "한" * 3000, "🙂" * 900, "a\nb\n" * 900])
def test_no_message_is_longer_than_600_characters(text: str) -> None:
    """Issue."""
    rows = [failed(text)]
    named = build("failed", name=text, build_output=text)
    said = [messages.stage_over(named, rows[0], 2, 3), messages.ended(named, rows)]

    assert all(len(message.text) <= 600 for message in said)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0s"),
        (45, "45s"),
        (59.6, "1min"),
        (2700, "45min"),
        (3599, "1h"),
        (8100, "2h 15min"),
        (7200, "2h"),
        (None, ""),
    ],
)
def test_durations_are_the_seeds(seconds: float | None, words: str) -> None:
    """Seed."""
    assert messages.short_duration(seconds) == words


def test_a_host_that_is_away_is_told_with_the_time() -> None:
    """Issue: `unreachable since …` is neither lost nor running."""
    assert "Host fast unreachable since 12:00 UTC" in messages.unreachable(build(), "fast", NOW).text
