"""The real OpenCode in a home of its own, with a stand-in for the Messages API as its only model."""

import asyncio
import json
import os
import shutil
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol

OPENCODE = os.environ.get("BO_TEST_OPENCODE") or shutil.which("opencode") or ""
NOWHERE = "http://127.0.0.1:9"  # the discard port: a proxy that refuses, for whatever is not loopback
MODEL = "stub/m1"


class Served(Protocol):
    """A stand-in for the Messages API."""

    url: str


def opencode_environment(user: Path) -> dict[str, str]:
    """What it needs, and nothing of ours; it dials nobody but loopback."""
    user.mkdir(exist_ok=True)
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    kept["PATH"] = f"{Path(OPENCODE).parent}{os.pathsep}{kept['PATH']}"
    switches = ("AUTOUPDATE", "MODELS_FETCH", "LSP_DOWNLOAD", "DEFAULT_PLUGINS")
    environment = kept | {f"OPENCODE_DISABLE_{name}": "1" for name in switches}
    return environment | {"HOME": str(user), "HTTP_PROXY": NOWHERE, "HTTPS_PROXY": NOWHERE, "NO_PROXY": "127.0.0.1"}


def opencode_settings(api: Served, **more: object) -> str:
    """opencode.json with the stand-in as the only model."""
    options = {"baseURL": f"{api.url}/v1", "apiKey": "no-key"}
    stub = {"npm": "@ai-sdk/anthropic", "options": options, "models": {"m1": {"name": "m1"}}}
    settings = {"provider": {"stub": stub}, "model": MODEL, "small_model": MODEL, "autoupdate": False}
    return json.dumps({**settings, "share": "disabled", **more})


@asynccontextmanager
async def opencode_server(place: Path, environment: Mapping[str, str]) -> AsyncGenerator[str]:
    """`opencode serve` in `place`, until it is left; its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = await asyncio.create_subprocess_exec(
        *(OPENCODE, "serve", "--hostname", "127.0.0.1", "--port", str(port)),
        cwd=place,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert server.stdout is not None
    try:
        async with asyncio.timeout(60):
            while b"listening on" not in (line := await server.stdout.readline()):
                assert line, "the server ended"
        yield f"http://127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):
            server.kill()
        await server.communicate()
