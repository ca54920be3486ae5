"""esptool's output, read as it grows: how far it is, what went wrong, and what state that leaves the board in."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from mcp_server.idf.esptool_failures import LOST, TO_LOADER, find_failure
from mcp_server.idf.flash import INSTALL, Image
from mcp_server.idf.lines import LineCutter
from mcp_server.model import Progress

OURS: Final = "build-orchestrator: "
"""What a job says itself, before esptool does."""

KEPT_LINES = 12
LOADER_S = 15  # from its start to its first word, which comes at once; esptool itself waits for minutes
SILENT_S = 60  # esptool's own limits are shorter, but for what takes longer with an image's size
SILENT_S_PER_MB = 40  # as long as esptool lets a chip erase one
LOCKED: Final = "waiting for the port, which another job has"
LOADING: Final = "starting esptool's loader on the chip"
ERASING_ALL: Final = "erasing the whole flash"

_WRITING: Final = re.compile(r"Writing '.*' at (0x[0-9a-f]+)\.\.\.")
_AT: Final = re.compile(r"Writing at (0x[0-9a-f]+)\b")
_FACT: Final = re.compile(
    r"(?:(Connected to) (\S+) on .*|(Chip type|Features|MAC):\s+(\S.*)|(esptool)(?:\.py)? v(\d[\w.]*))"
)
_ERROR: Final = re.compile(r"^(?:ERROR: )?A (?:fatal|serial exception) error occurred: ")
_SMALLER: Final = re.compile(r"WARNING: Set flash_size (\S+) is larger than the available flash size of (\d+[KM]B)\b")
_TOUCHES: Final = ("Erasing flash", "Flash will be erased from", "Compressed ")
_STEPS: Final = (
    ("Connecting", "connecting"),
    ("Uploading stub", LOADING),
    ("Stub flasher running", "looking at the flash"),
    ("Erasing flash memory", ERASING_ALL),
    ("Flash memory erased", "reading the images"),
    ("Flash will be erased", "writing {}"),  # the loader erases as it writes, the chip's own says so before
    ("Erasing flash...", "erasing room for {}"),
    ("Took ", "writing {}"),
    ("Verifying written data", "verifying {}"),
    ("Lost connection", "connecting again, as the connection was lost while {} was written"),
)
_ADVICE: Final = re.compile(r"(?:For troubleshooting|Note: This error originates|Hint:|This can have many causes).*")


class Board(StrEnum):
    """What is known of the flash of a board after an attempt."""

    UNTOUCHED = "untouched"
    PARTLY = "partly written"
    ERASED = "erased"
    UNVERIFIED = "written, not verified"
    WRITTEN = "written"


SAID: Final = {
    Board.UNTOUCHED: "the board was not touched",
    Board.PARTLY: "the board is partly written: do not trust what it runs until it was flashed again",
    Board.ERASED: "the board's flash is erased and holds no firmware now",
    Board.UNVERIFIED: "all was written, but not all of it verified: do not trust what it runs",
    Board.WRITTEN: "all was written and verified",
}


class FlashLog:
    """The Observer of a flash. `images` are those of the plan, in the order of their addresses."""

    def __init__(self, images: Sequence[Image], *, careful: bool = False) -> None:
        self._images, self._careful = images, careful
        self._cutter = LineCutter()
        self._current = 0 if len(images) == 1 else -1  # a single image is not announced
        self._written = [0] * len(images)
        self._verified = [False] * len(images)
        self._doing = "starting esptool"
        self._started = False  # something was erased or written
        self._erased = self._resetting = False
        self._error: list[str] | None = None
        self.unverifiable = self.secured = False
        self._loader_runs = False  # and has said nothing yet
        self.waited_s: float | None = None  # for a word of esptool, until it was given up
        self.smaller: tuple[str, str] | None = None  # the flash that the build is for, the flash of the board
        self.said = ""
        self.facts: dict[str, str] = {}
        self.last_lines: list[str] = []

    # -- what the log says ---------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        for line in self._cutter.feed(data):
            self._look(line.rstrip())

    def close(self) -> None:
        """Look at the last line, which has no end."""
        for line in self._cutter.close():
            self._look(line.rstrip())

    def _look(self, line: str) -> None:
        if not line:
            return
        if not line.startswith("Writing at"):
            self.last_lines = [*self.last_lines, line[:300]][-KEPT_LINES:]
        if self._error is not None:
            self._error.append(line)
            del self._error[8:]
        elif line.startswith(OURS):
            self.said = line.removeprefix(OURS)
            self._doing = LOCKED if "locked by another job" in self.said else self.said[:200]
        elif match := _ERROR.match(line):
            self._error = [line[match.end() :]]
        elif match := _FACT.fullmatch(line):
            name, value = (word for word in match.groups() if word is not None)
            self.facts[name] = value
        else:
            self._step(line)

    def _step(self, line: str) -> None:
        if match := _WRITING.fullmatch(line):
            self._begin(int(match[1], 16))
        elif match := _AT.match(line):
            self._reach(int(match[1], 16))
        elif line.startswith("Hash of data verified"):
            self._verify()
        else:
            self._note(line)
            step = next((step for start, step in _STEPS if line.startswith(start)), None)
            self._doing = step.format(self.image) if step else self._doing

    def _note(self, line: str) -> None:
        self._loader_runs = line.startswith("Running stub flasher")
        self._started = self._started or line.startswith(_TOUCHES)
        self._erased = self._erased or line.startswith("Flash memory erased successfully")
        if match := _SMALLER.match(line):
            self.smaller = match[1], match[2]
        self.secured = self.secured or line.startswith("WARNING: Security features enabled")
        if line.startswith("Cannot verify written data"):
            self.unverifiable = True
            self._finish()
        # Said before the error, where there is one: what was done last stays.
        self._resetting = self._resetting or "resetting via" in line

    @property
    def image(self) -> str:
        """The one that is or was worked on last."""
        return self._images[self._current].name if self._current >= 0 else "the images"

    def _begin(self, offset: int) -> None:
        found = [at for at, image in enumerate(self._images) if image.offset == offset]
        self._current = found[0] if found else self._current
        # It says "Writing" before it does anything; of a flash that is empty it does not say when it begins.
        self._doing = f"{'writing' if self._erased else 'reading'} {self.image}"

    def _reach(self, address: int) -> None:
        self._started = True
        if self._current < 0:
            return
        image = self._images[self._current]
        done = min(max(0, address - image.offset), image.size)  # it is rounded up to 4 bytes at the end
        self._written[self._current] = done
        self._doing = f"writing {image.name} {100 * done // image.size} %"

    def _verify(self) -> None:
        self._finish()
        if self._current >= 0:
            self._verified[self._current] = True

    def _finish(self) -> None:
        if self._current >= 0:
            self._written[self._current] = self._images[self._current].size

    # -- what follows from it ------------------------------------------------------------------------------------------

    @property
    def progress(self) -> Progress:
        """Of all images, in kB (1024 bytes)."""
        total = sum(image.size for image in self._images)
        again = " (again, slowly, without esptool's loader)" if self._careful else ""
        doing = "resetting the board" if self._resetting else self._doing
        return Progress(done=sum(self._written) + 1023 >> 10, total=total + 1023 >> 10, message=f"{doing}{again}")

    @property
    def decided(self) -> bool:
        return self.gave_up  # esptool is never ended in the middle of a write because of what it said

    @property
    def gave_up(self) -> bool:
        """Nobody waits any longer for it, as it was silent for `waited_s`."""
        return self.waited_s is not None

    @property
    def patience_s(self) -> float | None:
        """How long esptool may say nothing. None: it did not start yet, or erases the whole flash, within its limit."""
        if "esptool" not in self.facts or self._doing == ERASING_ALL:
            return None
        if self.loading and self._loader_runs:
            return LOADER_S
        size = self._images[self._current].size if self._current >= 0 else 0
        return SILENT_S + SILENT_S_PER_MB * (size >> 20)

    def give_up(self) -> None:
        self.waited_s = self.patience_s or 0

    @property
    def doing(self) -> str:
        """What was done last, without a percentage."""
        return re.sub(r" \d+ %$", "", self._doing)

    @property
    def loading(self) -> bool:
        """esptool's own loader was sent to the chip, and nothing came of it yet."""
        return self._doing == LOADING

    @property
    def verified(self) -> bool:
        """Every image was read back by the chip and had the right hash."""
        return all(self._verified)

    @property
    def board(self) -> Board:
        if self.verified:
            return Board.WRITTEN
        if all(done == image.size for done, image in zip(self._written, self._images, strict=True)):
            return Board.UNVERIFIED
        if self._erased and not any(self._written):
            return Board.ERASED
        return Board.PARTLY if self._started else Board.UNTOUCHED

    @property
    def erased(self) -> bool:
        """The whole flash was erased, as was asked."""
        return self._erased

    @property
    def error(self) -> str:
        """What esptool says went wrong, its advice left out; "" where it said nothing."""
        kept = [_ADVICE.sub("", line).strip() for line in self._error or []]
        return " ".join(line for line in kept if line)

    def details(self) -> dict[str, Any]:
        """For the verdict: chip, MAC, esptool's version, each image with what became of it."""
        names = {"Chip type": "chip", "MAC": "mac", "Features": "features", "esptool": "esptool"}
        found: dict[str, Any] = {names[name]: value for name, value in self.facts.items() if name in names}
        found["board"] = str(self.board)
        found["images"] = [
            {"path": image.path, "offset": f"{image.offset:#x}", "size": image.size, "written": done, "verified": well}
            for image, done, well in zip(self._images, self._written, self._verified, strict=True)
        ]
        return found


