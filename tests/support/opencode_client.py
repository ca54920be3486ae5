"""The real OpenCode in a home of its own, with a stand-in for the Messages API as its only model."""

import json
import os
import shutil
from pathlib import Path

from tests.support.messages_api import MessagesApi

OPENCODE = os.environ.get("BO_TEST_OPENCODE") or shutil.which("opencode") or ""
NOWHERE = "http://127.0.0.1:9"  # the discard port: a proxy that refuses, for whatever is not loopback
MODEL = "stub/m1"


def opencode_environment(user: Path) -> dict[str, str]:
    """What it needs, and nothing of ours; it dials nobody but loopback."""
    user.mkdir(exist_ok=True)
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    kept["PATH"] = f"{Path(OPENCODE).parent}{os.pathsep}{kept['PATH']}"
    switches = ("AUTOUPDATE", "MODELS_FETCH", "LSP_DOWNLOAD", "DEFAULT_PLUGINS")
    environment = kept | {f"OPENCODE_DISABLE_{name}": "1" for name in switches}
    return environment | {"HOME": str(user), "HTTP_PROXY": NOWHERE, "HTTPS_PROXY": NOWHERE, "NO_PROXY": "127.0.0.1"}


def opencode_settings(api: MessagesApi, **more: object) -> str:
    """opencode.json with the stand-in as the only model."""
    options = {"baseURL": f"{api.url}/v1", "apiKey": "no-key"}
    stub = {"npm": "@ai-sdk/anthropic", "options": options, "models": {"m1": {"name": "m1"}}}
    settings = {"provider": {"stub": stub}, "model": MODEL, "small_model": MODEL, "autoupdate": False}
    return json.dumps({**settings, "share": "disabled", **more})
