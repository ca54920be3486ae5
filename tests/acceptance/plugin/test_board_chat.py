"""A board in a conversation: the real client's model builds, flashes, reads a panic, mends its cause and sees it run.

The firmware is a program of this machine in a virtual chip's flash, written there by the real esptool.
"""

import asyncio
import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_server.demo.chip import VirtualChip
from mcp_server.demo.place import SELF_TEST_PASSED, lay_out
from tests.support.claude_client import CLAUDE, TOOLS, ClaudeClient
from tests.support.messages_api import MessagesApi, Say, ToolResult, Use
from tests.support.workers import end_everything

pytestmark = [
    pytest.mark.skipif(not CLAUDE, reason="no claude client: BO_TEST_CLAUDE or PATH should name one"),
    pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler"),
    pytest.mark.skipif(importlib.util.find_spec("esptool") is None, reason="no esptool: the extra [demo] brings it"),
    pytest.mark.timeout(150),
]

BUILD, FLASH = (f"{TOOLS}__{name}" for name in ("idf_build", "idf_flash"))
TEST = "    if (temperature > THERMOSTAT_OPEN_ABOVE) {"
MISTAKE = "    temperature += *s_offset;\n"

MAX_PANIC_BYTES = 700  # ours: what firmware that crashes may cost a model
MAX_SUCCESS_BYTES = 500


@pytest.fixture
def client(tmp_path: Path) -> Iterator[ClaudeClient]:
    made = ClaudeClient(tmp_path)
    made.make_ready()
    yield made
    end_everything(tmp_path / "home")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Firmware that compiles, and reads through a pointer that nobody has set."""
    folder = lay_out(tmp_path / "firmware")
    text = (folder / "main" / "thermostat.c").read_text().replace("valve_opne", "valve_open")
    text = text.replace('#include "valve.h"\n', '#include "valve.h"\n\nstatic const int *s_offset;\n')
    (folder / "main" / "thermostat.c").write_text(text.replace(TEST, MISTAKE + TEST))
    return folder


async def test_a_panic_is_read_mended_and_the_board_runs(client: ClaudeClient, project: Path, tmp_path: Path) -> None:
    """Issue. What the model is given: the panic with its function and line, and what was printed before it.

    Interfaces: flashing asks a person first, unless it is told otherwise. Headless, the client dismisses the question,
    and the model hears so in one sentence.
    """
    source = str(project / "main" / "thermostat.c")
    async with VirtualChip(flash=tmp_path / "flash").running() as chip:
        to_board = {"port": chip.port, "expect": [SELF_TEST_PASSED]}
        flash = Use(FLASH, {**to_board, "confirm": True})
        script = [
            Use(BUILD, {"target": "esp32c3"}),
            Use(FLASH, to_board),
            flash,
            Use("Read", {"file_path": source}),
            Use("Edit", {"file_path": source, "old_string": MISTAKE, "new_string": ""}),
            Use(BUILD),
            flash,
            Say("it boots"),
        ]
        with MessagesApi(script) as api:
            await asyncio.to_thread(client.run, api, "flash it and tell me if it boots", project, "Read", "Edit")
    built, refused, panic, _, edit, rebuilt, passed = api.tool_results()

    assert "build 1 succeeded · esp32c3" in _fine(built)
    assert "simulated ESP-IDF" in built.text
    assert refused.is_error
    assert refused.text.startswith("nothing was flashed: nobody answered the question.")
    assert "after a yes pass confirm=true" in refused.text
    assert panic.is_error
    line = (project / "main" / "thermostat.c").read_text().splitlines().index(TEST) + 1  # it took the mistake's place
    assert panic.text.splitlines()[2:5] == [
        "panic: read from address 0x00000000: a NULL pointer (Load access fault), core 0",
        f"  thermostat_step main/thermostat.c:{line}",
        "  self_test main/app_main.c:27",
    ]
    assert "build 2 failed in stage boot · idf_flash · esp32c3" in panic.text
    assert "simulated board" in panic.text
    assert "valve: closed" in panic.text.partition("before it:")[2]
    assert "exit 143" not in panic.text
    assert 'build_log(2, "boot")' in panic.text
    assert len(panic.text.encode()) <= MAX_PANIC_BYTES
    assert not edit.is_error, edit.text
    assert "build 3 succeeded" in _fine(rebuilt)
    assert "build 4 succeeded · idf_flash · esp32c3" in _fine(passed)
    assert SELF_TEST_PASSED in passed.text
    assert "written to" in passed.text and "verified" in passed.text
    assert "simulated board" in passed.text
    assert "press its button" not in passed.text


def _fine(result: ToolResult) -> str:
    assert not result.is_error, result.text
    assert len(result.text.encode()) <= MAX_SUCCESS_BYTES
    return result.text
