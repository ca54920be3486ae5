"""The server as a process: what it writes, how it ends, and what its death leaves alone."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.integration.mcp.conftest import Serve, mend

END_S = 5  # an idle machine needs 0.2 s


SLOW = {"IDF_DEMO_STEP_S": "0.2"}
"""A build that goes on for a while."""


def test_every_line_on_stdout_is_protocol(serve: Serve) -> None:
    """MCP: stdio. Nothing on stderr either where nothing is wrong. The command is the one that the plugin starts."""
    wire = serve([str(Path(sys.executable).parent / "build-orchestrator"), "mcp"])
    tools = wire.ask("tools/list")
    wire.ask("tools/call", name="build_list", arguments={})
    wire.ask("tools/call", name="no_such_tool", arguments={})
    code, out, err = wire.close()

    assert wire.hello["serverInfo"]["name"] == "build-orchestrator"
    assert (
        max(len(json.dumps(tool, separators=(",", ":"), ensure_ascii=False).encode()) for tool in tools["tools"]) <= 700
    )
    assert (code, out, err) == (0, b"", b"")


def test_the_end_of_stdin_ends_the_server_at_once_even_while_it_waits(serve: Serve, project: Path) -> None:
    """Peers: a server that lingers to the build's end and loses the result."""
    wire = serve(**SLOW)
    wire.ask("tools/call", name="idf_build", arguments={"project": str(project), "wait_s": 0})
    wire.start("tools/call", name="build_wait", arguments={"build": 1})
    wire.start("tools/call", name="idf_build", arguments={"project": str(project), "wait_s": 55})
    wire.ask("ping")
    began = time.monotonic()

    code, _, err = wire.close()

    assert code == 0
    assert time.monotonic() - began < END_S
    assert b"Traceback" not in err


def test_a_signal_ends_the_server_at_once(serve: Serve, project: Path) -> None:
    """Ours. No traceback on the way."""
    mend(project)
    for number in (signal.SIGTERM, signal.SIGINT):
        wire = serve(IDF_DEMO_HANG="1")
        wire.ask("tools/call", name="idf_build", arguments={"project": str(project), "wait_s": 0})
        wire.start("tools/call", name="build_wait", arguments={"build": 1})
        wire.ask("ping")
        began = time.monotonic()

        wire.process.send_signal(number)
        wire.process.wait(END_S)
        _, _, err = wire.close()

        assert time.monotonic() - began < END_S, number
        assert b"Traceback" not in err, number


def test_a_killed_server_takes_no_build_with_it(serve: Serve, project: Path) -> None:
    """Design: kill -9 in mid build; a new server has the result."""
    mend(project)
    first = serve(**SLOW)
    first.ask("tools/call", name="idf_build", arguments={"project": str(project), "wait_s": 0})
    first.start("tools/call", name="build_wait", arguments={"build": 1})
    first.ask("ping")
    first.kill()

    second = serve(**SLOW)
    waited = second.ask("tools/call", name="build_wait", arguments={"build": 1})
    read = second.ask("tools/call", name="build_get", arguments={"build": 1})
    second.close()

    assert read["content"][0]["text"].startswith("build 1 succeeded")
    assert not waited["isError"]


def test_garbage_on_stdin_is_answered_or_passed_over(serve: Serve) -> None:
    """Ours. One bad line costs one answer, not the server."""
    wire = serve()
    assert wire.process.stdin is not None
    wire.process.stdin.write(b'not json\n{"jsonrpc": "2.0", "id": 99}\n\xff\xfe\n[]\n')
    wire.send(id=7, method="tools/call", params={"name": ["x"], "arguments": "y"})

    assert wire.ask("ping") == {}
    code, _, err = wire.close()

    assert code == 0
    assert b"Traceback" not in err


def test_a_client_that_stops_reading_ends_the_server_without_a_word(serve: Serve) -> None:
    """Ours. A client that was killed is no breakdown of ours."""
    wire = serve()
    assert wire.process.stdout is not None
    wire.process.stdout.close()
    wire.start("ping")
    wire.start("tools/list")
    assert wire.process.stdin is not None
    wire.process.stdin.close()

    assert wire.process.wait(END_S) == 0
    assert wire.process.stderr is not None
    assert wire.process.stderr.read() == b""


def test_a_server_that_is_left_at_once_ends_cleanly(serve: Serve) -> None:
    """Ours. The thread that loads modules ahead of the first call must not trip over the end."""
    code, out, err = serve().close()

    assert (code, out, err) == (0, b"", b"")


def test_the_server_loads_no_command_line_no_database_and_no_yaml() -> None:
    """interfaces: `build-orchestrator mcp` is quick to start."""
    loaded = "import sys, mcp_server.server; print(*sorted({'typer', 'sqlalchemy', 'yaml'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", loaded], capture_output=True, check=True, env=os.environ)

    assert found.stdout == b"\n"
