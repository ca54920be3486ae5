"""Bad input is one sentence that names the argument and what it may be; never a traceback, never two lines."""

from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from tests.unit.tools.calls import call
from tests.unit.tools.fake import Fake, failed_view

BUILD = "a build number such as 42 or a task's UUID"

TYPES = [
    ("build_wait", {}, f"build: is required, {BUILD}"),
    ("build_wait", {"build": True}, f"build: True is not {BUILD}"),
    ("build_wait", {"build": 4.5}, f"build: 4.5 is not {BUILD}"),
    ("build_wait", {"build": [42]}, f"build: [42] is not {BUILD}"),
    ("build_wait", {"build": None}, f"build: None is not {BUILD}"),
    ("build_wait", {"build": 42, "timeout_s": -1}, "timeout_s: -1 is not a whole number from 0 to 55"),
    ("idf_build", {"wait_s": -1}, "wait_s: -1 is not a whole number from 0 to 55"),
    ("idf_build", {"wait_s": 1e9}, "wait_s: 1000000000.0 is not a whole number from 0 to 55"),
    ("idf_build", {"wait_s": "soon"}, "wait_s: 'soon' is not a whole number from 0 to 55"),
    ("idf_build", {"wait_s": 1.5}, "wait_s: 1.5 is not a whole number from 0 to 55"),
    ("idf_build", {"clean": "perhaps"}, "clean: 'perhaps' is not true or false"),
    ("idf_build", {"project": 7}, "project: 7 is not text"),
    ("idf_build", {"project": ["a", "b"]}, "project: ['a', 'b'] is not text"),
    (
        "build_get",
        {"build": 42, "detail": "logs"},
        "detail: 'logs' is not one of verdict, stages, sizes, artifacts, events",
    ),
    (
        "build_list",
        {"status": "done"},
        "status: 'done' is not one of pending, running, success, failed, cancelled",
    ),
    ("build_list", {"limit": 0}, "limit: 0 is not a whole number from 1 to 100"),
    ("build_log", {"build": 42, "tail": "ten"}, "tail: 'ten' is not a whole number"),
    ("build_wait", {"build": 42, "wait_s": 5}, "wait_s: build_wait has no such argument; it takes build, timeout_s"),
    ("make", {}, "there is no tool 'make'; there are doctor, idf_build, idf_flash, "),
]


@pytest.mark.parametrize(("tool", "arguments", "sentence"), TYPES)
async def test_an_argument_of_the_wrong_kind_is_one_sentence(
    client: Client, fake: Fake, tool: str, arguments: dict[str, Any], sentence: str
) -> None:
    """interfaces: bad input."""
    fake.push(failed_view())

    text, is_error = await call(client, tool, **arguments)

    assert is_error
    assert text.startswith(sentence)
    assert "\n" not in text
    assert fake.waits == 0  # nothing was started


NASTY = [
    'it\'s "quoted"',
    "two\nlines\r\n",
    "x" * 10_000,
    "$(touch /tmp/owned)",
    "../../etc/passwd",
    "`id`; rm -rf /",
    "zero\0byte",
    "~nobody-of-that-name/x",
    "bell\x07\x1b[2J",
    "",
    "é" * 300,
]


@pytest.mark.parametrize("text", NASTY)
@pytest.mark.parametrize(
    ("tool", "argument"), [("build_wait", "build"), ("build_get", "build"), ("build_cancel", "build")]
)
async def test_a_nasty_build_reference_is_refused_in_a_line(
    client: Client, fake: Fake, tool: str, argument: str, text: str
) -> None:
    """Ours. Whatever a model sends; 10 kB of it are not sent back."""
    answer, is_error = await call(client, tool, **{argument: text})

    assert is_error
    assert answer.startswith("build: ")
    assert "\n" not in answer
    assert len(answer.encode()) < 200


@pytest.mark.parametrize("text", NASTY)
async def test_a_nasty_project_is_a_folder_that_is_not_there(
    client: Client, fake: Fake, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. No shell sees it, no path is made of it, and the answer stays short."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    fake.push(failed_view())

    answer, _ = await call(client, "idf_build", project=text, wait_s=0)
    started = [arguments["project"] for name, arguments in fake.calls if name == "start_build"]

    assert len(answer.encode()) < 1000
    assert all(Path(path).is_absolute() for path in started)
    if not started:
        assert answer.startswith("project: ")
        assert "\n" not in answer
    assert not list(here.iterdir())
