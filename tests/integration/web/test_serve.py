"""The service as a process: the seeds' own lines by curl, events over a real socket, its end."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets.asyncio.client as websocket
from websockets.exceptions import ConnectionClosed

from mcp_server.demo.place import lay_out, simulated_installation
from tests.support.workers import end_everything

pytestmark = [
    pytest.mark.skipif(shutil.which("curl") is None, reason="no curl"),
    pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler"),
    pytest.mark.timeout(90),
]

# The lines of the documents that asked for this, to the letter, but for {project_id} and {build_id}.
TRIGGER = """curl -X POST http://localhost:8000/api/projects/{project_id}/build \\
  -H "Content-Type: application/json" \\
  -d '{
    "trigger": "manual"
  }'"""
STATUS = "curl http://localhost:8000/api/builds/{build_id}"
LIST = "curl 'http://localhost:8000/api/builds?status=running&limit=10'"
RETRY = "curl -X POST http://localhost:8000/api/builds/1/retry"


class Served:
    """A running service; `curl` sends what is meant for port 8000 to it."""

    def __init__(self, process: subprocess.Popen[str], port: int, user: Path) -> None:
        self.process, self.port = process, port
        (user / ".curlrc").write_text(f'silent\nconnect-to = "localhost:8000:127.0.0.1:{port}"\n')

    async def curl(self, line: str) -> Any:
        """What a line in a shell prints, as JSON."""
        shell = await asyncio.create_subprocess_exec("sh", "-c", line, stdout=asyncio.subprocess.PIPE)
        async with asyncio.timeout(20):
            out, _ = await shell.communicate()
        return json.loads(out)


@pytest.fixture
def served(home: Path, tmp_path: Path) -> Iterator[Served]:
    environment = {**os.environ, "IDF_PATH": str(simulated_installation())}
    process = subprocess.Popen(
        [sys.executable, "-m", "mcp_server", "serve", "--port", "0"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.match(r"http://127\.0\.0\.1:(\d+) is open to every user of this machine", line)
        assert found, line
        yield Served(process, int(found[1]), tmp_path / "user")
    finally:
        process.kill()
        process.communicate()
        end_everything(home)


async def test_the_seeds_lines_work_as_written_and_a_socket_tells_what_happens(served: Served, tmp_path: Path) -> None:
    """Seed: trigger, status, list, retry; workflow.* and agent.status over /ws, each event once after a break."""
    project = lay_out(tmp_path / "greenhouse")
    made = await served.curl(
        "curl -X POST http://localhost:8000/api/pipelines -H 'Content-Type: application/json' -d '"
        + json.dumps({"yaml": 'pipeline:\n  name: p\n  stages:\n    - {name: a, command: "true"}\n', "project": "x"})
        + "'"
    )
    assert made["status"] == 404  # only a known project's folder is built in
    await run(project)
    project_id = (await served.curl("curl http://localhost:8000/api/projects"))["projects"][0]["id"]

    async with websocket.connect(f"ws://127.0.0.1:{served.port}/ws") as socket:
        started = await served.curl(TRIGGER.replace("{project_id}", project_id))
        assert set(started) == {"build_id", "status", "project_id", "commit_sha"}
        number = started["build_id"]
        first = [json.loads(await socket.recv()) for _ in range(3)]
    seen = [event["id"] for event in first]
    async with websocket.connect(f"ws://127.0.0.1:{served.port}/ws?build={number}&after={seen[-1]}") as socket:
        events = first
        async with asyncio.timeout(60):
            while events[-1]["type"] != "workflow.completed":
                events.append(json.loads(await socket.recv()))
    ids = [event["id"] for event in events]
    assert ids == sorted(set(ids))
    kinds = {event["type"] for event in events}
    assert {"build.status", "stage.status", "workflow.started", "agent.status", "workflow.completed"} <= kinds
    assert events[-1]["job_id"] == number and events[-1]["success"] is False

    got = await served.curl(STATUS.replace("{build_id}", str(number)))
    assert (got["status"], got["triggered_by"], got["stages"][1]["stage"]) == ("failed", "manual", "build")
    assert "valve_opne" in got["verdict"]
    assert (await served.curl(LIST))["builds"] == []
    again = await served.curl(RETRY.replace("/1/", f"/{number}/"))
    assert again["build_id"] == number + 1
    conflict = await served.curl(RETRY.replace("/1/", f"/{number + 1}/"))
    assert conflict["status"] == 409


def serve(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """One that refuses to start."""
    command = [sys.executable, "-m", "mcp_server", "serve", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


async def run(project: Path) -> None:
    """Build once from the terminal, so that the project is known."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mcp_server",
        "run",
        "--project",
        str(project),
        env={**os.environ, "IDF_PATH": str(simulated_installation())},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(40):
        assert await process.wait() == 1


async def test_a_signal_ends_it_with_readers_still_there(served: Served) -> None:
    """Issue: graceful stop. Readers of sockets and of streams are let go; a port that is taken is one sentence."""
    taken = await asyncio.to_thread(serve, "--port", str(served.port))
    assert (taken.returncode, taken.stdout) == (2, "")
    assert f"port {served.port} of 127.0.0.1 cannot be had: Address already in use" in taken.stderr

    stream = await asyncio.create_subprocess_exec(
        "curl", "-sN", f"http://127.0.0.1:{served.port}/api/events", stdout=asyncio.subprocess.PIPE
    )
    assert stream.stdout is not None
    assert await stream.stdout.readline() == b": build-orchestrator\n"
    async with websocket.connect(f"ws://127.0.0.1:{served.port}/ws") as socket:
        served.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await socket.recv()
            await stream.communicate()
            code = await asyncio.to_thread(served.process.wait)
    assert served.process.stderr is not None
    assert (code, served.process.stderr.read()) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], "host: 0.0.0.0 is open to others: first `build-orchestrator tokens create NAME`"),
        (["--host", "no.such.name.invalid"], "no.such.name.invalid"),
    ],
)
def test_where_it_may_not_listen_it_says_so(home: Path, arguments: list[str], said: str) -> None:
    """Interfaces: a refusal to listen elsewhere without a token."""
    done = serve(*arguments)
    assert done.returncode == 2
    assert said in done.stderr.replace("\n", " ")
