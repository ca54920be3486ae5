"""Activation: what `idf_tools.py export` prints, how long it is remembered, and what its failures say."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from mcp_server.errors import EnvironmentMissing
from mcp_server.idf.activation import activate, missing_compiler, run_tool
from mcp_server.idf.installation import Installation
from tests.unit.idf.made_up import make_idf

CLIENT = {"PATH": "/usr/bin:/bin", "HOME": "/home/dev", "IDF_PATH": "/another/idf", "IDF_TOOLS_PATH": "/another"}

NO_TOOLS = """
if os.environ.get("IDF_SKIP_TOOLS_CHECK") != "1" or {hopeless}:
    for name in ("riscv32-esp-elf", "xtensa-esp-elf", "openocd-esp32", "a", "b"):
        print(f"ERROR: tool {{name}} has no installed versions. Please run 'idf_tools.py install'", file=sys.stderr)
    sys.exit(1)
"""


def calls(installation: Installation) -> int:
    file = installation.path / "tools" / "calls"
    return len(file.read_text().splitlines()) if file.exists() else 0


def spoil(installation: Installation, body: str) -> None:
    """The installation again, with an idf_tools.py that does `body` first."""
    other = make_idf(installation.path.parent / "other", body=body)
    (other / "tools" / "idf_tools.py").replace(installation.path / "tools" / "idf_tools.py")


async def test_only_what_export_prints_and_the_identity(installation: Installation, home: Path) -> None:
    """design: only the variables that `idf_tools.py export` prints."""
    activated = await activate(installation, home / "cache", CLIENT)
    tools = installation.tools_path
    environment = tools / "python_env" / "idf6.0_py3.11_env"
    assert activated == {
        "OPENOCD_SCRIPTS": f"{tools}/openocd",
        "IDF_PATH": str(installation.path),
        "IDF_TOOLS_PATH": str(tools),
        "IDF_PYTHON_ENV_PATH": str(environment),
        "ESP_IDF_VERSION": "6.0",
        "PATH": f"{tools}/tools/gcc/bin:{environment}/bin:{installation.path}/tools",
    }
    assert (installation.path / "tools" / "calls").read_text() == "export --format key-value\n"


async def test_is_remembered(installation: Installation, home: Path) -> None:
    """Ours. 0.2 s that need not be spent again."""
    first = await activate(installation, home / "cache", CLIENT)
    assert await activate(installation, home / "cache", CLIENT) == first
    assert calls(installation) == 1


@pytest.mark.parametrize("change", ["tools/tools.json", "tools/cmake/version.cmake", "python", "tool", "PATH", "cache"])
async def test_change_makes_it_ask_again(installation: Installation, home: Path, change: str) -> None:
    """Ours: an upgrade, a new tool or a damaged memory."""
    await activate(installation, home / "cache", CLIENT)
    client = dict(CLIENT)
    if change == "PATH":
        client["PATH"] = "/opt/bin:/usr/bin:/bin"
    elif change == "cache":
        for file in (home / "cache").iterdir():
            file.write_text(file.read_text().replace("{", "[", 1))
    elif change == "tool":
        (installation.tools_path / "tools" / "riscv32").mkdir(parents=True)
    elif change == "python":
        (installation.python.parent.parent / "pyvenv.cfg").write_text("version = 3.11.9\n")
    else:
        (installation.path / change).write_text((installation.path / change).read_text() + "\n")

    await activate(installation, home / "cache", client)

    assert calls(installation) == 2


async def test_memory_that_cannot_be_written_is_no_error(installation: Installation, home: Path) -> None:
    """Ours. It costs time only."""
    (home / "cache").write_text("a file")
    assert "PATH" in await activate(installation, home / "cache", CLIENT)


async def test_nothing_is_left_behind(installation: Installation, home: Path, tmp_path: Path) -> None:
    """The real one leaves a file for `deactivate` in TMPDIR at every call."""
    (tmp_path / "tmp").mkdir()
    await activate(installation, home / "cache", {**CLIENT, "TMPDIR": str(tmp_path / "tmp")})
    assert list((tmp_path / "tmp").iterdir()) == []


async def test_machine_without_chip_tools_is_activated(installation: Installation, home: Path) -> None:
    """ESP-IDF 6 says so by IDF_SKIP_TOOLS_CHECK; its linux target needs no tools."""
    spoil(installation, NO_TOOLS.format(hopeless=False))
    assert "PATH" in await activate(installation, home / "cache", CLIENT)


async def test_missing_tools_are_named_with_the_command(installation: Installation, home: Path) -> None:
    """Ours: one sentence, in an ESP-IDF that insists on its tools."""
    spoil(installation, NO_TOOLS.format(hopeless=True))
    with pytest.raises(EnvironmentMissing) as missing:
        await activate(installation, home / "cache", CLIENT)
    assert str(missing.value) == (
        "ESP-IDF 6.0.2 lacks riscv32-esp-elf, xtensa-esp-elf, openocd-esp32, a and 1 more: "
        f"run {installation.path}/install.sh"
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("sys.exit('ERROR: Python environment is for 5.1')", r"\(Python environment is for 5\.1\)"),
        ("raise ValueError('odd')", r"\(ValueError: odd\)"),
        ("sys.exit(0)", r"\(it printed nothing\)"),
    ],
)
async def test_failure_is_one_sentence(installation: Installation, home: Path, body: str, reason: str) -> None:
    """Ours. No traceback, and an exit code of 0 proves nothing."""
    spoil(installation, body)
    with pytest.raises(
        EnvironmentMissing, match=f"^ESP-IDF 6.0.2 in .* cannot be activated {reason}: run .*install.sh$"
    ):
        await activate(installation, home / "cache", CLIENT)


async def test_absent_python_is_one_sentence(installation: Installation, home: Path) -> None:
    """Ours. Removed since the build was stored."""
    installation.python.unlink()
    with pytest.raises(EnvironmentMissing, match=r"the Python of .* cannot be run .*: run .*install\.sh"):
        await activate(installation, home / "cache", CLIENT)


async def test_hanging_tool_is_bounded(installation: Installation, home: Path) -> None:
    """Ours. A hung network disk must not hold a build for ever."""
    spoil(installation, "import time; time.sleep(60)")
    with pytest.raises(EnvironmentMissing, match=r"export did not end within 0\.5 s"):
        await activate(installation, home / "cache", CLIENT, timeout_s=0.5)


async def test_cancelled_run_leaves_no_process(tmp_path: Path) -> None:
    """Ours. The whole group goes, also what the tool started."""
    held = tmp_path / "held"
    os.mkfifo(held)
    script = 'exec 9> "$1"; sleep 60 & echo started >&9; wait'
    run = asyncio.create_task(run_tool(["/bin/sh", "-c", script, "sh", str(held)], {"PATH": "/usr/bin:/bin"}, 60))
    async with asyncio.timeout(30):
        file = await asyncio.to_thread(held.open)
        assert await asyncio.to_thread(file.readline) == "started\n"
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        with file:
            assert await asyncio.to_thread(file.read) == ""  # the end comes when nobody holds it any more


async def test_runner_is_told_of_no_other_installation(installation: Installation, home: Path) -> None:
    """Older versions print only what differs from the shell they are called in."""
    seen: list[Mapping[str, str]] = []

    async def runner(argv: Sequence[str], env: Mapping[str, str], timeout_s: float) -> tuple[int, str, str]:
        seen.append(env)
        return 0, "PATH=/gcc/bin:$PATH\nnonsense\nX Y=1\nQUOTED=a=b\n", ""

    activated = await activate(installation, home / "cache", CLIENT, runner=runner)

    assert seen[0]["IDF_PATH"] == str(installation.path)
    assert activated["QUOTED"] == "a=b"
    assert activated["PATH"].startswith("/gcc/bin:")
    assert "X Y" not in activated


@pytest.mark.parametrize(
    ("target", "compiler"), [("esp32c3", "riscv32-esp-elf-gcc"), ("esp32", "xtensa-esp32-elf-gcc"), ("linux", "cc")]
)
def test_missing_compiler_is_told_before_the_build(
    installation: Installation, tmp_path: Path, target: str, compiler: str
) -> None:
    """Ours. CMake says it later and in forty lines."""
    env = {"PATH": str(tmp_path / "bin")}
    assert compiler in str(missing_compiler(installation, env, target))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / compiler).write_text("")
    (tmp_path / "bin" / compiler).chmod(0o755)
    assert missing_compiler(installation, env, target) is None


def test_unknown_toolchain_is_nobodys_business(installation: Installation) -> None:
    """Ours: in doubt idf.py decides."""
    assert missing_compiler(installation, {"PATH": ""}, "esp32s9") is None
    assert missing_compiler(installation, {"PATH": "", "IDF_TOOLCHAIN": "clang"}, "esp32c3") is None
