"""What a board is: chip, revision, MAC, flash, crystal and security, as esptool reads them; and why it could not.

esptool is run as a program. Each run resets the board twice: into its loader, then back into its firmware.
"""

import re
from collections.abc import Mapping, Sequence

from mcp_server.errors import EnvironmentMissing, OrchestratorError
from mcp_server.idf.activation import Runner, run_tool
from mcp_server.idf.esptool_failures import Failure, find_failure
from mcp_server.idf.flash_tool import ABSENT
from mcp_server.model import Model

READ_S = 20  # of one run; a board that answers is read in 2 s, one that does not is given up after 10
URL_READ_S = 40  # each setting that pyserial makes over RFC 2217 takes 50 ms: a board there is read in 12 to 17 s
ATTEMPTS = "3"  # to connect; esptool's own seven take 20 s


class Board(Model):
    """A chip behind a serial port. None: esptool does not say, as a chip in secure download mode tells next to nothing.

    `chip` is esptool's name of it (ESP32-C3), `flash_size` as esptool writes it (4MB).
    """

    chip: str
    model: str | None = None
    revision: str | None = None
    features: str | None = None
    crystal: str | None = None
    usb_mode: str | None = None
    mac: str | None = None
    flash_size: str | None = None
    secure_boot: bool | None = None
    flash_encryption: bool | None = None
    secure_download: bool = False

    @property
    def target(self) -> str:
        """ESP-IDF's name of the chip: esp32c3."""
        return self.chip.lower().replace("-", "")

    @property
    def text(self) -> str:
        """`ESP32-C3 (QFN32) v0.3, MAC 7c:df:…, 4MB flash, 40MHz crystal, secure boot off, flash encryption off`."""
        words = [" ".join(word for word in (self.model or self.chip, self.revision) if word)]
        words += [f"MAC {self.mac}"] if self.mac else []
        words.append(f"{self.flash_size} flash" if self.flash_size else "flash size unknown")
        words += [f"{self.crystal} crystal"] if self.crystal else []
        for name, value in (("secure boot", self.secure_boot), ("flash encryption", self.flash_encryption)):
            words.append(f"{name} {'unknown' if value is None else 'on' if value else 'off'}")
        words += ["secure download mode"] if self.secure_download else []
        return ", ".join(words)

    @property
    def guarded(self) -> str | None:
        """What makes flashing it a matter of its own; None where nothing does."""
        if self.secure_download:
            return "in secure download mode only signed images can be written, and nothing can be read"
        if self.flash_encryption:
            return "flash encryption is on: plain images do not boot; flash encrypted ones (idf.py encrypted-flash)"
        if self.secure_boot:
            return "secure boot is on: only images signed with its key boot"
        return None


class BoardError(OrchestratorError):
    """A board could not be read. `trouble` says why; nothing was written to it."""

    def __init__(self, port: str, trouble: Failure) -> None:
        self.port, self.trouble = port, trouble
        self.reason = trouble.name
        told = trouble.sentence if port in trouble.sentence else f"{port}: {trouble.sentence}"
        super().__init__(f"{told}: {trouble.mend}")


async def read_board(
    esptool: Sequence[str],
    port: str,
    env: Mapping[str, str],
    *,
    runner: Runner = run_tool,
    timeout_s: float | None = None,
) -> Board:
    """Ask the chip behind `port`; `esptool` is the beginning of its command line (`[python, "-m", "esptool"]`).

    Two runs, so at most twice `timeout_s`. BoardError: it could not be read. EnvironmentMissing: esptool does not run.
    """
    timeout_s = timeout_s or (URL_READ_S if "://" in port else READ_S)
    first = await _run(esptool, port, env, "get-security-info", runner, timeout_s)
    if trouble := _hopeless(first, port):
        raise BoardError(port, trouble)
    if "Secure Download Mode" in first[1]:
        return parse_board(first[1])
    second = await _run(esptool, port, env, "flash-id", runner, timeout_s)
    text = f"{first[1]}\n{second[1]}"
    if "Connected to" not in text and "Chip is" not in text:
        raise BoardError(port, trouble_of(second[1], port))
    return parse_board(text)


