"""The real `claude` client, headless, with a home of its own and no way to any network but loopback."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.messages_api import MessagesApi
from tests.support.postgres import given_database

REPOSITORY = Path(__file__).parents[2]
SERVER = "plugin:build-orchestrator:bo"
TOOLS = "mcp__plugin_build-orchestrator_bo"

CLAUDE = os.environ.get("BO_TEST_CLAUDE") or shutil.which("claude") or ""
"""Read when this module is imported: the tests' own environment holds neither."""

NOWHERE = "http://127.0.0.1:9"  # the discard port: a proxy that refuses, for whatever is not loopback


@dataclass(frozen=True)
class Conversation:
    """What a run printed, one event a line."""

    events: list[dict[str, Any]]

    def one(self, kind: str, subtype: str) -> dict[str, Any]:
        return next(event for event in self.events if (event["type"], event.get("subtype")) == (kind, subtype))


class Talk:
    """A running client that is given one prompt after the other."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def say(self, prompt: str) -> Conversation:
        """One turn to its end."""
        assert self._process.stdin is not None and self._process.stdout is not None
        message = {"type": "user", "message": {"role": "user", "content": prompt}}
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        events: list[dict[str, Any]] = []
        while not events or events[-1]["type"] != "result":
            line = self._process.stdout.readline()
            assert line, f"the client ended: {events}"
            events.append(json.loads(line))
        return Conversation(events)


class ClaudeClient:
    """One user's client: its home, its configuration, the plugin's data; this test's database unless one is given."""

    def __init__(
        self,
        folder: Path,
        plugin: Path = REPOSITORY,
        home: Path | None = None,
        database: Mapping[str, str] | None = None,
    ) -> None:
        self.home, self.plugin = folder / "claude", plugin
        self._database = given_database() if database is None else database
        self.orchestrator_home = str(home) if home else os.environ["BUILD_ORCHESTRATOR_HOME"]
        self.data = self.home / ".claude" / "plugins" / "data" / "build-orchestrator-inline"
        self.data.mkdir(parents=True)

    def make_ready(self) -> None:
        """The plugin's environment as if it had been installed, made of the one that runs the tests."""
        where = [self._launcher(), "--where"]
        environ = {"PATH": os.environ["PATH"], "CLAUDE_PLUGIN_DATA": str(self.data)}
        venv = Path(subprocess.run(where, env=environ, check=True, capture_output=True, text=True).stdout.strip())
        (venv / "bin").mkdir(parents=True)
        (venv / "bin" / "python").symlink_to(sys.executable)
        command = venv / "bin" / "build-orchestrator"
        command.write_text(f'#!/bin/sh\nPYTHONPATH={REPOSITORY} exec {sys.executable} -m mcp_server "$@"\n')
        command.chmod(0o755)
        (venv / "complete").touch()

    def run(self, api: MessagesApi, prompt: str, project: Path, *allowed: str, **environ: str) -> Conversation:
        """One prompt to its end. Tools beside the plugin's are used only if `allowed`."""
        done = subprocess.run(
            self._command(allowed, prompt),
            cwd=project,
            env={**self._environ(api), **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout[-2000:]
        return Conversation([json.loads(line) for line in done.stdout.splitlines()])

    @contextlib.contextmanager
    def talking(self, api: MessagesApi, project: Path) -> Generator[Talk]:
        """The client in a conversation of several prompts: one start instead of one each, which costs seconds."""
        with (self.home / "stderr").open("wb") as errors:
            process = subprocess.Popen(
                self._command((), "--input-format", "stream-json"),
                cwd=project,
                env=self._environ(api),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        try:
            yield Talk(process)
        finally:
            process.kill()
            process.communicate()

    def _command(self, allowed: Sequence[str], *more: str) -> list[str]:
        return [
            *(CLAUDE, "-p", *more),
            *("--output-format", "stream-json", "--verbose"),
            *("--plugin-dir", str(self.plugin)),
            *("--permission-mode", "dontAsk", "--allowedTools", ",".join([TOOLS, *allowed])),
            *("--debug-file", str(self.home / "debug.log")),
        ]

    def log_of_server(self) -> str:
        """What the client noted about our server."""
        lines = (self.home / "debug.log").read_text().splitlines()
        return "\n".join(line for line in lines if SERVER in line)

    def _launcher(self) -> str:
        return str(self.plugin / ".claude-plugin" / "launch.sh")

    def _environ(self, api: MessagesApi) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        return kept | {
            "HOME": str(self.home),
            "CLAUDE_CONFIG_DIR": str(self.home / ".claude"),
            "BUILD_ORCHESTRATOR_HOME": self.orchestrator_home,
            **self._database,
            "ANTHROPIC_BASE_URL": api.url,
            "ANTHROPIC_API_KEY": "no-key",
            "HTTP_PROXY": NOWHERE,
            "HTTPS_PROXY": NOWHERE,
            "NO_PROXY": "127.0.0.1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_TELEMETRY": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "DISABLE_AUTOUPDATER": "1",
            "IS_SANDBOX": "1",  # else it refuses some modes to root, who runs the tests in a container
            "ENABLE_TOOL_SEARCH": "false",  # every tool stands in the request, where a test can read it
            "CLAUDE_CODE_MCP_STARTUP_WAIT_MS": "30000",  # a busy machine must not begin without our server
        }
