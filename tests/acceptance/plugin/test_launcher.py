"""The plugin's launcher, driven as clients drive it: by the SDK's client, in both protocol eras, or by bare lines."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import TextContent

from tests.support.plugin_root import PluginRoot

Mode = Literal["auto", "legacy"]
PROMISE_S = 5  # the launcher's: no client waits longer for its first answer


@pytest.fixture
def plugin(tmp_path: Path) -> PluginRoot:
    return PluginRoot(tmp_path / "box")


@pytest.fixture(params=["auto", "legacy"])
def mode(request: pytest.FixtureRequest) -> Mode:
    return request.param


@contextlib.asynccontextmanager
async def connected(plugin: PluginRoot, mode: Mode = "auto", heard: list[str] | None = None) -> AsyncGenerator[Client]:
    async def hear(message: Any) -> None:
        if heard is not None:
            heard.append(getattr(message, "method", type(message).__name__))

    parameters = StdioServerParameters(
        command="/bin/sh", args=[str(plugin.root / ".claude-plugin" / "launch.sh")], env=plugin.environ()
    )
    with (plugin.root.parent / "stderr").open("a") as errors:
        async with Client(stdio_client(parameters, errors), mode=mode, message_handler=hear) as client:
            yield client


async def tools(client: Client) -> list[str]:
    return [tool.name for tool in (await client.list_tools()).tools]


async def call(client: Client, name: str, **arguments: Any) -> tuple[str, bool]:
    result = await client.call_tool(name, arguments)
    assert isinstance(result.content[0], TextContent)
    return result.content[0].text, bool(result.is_error)


async def until(true: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not true():  # noqa: ASYNC110  # what is awaited happens in another process
            await anyio.sleep(0.02)


def bare(plugin: PluginRoot) -> subprocess.Popen[bytes]:
    """The launcher as a plain process, in a group of its own."""
    return subprocess.Popen(
        ["/bin/sh", str(plugin.root / ".claude-plugin" / "launch.sh")],
        env=plugin.environ(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def say(process: subprocess.Popen[bytes], *messages: dict[str, Any]) -> None:
    assert process.stdin
    process.stdin.write(b"".join(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n" for message in messages))
    process.stdin.flush()


INITIALIZE = {
    "id": 0,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}


async def test_quick_installation_is_not_noticed(plugin: PluginRoot, mode: Mode) -> None:
    """Ours. Within the grace nothing stands between the client and the server, not even the tool `setup`."""
    plugin.with_python().with_uv()

    async with connected(plugin, mode) as client:
        assert await tools(client) == ["doctor"]
        assert await call(client, "doctor") == ("the real server", False)
        assert client.server_info and client.server_info.version == "7"


async def test_ready_environment_becomes_the_server(plugin: PluginRoot) -> None:
    """Ours. A start with everything there costs no process and no installer."""
    plugin.with_python().with_uv()
    async with connected(plugin) as client:
        await tools(client)

    with bare(plugin) as process:
        say(process, INITIALIZE)
        assert process.stdout and json.loads(process.stdout.readline())["id"] == 0
        command = Path(f"/proc/{process.pid}/cmdline")
        assert not command.exists() or str(plugin.server).encode() in command.read_bytes()
        assert process.stdin
        process.stdin.close()

    assert len(plugin.uv_calls()) == 1


async def test_slow_installation_is_told_and_then_stepped_aside_for(plugin: PluginRoot, mode: Mode) -> None:
    """Ours. The client has its answer in time, `setup` holds the call, and the server's tools take its place."""
    plugin.with_python().with_uv(waits=True)
    heard: list[str] = []
    began = time.monotonic()

    async with connected(plugin, mode, heard) as client:
        assert time.monotonic() - began < PROMISE_S
        assert client.protocol_version == {"auto": "2026-07-28", "legacy": "2025-11-25"}[mode]
        assert await tools(client) == ["setup"]
        text, wrong = await call(client, "setup", wait_s=0)
        assert "being installed for" in text
        assert not wrong
        text, wrong = await call(client, "doctor")
        assert "call setup" in text
        assert wrong
        assert (await client.list_prompts()).prompts == []

        async with contextlib.AsyncExitStack() as stack:
            subscription = None
            if mode == "auto":
                subscription = await stack.enter_async_context(client.listen(tools_list_changed=True))
            plugin.gate.touch()
            assert await call(client, "setup") == (
                "build-orchestrator is installed: its own tools are there now, beginning with doctor",
                False,
            )
            if subscription is not None:
                with anyio.fail_after(5):
                    assert type(await anext(aiter(subscription))).__name__ == "ToolsListChanged"
            else:
                await until(lambda: "notifications/tools/list_changed" in heard)
        assert await tools(client) == ["doctor"]
        assert await call(client, "doctor") == ("the real server", False)
        assert "is installed" in (await call(client, "setup"))[0]  # a client that did not refresh its list


async def test_nothing_but_protocol_reaches_stdout(plugin: PluginRoot) -> None:
    """Spec. Also where the client says little, or nonsense, before the server is there."""
    plugin.with_short_grace().with_python().with_uv(waits=True)

    with bare(plugin) as process:
        assert process.stdout
        assert process.stdin
        process.stdin.write(b"no json\n[1]\n{}\n")
        say(process, {"id": 5, "method": "nonsense"}, {"id": 6, "method": "ping", "params": []}, INITIALIZE)
        answers = [json.loads(process.stdout.readline()) for _ in range(4)]
        assert [answer.get("id") for answer in answers] == [None, 5, 6, 0]
        assert answers[1]["error"]["code"] == -32601
        assert answers[3]["result"]["protocolVersion"] == "2025-06-18"

        plugin.gate.touch()
        changed = [json.loads(process.stdout.readline())["method"] for _ in range(3)]
        assert changed == [f"notifications/{name}/list_changed" for name in ("tools", "prompts", "resources")]
        say(process, {"method": "notifications/initialized"}, {"id": "x", "method": "tools/list"})
        listed = json.loads(process.stdout.readline())
        assert listed["id"] == "x"
        assert [tool["name"] for tool in listed["result"]["tools"]] == ["doctor"]
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.wait(10) == 0


