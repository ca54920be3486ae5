"""A user's repository in a test, and what of it may not change."""

import contextlib
import hashlib
import os
import socket
import subprocess
from collections.abc import Generator
from pathlib import Path


class UserTree:
    """A Git work tree, driven by plain git as its user does; `home` is the user's."""

    def __init__(self, top: Path, home: Path) -> None:
        self.top = top
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C"}

    def git(self, *words: str, cwd: Path | None = None, check: bool = True) -> str:
        """Its stdout without the last newline."""
        who = ("-c", "user.name=User", "-c", "user.email=user@example.org", "-c", "protocol.file.allow=always")
        done = subprocess.run(
            ["git", *who, *words], cwd=cwd or self.top, env=self.environment, capture_output=True, check=False
        )
        assert not check or done.returncode == 0, done.stderr.decode()
        return os.fsdecode(done.stdout).rstrip("\n")

    def write(self, name: str, text: str = "x\n") -> Path:
        path = self.top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def commit(self, message: str = "change") -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "--no-verify", "-m", message)
        return self.git("rev-parse", "HEAD")

    def everything(self, but: str = "") -> dict[str, str]:
        """All files and refs of the tree to the byte, without objects and the branch `but`, pushed or not."""
        own = {f".git/{log}refs/{kind}/{but}" for log in ("", "logs/") for kind in ("heads", "remotes/origin")}
        found: dict[str, str] = {}
        for folder, folders, files in os.walk(self.top):
            folders[:] = [name for name in folders if name not in ("objects", "worktrees")]
            for name in files:
                path = Path(folder) / name
                shown = os.fsdecode(os.fsencode(path.relative_to(self.top)))
                if but and shown in own:
                    continue
                if path.is_fifo():
                    continue
                data = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
                found[shown] = f"{path.lstat().st_mtime_ns} {hashlib.sha256(data).hexdigest()}"
        return found


def begun(top: Path, home: Path) -> UserTree:
    """A repository with one commit: main.c, test/test_main.c and a .gitignore for sdkconfig and managed_components."""
    top.mkdir(parents=True)
    tree = UserTree(top, home)
    tree.git("init", "-q", "-b", "main")
    tree.write("main/main.c", "int main(void)\n{\n    return 1;\n}\n")
    tree.write("test/test_main.c", 'TEST_CASE("a", "[m]")\n{\n    TEST_ASSERT_EQUAL(1, one());\n}\n')
    tree.write(".gitignore", "build/\nsdkconfig\nmanaged_components/\n*.log\n")
    tree.commit("init")
    return tree


@contextlib.contextmanager
def git_daemon(served: Path) -> Generator[int]:
    """The port of a git daemon on loopback that serves the repositories in a folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["git", "daemon", "--export-all", "--listen=127.0.0.1", f"--port={port}", "--reuseaddr"]
    process = subprocess.Popen(
        [*command, "--informative-errors", f"--base-path={served}", "--verbose"], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        assert "Ready to rumble" in process.stderr.readline()
        yield port
    finally:
        process.terminate()
        process.communicate()
