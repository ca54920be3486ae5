"""Finds panics and resets in what a chip prints."""

import re
from collections import deque

from mcp_server.idf.panic.dump import Dump, sha_of
from mcp_server.idf.panic.model import Kind, Panic
from mcp_server.idf.panic.openings import MARKERS, opening_of

MAX_LINE_CHARS = 4096
BEFORE_LINES = 20
BEFORE_CHARS = 240
KEPT = 3
MAX_REASONS = 32  # a chip has about twenty
LOOP_AFTER = 3  # the same end, so often: it will not get better by itself

_ESCAPE = re.compile(r"\x1b(?:\[[0-9;?]{0,16}[@-~]?|.)?")
_NOT_SHOWN = dict.fromkeys((*range(9), *range(10, 32), *range(127, 160), 0x2028, 0x2029))
_RESET = re.compile(r"rst:0x(?P<code>[0-9a-fA-F]{1,2}) \((?P<name>[A-Za-z0-9_]{1,40})\)")
_BANNER = re.compile(r"ESP-ROM:esp32|(?:^|\s)ets [A-Z][a-z]{2} {1,2}\d{1,2} \d{4} ")
_ABNORMAL = re.compile(r"WDT|WATCHDOG|BROWN|GLITCH|LOCKUP|CRC|INTRUSION")
_BOOT_ERROR = re.compile(
    r"(?:^|\s)E \(\d{1,10}\) ((?:boot|esp_image|flash_parts|bootloader_\w{1,20}|secure_boot\w{0,10}).{1,160})"
    r"|(invalid header: 0x[0-9a-f]{1,8})"
)

SIGNS = (
    *(*MARKERS, "rst:0x", "ESP-ROM:", "ets ", "ELF file SHA256:", "invalid header: 0x"),
    *(") boot", ") esp_image", ") flash_parts", ") bootloader_", ") secure_boot"),
)
"""Between panics a line of ASCII without any of these is only kept as one that came before."""


