"""A plugin folder like ours, whose server and installer are stand-ins: small, local, and as slow as a test wants."""

import os
import shutil
import stat
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
TOOLS = ("cat", "chmod", "cksum", "dirname", "env", "find", "ln", "mkdir", "rm", "sed", "sh", "sleep", "touch", "true")

SERVER = '''\
import gc

gc.disable()
from mcp.server import MCPServer

server = MCPServer("build-orchestrator", version="7", log_level="WARNING")

@server.tool()
async def doctor() -> str:
    """Says that the server is there."""
    return "the real server"

server.run("stdio")
'''

BACKEND = '''\
"""A build backend without dependencies, so that the real pip and the real uv install this project with no network."""

import zipfile

NAME = "build_orchestrator-7"

def build_wheel(directory, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(directory + "/" + NAME + "-py3-none-any.whl", "w") as wheel:
        wheel.writestr("stand_in.py", "import os\\ndef main(): os.execv({python!r}, [{python!r}, {server!r}])\\n")
        info = NAME + ".dist-info/"
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: build-orchestrator\\nVersion: 7\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "entry_points.txt", "[console_scripts]\\nbuild-orchestrator = stand_in:main\\n")
        wheel.writestr(info + "RECORD", "")
    return NAME + "-py3-none-any.whl"
'''

PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "build-orchestrator"
version = "7"
requires-python = ">=3.11"
"""

LOCK = """\
version = 1
revision = 3
requires-python = ">=3.11"

[[package]]
name = "build-orchestrator"
version = "7"
source = { editable = "." }
"""

UV = """\
#!/bin/sh
# Stands in for `uv sync`: makes half an environment, notes that it was called, waits for the gate, makes the rest.
mkdir -p "$UV_PROJECT_ENVIRONMENT/bin"
ln -s {python} "$UV_PROJECT_ENVIRONMENT/bin/python"
echo "$$" >>{calls}
while [ ! -e {gate} ]; do sleep 0.05; done
printf '#!/bin/sh\\nexec {python} {server}\\n' >"$UV_PROJECT_ENVIRONMENT/bin/build-orchestrator"
chmod +x "$UV_PROJECT_ENVIRONMENT/bin/build-orchestrator"
"""


class PluginRoot:
    """`root` is the plugin, `data` its own folder, `path` all the PATH there is; `gate` lets the stand-in uv go on."""

    def __init__(self, folder: Path) -> None:
        self.root, self.data, self.path = folder / "plugin", folder / "data", folder / "path"
        self.gate, self.calls = folder / "gate", folder / "calls"
        self.server = folder / "server.py"
        self.root.mkdir(parents=True)
        self.path.mkdir()
        for name in ("mcp_server", "prompts", "skills"):
            (self.root / name).mkdir()
        shutil.copytree(
            REPOSITORY / ".claude-plugin", self.root / ".claude-plugin", ignore=shutil.ignore_patterns("__pycache__")
        )
        (self.root / "mcp_server" / "code.py").write_text("")
        (self.root / "pyproject.toml").write_text(PYPROJECT)
        (self.root / "uv.lock").write_text(LOCK)
        (self.root / "backend.py").write_text(BACKEND.format(python=sys.executable, server=str(self.server)))
        self.server.write_text(SERVER)
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found, tool
            (self.path / tool).symlink_to(found)

    def with_short_grace(self) -> "PluginRoot":
        """For what comes after the grace, when the grace itself is no part of the test."""
        room = self.root / ".claude-plugin" / "waiting_room.py"
        text = room.read_text()
        assert "GRACE_S = 1.5" in text
        room.write_text(text.replace("GRACE_S = 1.5", "GRACE_S = 0.2"))
        return self

    def with_python(self, python: str = sys.executable) -> "PluginRoot":
        """A base interpreter by the name python3: a link to a virtual environment's would lose the way home."""
        (self.path / "python3").symlink_to(Path(python).resolve())
        return self

    def with_uv(self, *, waits: bool = False) -> "PluginRoot":
        if not waits:
            self.gate.touch()
        text = UV.format(calls=self.calls, gate=self.gate, python=sys.executable, server=self.server)
        return self.with_command("uv", text)

    def with_command(self, name: str, text: str) -> "PluginRoot":
        command = self.path / name
        command.write_text(text)
        command.chmod(command.stat().st_mode | stat.S_IXUSR)
        return self

    def environ(self) -> dict[str, str]:
        """Of what the test has, only what an installer may need to work without a network."""
        return {
            "PATH": str(self.path),
            "HOME": os.environ["HOME"],
            "CLAUDE_PLUGIN_DATA": str(self.data),
            "PIP_NO_INDEX": "1",
            "PIP_CONFIG_FILE": os.devnull,
            "UV_OFFLINE": "1",
            "UV_CACHE_DIR": str(self.data / "uv-cache"),
        }

    def environments(self) -> list[Path]:
        """Those that count: made to their end."""
        return [marker.parent for marker in self.data.glob("venv-*/complete")]

    def uv_calls(self) -> list[int]:
        return [int(line) for line in self.calls.read_text().split()] if self.calls.exists() else []
