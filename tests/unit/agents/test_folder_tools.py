"""The tools a model is offered: what each answers, within 8 kB, and what it leaves of a file."""

import asyncio
import os
import select
import sys
from pathlib import Path
from typing import Any

import pytest

from mcp_server.agents.folder_tools import MAX_ANSWER_BYTES, FolderTools, ToolAnswer
from mcp_server.agents.permission import Policy

PYTHON = sys.executable


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "main.c").write_text("one\ntwo\nthree\n")
    return tmp_path


@pytest.fixture
def tools(folder: Path) -> FolderTools:
    return FolderTools(Policy(folder, (PYTHON,)), {"PATH": os.environ["PATH"]}, command_s=5)


async def edit(tools: FolderTools, command: str, path: str = "main.c", **given: Any) -> ToolAnswer:
    return await tools.call("str_replace_based_edit_tool", {"command": command, "path": path, **given})


async def test_view_has_numbers_and_a_range(tools: FolderTools) -> None:
    """Ours."""
    assert (await edit(tools, "view")).text == "     1\tone\n     2\ttwo\n     3\tthree"
    assert (await edit(tools, "view", view_range=[2, -1])).text == "     2\ttwo\n     3\tthree"
    assert (await edit(tools, "view", view_range=[4, 9])).text == "view_range: the file has lines 1 to 3"
    assert (await edit(tools, "view", ".")).text == "main.c"


async def test_view_of_a_long_file_says_how_to_see_the_rest(tools: FolderTools, folder: Path) -> None:
    """Ours. A line of a megabyte is cut too."""
    (folder / "long.c").write_text("x" * 900_000 + "\n" + "y\n" * 5000)
    answer = await edit(tools, "view", "long.c")

    assert len(answer.text.encode()) <= MAX_ANSWER_BYTES
    assert answer.text.endswith("to 5001 left out: use view_range")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
async def test_text_is_replaced_with_the_ends_of_its_file(tools: FolderTools, folder: Path, end: str) -> None:
    """Ours. A model writes \\n whatever the file has."""
    (folder / "main.c").write_bytes(f"one{end}two{end}".encode())
    answer = await edit(tools, "str_replace", old_str="one\ntwo", new_str="1\n2\n3")

    assert not answer.error
    assert (folder / "main.c").read_bytes() == f"1{end}2{end}3{end}".encode()


async def test_text_must_stand_there_once(tools: FolderTools, folder: Path) -> None:
    """Ours."""
    assert (await edit(tools, "str_replace", old_str="e", new_str="")).text.startswith(
        "old_str stands 3 times in main.c"
    )
    assert (await edit(tools, "str_replace", old_str="four", new_str="")).text.startswith("old_str stands 0 times")
    assert (await edit(tools, "str_replace", new_str="x")).text == "old_str: is needed for this command"
    assert (folder / "main.c").read_text() == "one\ntwo\nthree\n"


@pytest.mark.parametrize(
    ("content", "line", "expected"),
    [
        (b"a\nb\n", 0, b"new\na\nb\n"),
        (b"a\nb\n", 1, b"a\nnew\nb\n"),
        (b"a\nb\n", 2, b"a\nb\nnew"),
        (b"a\nb", 2, b"a\nb\nnew"),
        (b"a\r\nb\r\n", 1, b"a\r\nnew\r\nb\r\n"),
        (b"", 0, b"new"),
    ],
)
async def test_lines_are_inserted(tools: FolderTools, folder: Path, content: bytes, line: int, expected: bytes) -> None:
    """Ours."""
    (folder / "main.c").write_bytes(content)
    answer = await edit(tools, "insert", insert_line=line, insert_text="new")

    assert (answer.error, (folder / "main.c").read_bytes()) == (False, expected)


async def test_search_finds_lines_and_leaves_binaries(tools: FolderTools, folder: Path) -> None:
    """Ours."""
    (folder / "firmware.bin").write_bytes(b"two\0")
    found = await tools.call("search", {"pattern": "t[wh]"})
    none = await tools.call("search", {"pattern": "four"})

    assert (found.text, none.text) == ("main.c:2: two\nmain.c:3: three", "no match")