class PanicReader:
    """Fed line by line; holds a bounded number of lines whatever comes.

    `panics` are the first ones that stopped the firmware, `warnings` those after which it went on (a task watchdog
    that only warns); `count` and `warning_count` count all of them. A panic that is still being printed is in them,
    and `open` says so: a watcher waits for its end.
    """

    def __init__(self) -> None:
        self._kept: list[Panic] = []
        self._kept_warnings: list[Panic] = []
        self._count = 0
        self._warning_count = 0
        self._dump: Dump | None = None
        self._before: deque[str] = deque(maxlen=BEFORE_LINES)
        self.resets = 0
        """Resets seen, the first boot of the log among them."""
        self.reasons: dict[str, int] = {}
        """How often each reset reason came, e.g. {"0xc RTC_SW_CPU_RST": 5}."""
        self.elf_sha256: str | None = None
        """What the firmware said of itself at its last boot, which a panic need not repeat."""
        self._last = ""  # how the last panic read
        self._repeats = 0
        self._explained = False  # whether a panic announced the next reset
        self._boot_error = ""  # the first one of this boot, from the bootloader or the ROM
        self._failed_boots = 0  # in a row, with such an error
        self._failed_why = ""

    @property
    def open(self) -> bool:
        """Whether a panic is being printed now."""
        return self._dump is not None

    @property
    def panics(self) -> tuple[Panic, ...]:
        return self._with_open(self._kept, fatal=True)

    @property
    def warnings(self) -> tuple[Panic, ...]:
        return self._with_open(self._kept_warnings, fatal=False)

    @property
    def count(self) -> int:
        return self._count + (self._dump is not None and self._dump.fatal)

    @property
    def warning_count(self) -> int:
        return self._warning_count + (self._dump is not None and not self._dump.fatal)

    @property
    def boot_loop(self) -> str | None:
        """One sentence where the firmware ends the same way again and again; None where it does not.

        Firmware that restarts itself by intent reads like one: it is no failure unless it was to do something else.
        """
        if self._repeats >= LOOP_AFTER:
            return f"boot loop: the same panic {self._repeats} times in a row"
        if self._failed_boots >= LOOP_AFTER:
            return f"boot loop: {self._failed_boots} boots in a row failed: {self._failed_why}"
        name, often = max(self.reasons.items(), key=lambda item: item[1], default=("", 0))
        return f"boot loop: reset {often} times ({name})" if often >= LOOP_AFTER else None

    def feed(self, line: str) -> None:
        """One line, with or without its end, colours, prefixes; what is beyond 4,096 characters is not read."""
        text = _clean(line)
        if (self._dump is None or not self._dump.in_core_dump) and (opening := opening_of(text)):
            if self._dump is not None and self._dump.absorbs(opening):
                self._dump.absorb(opening, text)
                return
            self._end_dump()
            self._dump = Dump(opening, text, tuple(self._before), max(self.resets - 1, 0))
            return
        if "rst:0x" in text or "ESP-ROM:" in text or "ets " in text:
            self._look_for_reset(text)
        if self._dump is None:
            self._between(text)
            return
        self._dump.add(text)
        if self._dump.ended:
            self._end_dump()

    def close(self) -> None:
        """No more lines come: what is being printed ends here."""
        self._end_dump()

    def _with_open(self, kept: list[Panic], *, fatal: bool) -> tuple[Panic, ...]:
        dump = self._dump
        if dump is None or dump.fatal != fatal or len(kept) >= KEPT:
            return tuple(kept)
        return (*kept, self._panic(dump))

    def _panic(self, dump: Dump) -> Panic:
        panic = dump.panic()
        if panic.elf_sha256 is None and self.elf_sha256:
            return panic.model_copy(update={"elf_sha256": self.elf_sha256})
        return panic

    def _end_dump(self) -> None:
        dump, self._dump = self._dump, None
        if dump is None:
            return
        self._before.clear()
        self._before.extend(line[:BEFORE_CHARS] for line in dump.left_over())
        if dump.fatal:
            self._keep(self._panic(dump) if len(self._kept) < KEPT else None, dump.reads())
            return
        self._warning_count += 1
        if len(self._kept_warnings) < KEPT:
            self._kept_warnings.append(self._panic(dump))

    def _keep(self, panic: Panic | None, reads: str) -> None:
        self._count += 1
        self._repeats = self._repeats + 1 if reads == self._last else 1
        self._last = reads
        self._explained = True
        if panic is not None:
            self._kept.append(panic)

    def _between(self, text: str) -> None:
        if not text.strip():
            return
        if "ELF file SHA256:" in text:
            self.elf_sha256 = sha_of(text)
        elif not self._boot_error and (found := _BOOT_ERROR.search(text)):
            self._boot_error = found[1] or found[2]
        self._before.append(text[:BEFORE_CHARS])

    def _look_for_reset(self, text: str) -> None:
        found = _RESET.search(text)
        if self._dump is not None and (found or _BANNER.search(text)):
            self._dump.stop_by_reset()
            self._end_dump()
        if not found:
            return
        reason = f"0x{found['code'].lower()} {found['name']}"
        if reason in self.reasons or len(self.reasons) < MAX_REASONS:
            self.reasons[reason] = self.reasons.get(reason, 0) + 1
        self._unexplained(reason)
        self.resets += 1

    def _unexplained(self, reason: str) -> None:
        """A reset that no panic announced: by a watchdog or the power it is a failure of its own."""
        first, explained, error = self.resets == 0, self._explained, self._boot_error
        self._explained = False
        self._failed_boots = self._failed_boots + 1 if error and not explained else 0
        self._failed_why = error
        if self._failed_boots == LOOP_AFTER and self.boot_loop:
            self._made_up("boot_loop", self.boot_loop, reason)
        elif _ABNORMAL.search(reason.upper()) and not first and not explained:
            why = f"the last error was: {error}" if error else "it hung, or its power failed"
            self._made_up("unexplained_reset", f"the chip was reset ({reason}) without a panic: {why}", reason)
        self._boot_error = ""

    def _made_up(self, kind: Kind, cause: str, reason: str) -> None:
        before = tuple(self._before)
        panic = Panic(kind=kind, cause=cause, before=before, lines=(reason,), reboots=max(self.resets - 1, 0))
        self._keep(panic if len(self._kept) < KEPT else None, f"{kind} {reason}")
        self._explained = False


def _clean(line: str) -> str:
    """Without colours and control characters, of bounded length."""
    text = line[:MAX_LINE_CHARS]
    if text.isprintable():
        return text
    if "\x1b" in text:
        text = _ESCAPE.sub("", text)
    return text.translate(_NOT_SHOWN)