async def test_two_clients_at_once_install_once(plugin: PluginRoot) -> None:
    """Ours. Both start into an empty folder; one installs, both get the server."""
    plugin.with_short_grace().with_python().with_uv(waits=True)

    async with connected(plugin) as one, connected(plugin, "legacy") as other:
        plugin.gate.touch()
        for client in (one, other):
            assert "is installed" in (await call(client, "setup"))[0]
            assert await tools(client) == ["doctor"]

    assert len(plugin.uv_calls()) == 1
    assert len(plugin.environments()) == 1


async def test_killed_installation_is_begun_anew(plugin: PluginRoot) -> None:
    """Ours. Everything is killed with half an environment on disk: the next start never runs that half."""
    plugin.with_python().with_uv(waits=True)
    with bare(plugin) as process:
        await until(lambda: len(plugin.uv_calls()) == 1)
        uv = plugin.uv_calls()[0]
        os.killpg(os.getpgid(uv), signal.SIGKILL)  # the installer's session: itself and uv
        process.kill()
    assert list(plugin.data.glob("venv-*/bin/python"))
    assert not plugin.environments()

    plugin.gate.touch()
    async with connected(plugin) as client:
        assert await tools(client) == ["doctor"]
    assert len(plugin.uv_calls()) == 2


async def test_installation_outlives_an_impatient_client(plugin: PluginRoot) -> None:
    """Ours. The client leaves in the middle; the next one finds the environment ready."""
    plugin.with_python().with_uv(waits=True)
    with bare(plugin) as process:
        await until(lambda: len(plugin.uv_calls()) == 1)
        assert process.stdin
        process.stdin.close()
        assert process.wait(10) == 0

    plugin.gate.touch()
    await until(lambda: len(plugin.environments()) == 1)


@pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not on PATH")
async def test_with_the_real_uv(plugin: PluginRoot) -> None:
    """Ours. The options that we give to uv are uv's."""
    path = os.environ["PATH"]  # uv may be a script that needs more than the launcher does
    plugin.with_python().with_command("uv", f'#!/bin/sh\nPATH="{path}" exec {shutil.which("uv")} "$@"\n')

    async with connected(plugin) as client:
        if await tools(client) == ["setup"]:
            assert "is installed" in (await call(client, "setup"))[0]
        assert await call(client, "doctor") == ("the real server", False)
    said = (plugin.data / "install.log").read_text()
    assert "uv sync" in said
    assert "pip install" not in said


async def test_without_uv_pip_installs_says_why_it_failed_and_tries_again(plugin: PluginRoot) -> None:
    """Ours. What pip said last reaches the model as an error; once mended, setup(again=true) goes on.

    The real venv and pip, with no network and a project that needs none.
    """
    plugin.with_short_grace().with_python()
    project = plugin.root / "pyproject.toml"
    sound = project.read_text()
    project.write_text(sound.replace("requires = []", 'requires = ["absent-backend"]'))

    async with connected(plugin) as client:
        text, wrong = await call(client, "setup")
        assert wrong
        assert "No matching distribution found for absent-backend" in text
        assert "setup(again=true)" in text
        assert str(plugin.data / "install.log") in text

        project.write_text(sound)
        assert "is installed" in (await call(client, "setup", again=True))[0]
        assert await tools(client) == ["doctor"]
        assert await call(client, "doctor") == ("the real server", False)
    assert len(plugin.environments()) == 1


async def test_server_that_dies_at_once_is_reported(plugin: PluginRoot) -> None:
    """Ours. An installation that went well is no promise; its server's end is told, not waited for."""
    plugin.with_short_grace().with_python().with_uv(waits=True)
    plugin.server.write_text("raise SystemExit(3)")

    async with connected(plugin, "legacy") as client:
        plugin.gate.touch()
        text, wrong = await call(client, "setup")
        assert wrong
        assert "ended with code 3" in text


async def test_without_python_a_notice_says_what_to_install(plugin: PluginRoot, mode: Mode) -> None:
    """Ours. With nothing but a shell the client still connects and the model can tell the user what is missing."""
    async with connected(plugin, mode) as client:
        assert await tools(client) == ["setup"]
        text, wrong = await call(client, "setup")
        assert wrong
        assert "apt install python3 python3-venv" in text


async def test_without_python_uv_installs_behind_the_notice(plugin: PluginRoot) -> None:
    """Ours. uv brings a Python of its own; the client is asked to come back."""
    plugin.with_uv(waits=True)

    async with connected(plugin) as client:
        assert "reconnect" in (await call(client, "setup"))[0]
        plugin.gate.touch()
        await until(lambda: len(plugin.environments()) == 1)

    async with connected(plugin) as client:
        assert await tools(client) == ["doctor"]


async def test_edited_code_is_installed_anew_and_old_halves_go(plugin: PluginRoot) -> None:
    """Ours. The same version with other content is another environment; a recent whole one stays for its users."""
    plugin.with_python().with_uv()
    half = plugin.data / "venv-6-1" / "bin"
    half.mkdir(parents=True)
    async with connected(plugin):
        pass
    (plugin.root / "mcp_server" / "code.py").write_text("changed")
    async with connected(plugin):
        pass

    assert len(plugin.environments()) == 2
    assert len(plugin.uv_calls()) == 2
    assert not half.exists()