async def test_search_that_finds_everything_is_bounded(tools: FolderTools, folder: Path) -> None:
    """Ours."""
    (folder / "many.c").write_text("x" * 500 + "\n" + "hit\n" * 100_000)
    answer = await tools.call("search", {"pattern": "."})

    assert len(answer.text.encode()) <= MAX_ANSWER_BYTES
    assert "the first 100 matches" in answer.text


async def test_list_of_many_files_is_bounded(tools: FolderTools, folder: Path) -> None:
    """Ours."""
    for number in range(1000):
        (folder / f"file_with_a_name_{number}.c").touch()
    answer = await tools.call("list_files", {})

    assert len(answer.text.encode()) <= MAX_ANSWER_BYTES
    assert answer.text.endswith("… and more: list a folder below")


async def test_command_has_no_shell_no_input_and_its_code(tools: FolderTools, folder: Path) -> None:
    """Ours. Its environment is what the tools were given."""
    script = "import os, sys\nprint(sys.argv[1:], sys.stdin.read(), 'HOME' in os.environ)\nsys.exit(3)\n"
    (folder / "check.py").write_text(script)
    answer = await tools.call("run", {"command": f"{PYTHON} check.py 'a b' c"})
    shell = await tools.call("run", {"command": f"{PYTHON} -V; id"})

    assert answer == ToolAnswer("exit code 3\n['a b', 'c']  False\n", error=True)
    assert (shell.error, shell.denied) == (True, True)


async def test_endless_output_keeps_its_beginning_and_its_end(tools: FolderTools, folder: Path) -> None:
    """Issue."""
    (folder / "loud.py").write_text("print('first')\nfor _ in range(400_000): print('x' * 50)\nprint('last')\n")
    answer = await tools.call("run", {"command": f"{PYTHON} loud.py"})

    assert answer.text.startswith("exit code 0\nfirst\n")
    assert answer.text.endswith("last\n")
    assert "bytes left out" in answer.text
    assert len(answer.text.encode()) <= MAX_ANSWER_BYTES


def ended(pid: int) -> bool:
    """Whether a process that was killed is gone within two seconds; the kernel takes its own time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 2)[0])
    finally:
        os.close(descriptor)


async def test_command_that_hangs_is_killed_with_its_children(folder: Path) -> None:
    """Issue. Also a child that it left behind at a good end."""
    (folder / "hang.py").write_text(
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen(['sleep', '1000'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(float(sys.argv[1]))\n"
    )
    tools = FolderTools(Policy(folder, (PYTHON,)), {"PATH": os.environ["PATH"]}, command_s=0.5)
    async with asyncio.timeout(10):
        hung = await tools.call("run", {"command": f"{PYTHON} hang.py 1000"})
        left = await tools.call("run", {"command": f"{PYTHON} hang.py 0"})

    assert hung.text.startswith("exit code -1\n")
    assert hung.text.endswith("killed: it took more than 0.5 s")
    assert left.text.startswith("exit code 0\n")
    for answer in (hung, left):
        pid = int(answer.text.split("\n")[1])
        assert await asyncio.to_thread(ended, pid)


async def test_program_that_is_not_there_is_said(folder: Path) -> None:
    """Ours."""
    tools = FolderTools(Policy(folder, ("nonsuch",)), {"PATH": os.environ["PATH"]})
    answer = await tools.call("run", {"command": "nonsuch build"})

    assert answer == ToolAnswer("exit code 127\nnonsuch cannot be run: No such file or directory", error=True)


def test_schemas_are_plain(tools: FolderTools, folder: Path) -> None:
    """Ours. Compatible servers know little of JSON schema; without a command there is no tool for it."""
    for tool in tools.definitions():
        kinds = {form["type"] for form in tool["input_schema"]["properties"].values()}
        assert kinds <= {"string", "integer", "array"}
        assert not {"anyOf", "$defs", "prefixItems"} & set(str(tool).split("'"))
    assert [tool["name"] for tool in FolderTools(Policy(folder), {}).definitions()][-1] == "list_files"