async def _run(
    esptool: Sequence[str], port: str, env: Mapping[str, str], command: str, runner: Runner, timeout_s: float
) -> tuple[int, str]:
    argv = [*esptool, "--port", port, "--connect-attempts", ATTEMPTS, "--no-stub"]
    env = {**env, "NO_COLOR": "1", "COLUMNS": "200", "TERM": "dumb"}
    try:
        code, out, err = await runner([*argv, command], env, timeout_s)
        if code == 2 and f"invalid choice: '{command}'" in err:  # esptool 4
            code, out, err = await runner([*argv, command.replace("-", "_")], env, timeout_s)
    except TimeoutError:
        mend = "unplug the board and plug it in again"
        raise BoardError(port, Failure("no_answer", f"esptool did not end within {timeout_s:g} s", mend)) from None
    except OSError as error:
        raise EnvironmentMissing(
            f"esptool cannot be run ({esptool[0]}: {error.strerror}): pip install 'esptool>=5'"
        ) from None
    if "No module named" in err and "esptool" in err:
        raise EnvironmentMissing("esptool is not installed: pip install 'esptool>=5', or install ESP-IDF")
    if code == ABSENT:
        raise EnvironmentMissing(err.strip().rpartition("build-orchestrator: ")[2])
    return code, f"{out}\n{err}"


def _hopeless(ended: tuple[int, str], port: str) -> Failure | None:
    """The trouble of a run that reached no chip. An older chip that has no security info is no trouble."""
    code, text = ended
    if code == 0 or "Connected to" in text or "Chip is" in text:
        return None
    trouble = trouble_of(text, port)
    return None if trouble.name == "unknown" and "Detecting chip type... " in text else trouble


def trouble_of(output: str, port: str) -> Failure:
    """Why esptool could not reach a chip or lost it, from all that it printed (esptool 4 and 5)."""
    if failure := find_failure(output, port):
        return failure
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if "rror" in line), lines[-1] if lines else "nothing")
    return Failure("unknown", f"esptool says: {said.removeprefix('ERROR: ')[:200]}", "run it by hand")


_FACTS: dict[str, str] = {
    "chip": r"^(?:Connected to|Detecting chip type\.\.\.) (ESP[\w-]+)",
    "model": r"^(?:Chip type: +|Chip is )(ESP.*?)(?: in Secure Download Mode)?(?: \(revision .*\))?$",
    "revision": r"\(revision (v[\d.]+)\)",
    "features": r"^Features: +(.+)$",
    "crystal": r"^Crystal (?:frequency: +|is )(\d+MHz)",
    "usb_mode": r"^USB mode: +(.+)$",
    "mac": r"^(?:BASE )?MAC: +([0-9a-fA-F:]{17,23})$",
    "flash_size": r"^Detected flash size: (\d+[KM]B)$",
}
_SWITCHES = {"secure_boot": r"^Secure Boot: (\w+)", "flash_encryption": r"^Flash Encryption: (\w+)"}


def parse_board(output: str) -> Board:
    """The facts in what `get-security-info` and `flash-id` printed, one after the other (esptool 4 and 5)."""
    found: dict[str, str] = {}
    for name, pattern in _FACTS.items():
        if match := re.search(pattern, output, re.MULTILINE):
            found[name] = match[1].strip()[:120]
    switches = {
        name: match[1] == "Enabled"
        for name, pattern in _SWITCHES.items()
        if (match := re.search(pattern, output, re.MULTILINE))
    }
    chip = found.pop("chip", None) or found.get("model", "unknown chip").partition(" ")[0]
    secure_download = "in Secure Download Mode" in output
    return Board.model_validate({"chip": chip, **found, **switches, "secure_download": secure_download})