# -- causes ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a flash failed. `again`: writing slowly, without esptool's own loader, may go well.

    `known`: the sentence has all of it; else the log may tell more.
    """

    name: str
    sentence: str
    again: bool = False
    known: bool = True


_CAUSES: Final = (
    (
        r"File '(.*)' \(length (\d+)\) at offset (\S+) will not fit in (\d+) bytes of flash",
        "flash_too_small",
        "{0} ({1} bytes at {2}) does not fit in the board's {3} bytes of flash: "
        "set CONFIG_ESPTOOLPY_FLASHSIZE and the partition table to the board's, then build again",
        False,
    ),
    (r"Secure Boot V1 detected", "secure_boot", "the board has secure boot: its bootloader may not be replaced", False),
    (
        r"Can't perform encrypted flash write|encrypt functionality",
        "flash_encryption",
        "the board cannot encrypt what is written, as its flash encryption is not set up, or closed for good: {said}",
        False,
    ),
    (
        r"[Ff]lash encryption",
        "flash_encryption",
        "the board encrypts its flash and could not run plain images: flash images that are encrypted with its key",
        False,
    ),
    (r"Secure Download Mode|download mode", "secure_download", "the chip's download mode is restricted: {said}", False),
    (
        r"is not supported by this chip type|Invalid value for|No such option|Invalid choice|invalid choice",
        "refused",
        "esptool does not take what the build asks for: {said}",
        False,
    ),
    (r"SPI unlock|write.?protect", "write_protected", "the flash chip is write protected: {said}", False),
    (r"MD5 of file does not match", "md5", "what was written is not what {image} holds (MD5)", True),
    (r"written flash region is empty", "md5", "nothing of {image} arrived in the flash: it is empty there", True),
    (r"start stub flasher", "stub", "esptool's loader did not start on the chip ({said})", True),
)


def cause_of(log: FlashLog, port: str) -> Cause:
    """Why it failed, in one sentence without its end; what became of the board is in `log.board`."""
    said, touched = log.error, log.board is not Board.UNTOUCHED
    if log.waited_s is not None:
        silent = f"said nothing for {log.waited_s} s"
        if log.loading:
            return Cause("stub", f"esptool's loader {silent} after its start on the chip", again=True)
        return Cause("stalled", f"esptool {silent} while {log.doing}", touched)
    image = log.image
    if touched and LOST.search(said):
        return Cause(
            "port_gone", f"{port} went away while {image} was written: check cable and power, then flash again"
        )
    if touched and "Failed to connect" in said:
        return Cause("stalled", f"the chip stopped answering while {image} was written", True)
    if not touched and (failure := find_failure(said, port)):
        return Cause(failure.name, f"{failure.sentence}: {failure.mend}")
    for pattern, name, sentence, again in _CAUSES:
        if match := re.search(pattern, said):
            return Cause(name, sentence.format(*match.groups(), port=port, said=_short(said), image=image), again)
    if "Failed to connect" in said:
        why = _short(said.partition(": ")[2])
        return Cause("no_answer", f"no chip answers on {port} ({why}): {TO_LOADER}, or check which port it is")
    if said:
        # The loader is written, too: to the chip's memory.
        return Cause("write" if touched else "esptool", f"{log.doing} failed: {_short(said)}", touched or log.loading)
    if log.said and "esptool" not in log.facts:
        return Cause("environment", _short(log.said))
    if any("No module named" in line for line in log.last_lines):
        return Cause("environment", f"esptool is not installed there: {INSTALL}")
    return Cause("esptool", f"esptool ended without a word while {log.doing}", touched, known=False)


def _short(text: str) -> str:
    text = " ".join(text.split()).rstrip(". ")
    return text if len(text) <= 240 else f"{text[:239]}…"
