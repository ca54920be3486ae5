"""What firmware says, line by line: expected lines, failures, panics, tests, boots. `verdict.judge` decides on it."""

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from mcp_server.idf import frameworks
from mcp_server.idf.frameworks import TestReader
from mcp_server.idf.lines import LineCutter
from mcp_server.idf.panic import SIGNS, Panic, PanicReader
from mcp_server.idf.patterns import Pattern, compile_patterns
from mcp_server.idf.unity import TestResults
from mcp_server.model import Progress

KEPT_LINES = 20
SHOWN_CHARS = 300  # of a line, in a verdict
DUMP_LINES = 2000  # a dump that is longer is not waited for; an open core dump may be 65,536 lines
MOST_BYTES = 64 << 20  # of a program or an emulator; more is a loop that prints, and reading it would take minutes
MANY_LINES = 3 * KEPT_LINES  # fewer that come at once are looked at one by one
GARBAGE_BYTES = 32  # fewer bytes tell nothing of the baud rate
GARBAGE_SHARE = 0.3  # random bytes are 0.6 garbage, a console with some noise 0.01

_STARTED = (
    *("main_task: Calling app_main()", "main_task: Returned from app_main()", "cpu_start: Starting scheduler"),
    "port: Starting scheduler",  # the linux target's, whose main task says nothing before app_main
)
"""What ESP-IDF prints when the project's own program begins; the last one until 4.4."""

_DAMAGED = "the image in flash is damaged: flash the project again"
_STUCK = (
    ("waiting for download", "the chip waits for a download: its boot pin was low; let BOOT go and reset the board"),
    ("invalid header: 0xffffffff", "the flash is empty where the chip looks for its bootloader: flash the project"),
    (
        "invalid header: 0x",
        "no bootloader lies where the chip looks for it: it was written elsewhere (flash the whole project, for this "
        "chip), or the chip has flash encryption on and it was written in plain text",
    ),
    ("Failed to verify partition table", "the partition table in flash is not valid: flash the whole project"),
    ("mismatch chip ID", "the app was built for another chip: set the target and build again"),
    ("chip revision check failed", "the app was built for another revision of the chip: see CONFIG_<CHIP>_REV_MIN"),
    ("signature verification failed", "secure boot: the image is not signed with the key that the chip knows"),
    ("Image hash failed", _DAMAGED),
    ("Checksum failed", _DAMAGED),
    ("csum err", _DAMAGED),
    ("No bootable app partitions", "no partition holds an app that can boot: flash the whole project"),
    (" is not bootable", "an app partition cannot be booted: flash the whole project"),
    ("flash read err", "the flash cannot be read: look at its wiring and at CONFIG_ESPTOOLPY_FLASHMODE"),
    ("smaller than the size in the binary image header", "the flash is smaller than CONFIG_ESPTOOLPY_FLASHSIZE says"),
)
"""Why a boot ends early, by what bootloader and ROM print; the first one names the cause."""

_SIGNS = (*_STARTED, *(sign for sign, _ in _STUCK), *SIGNS, *frameworks.SIGNS)
_FIRST_SIGNS = tuple("\n" + sign for sign in frameworks.FIRST_SIGNS)
"""Lines of ASCII without any of these are no news: only the wanted patterns are searched in them."""


class PanicSource(Protocol):
    """What is asked of a reader of panics; `PanicReader` is one."""

    resets: int

    def feed(self, line: str) -> None: ...

    def close(self) -> None: ...

    @property
    def open(self) -> bool: ...

    @property
    def count(self) -> int: ...

    @property
    def panics(self) -> tuple[Panic, ...]: ...

    @property
    def warnings(self) -> tuple[Panic, ...]: ...

    @property
    def boot_loop(self) -> str | None: ...


class FirmwareLog:
    """Observes what firmware prints: every `expect` must be seen, in any order; any `fail_on` fails at once.

    With `default_rules` so do a panic, a boot loop and a failed test; tests that have begun must come to their end.
    Patterns are searched line by line, without colours and control characters; a prompt, which has no line end, is
    looked at in `close`. Fed again after a failure it keeps what the failure was. BadInput names `expect` or `fail_on`.

    `feed` knows no time. So `decided` comes with the line that was expected last, except while a panic is being
    printed; a panic that lies in the same piece of the log still fails it, one that would have come later does not.
    """

    def __init__(
        self,
        expect: Sequence[str] = (),
        fail_on: Sequence[str] = (),
        *,
        default_rules: bool = True,
        panics: PanicSource | None = None,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.most_bytes = most_bytes
        self.expect = compile_patterns("expect", expect)
        self.fail_on = compile_patterns("fail_on", fail_on)
        self.default_rules = default_rules
        self.missing: list[Pattern] = list(self.expect)
        self.matched: list[str] = []
        self.failed_line: str | None = None
        self.failed_pattern: Pattern | None = None
        self.loop: str | None = None
        """A boot loop, in one sentence."""
        self.started = 0
        """How often the project's own program began."""
        self.stuck: str | None = None
        """Why the last boot did not come so far, where it said so."""
        self.lines = 0
        self._kept: deque[str] = deque(maxlen=KEPT_LINES)
        self._cutter = LineCutter()
        self._tests = TestReader()
        self._panics: PanicSource = PanicReader() if panics is None else panics
        self._resets = self._dump_lines = 0
        self._fatal: int = 0
        self._started_in = -1  # the reset after which the program began last
        self._cut_off = False  # a panic has ended the tests, once all of it is known
        self._frozen = False

    # -- the observer --------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        if self.flooded or self._frozen:
            return
        lines = self._cutter.feed(data)
        if len(lines) >= MANY_LINES and self._is_dull(lines):
            lines = self._skim(lines)
        for line in lines:
            self._look(line)

    def close(self) -> None:
        """The log is over: its last line, which has no end, and a panic that was cut off are looked at, too."""
        for line in self._cutter.close():
            self._look(line)
        self._panics.close()
        self._judge_panics()

    @property
    def progress(self) -> Progress | None:
        """The last line, and how many tests are over and failed."""
        if not self.lines:
            return None
        results = self._tests.tally
        return Progress(done=results.over, message=self.last_line[:200], errors=results.failed)

    @property
    def decided(self) -> bool:
        if self._panics.open and self._dump_lines <= DUMP_LINES:
            return False
        return self.failed or self.given_up is not None or self.complete or self.flooded

    # -- what is known -------------------------------------------------------------------------------------------------

    @property
    def failed(self) -> bool:
        """Whether something was said that no later line can mend."""
        if self.failed_line is not None or self.loop is not None:
            return True
        tally = self._tests.tally
        return self.default_rules and (self._fatal > 0 or tally.cut or (tally.failed > 0 and not tally.running))

    @property
    def complete(self) -> bool:
        """Whether all that was asked for was said: every expected line, and the summary of tests that have begun."""
        tally = self._tests.tally
        return not self.missing and not tally.running and bool(self.expect or tally.summaries)

    @property
    def flooded(self) -> bool:
        """It printed more than `most_bytes`: what comes behind that is not looked at."""
        return self._cutter.total_bytes > self.most_bytes

    @property
    def given_up(self) -> Pattern | None:
        """A pattern that takes too long: what it would have found is not known."""
        return next((pattern for pattern in (*self.fail_on, *self.missing) if pattern.given_up), None)

    @property
    def panic(self) -> Panic | None:
        """The first panic that stopped the firmware."""
        return next(iter(self._panics.panics), None)

    @property
    def panics(self) -> tuple[Panic, ...]:
        """Panics that stopped the firmware, the first three."""
        return self._panics.panics

    @property
    def warnings(self) -> tuple[Panic, ...]:
        """Panics after which the firmware went on, e.g. a task watchdog that only warns."""
        return self._panics.warnings

    @property
    def resets(self) -> int:
        """Resets seen, the first boot among them."""
        return self._panics.resets

    @property
    def tests(self) -> TestResults | None:
        """Results of the tests that the firmware ran; None where it ran none."""
        return self._tests.tally.results() if self._tests.tally.begun else None

    @property
    def tested_nothing(self) -> bool:
        """Whether a summary counted no test, and no other run had one, e.g. as a filter left none."""
        return self._tests.tally.empty and not self._tests.tally.begun

    @property
    def last_lines(self) -> list[str]:
        return list(self._kept)

    @property
    def last_line(self) -> str:
        """The last line that is not empty."""
        return next((line for line in reversed(self._kept) if line.strip()), "")

    @property
    def is_garbage(self) -> bool:
        """Whether most of it is no text: it was read at the wrong baud rate."""
        cutter = self._cutter
        return cutter.total_bytes >= GARBAGE_BYTES and cutter.garbage_bytes > GARBAGE_SHARE * cutter.total_bytes

    # -- many lines ----------------------------------------------------------------------------------------------------

    def _is_dull(self, lines: list[str]) -> bool:
        """Whether nothing in these lines can be news to any reader, found out at a tenth of the cost of asking them."""
        if self._panics.open or self._tests.open:
            return False
        text = "\n" + "\n".join(lines)
        return text.isascii() and not any(sign in text for sign in (*_SIGNS, *_FIRST_SIGNS))

    def _skim(self, lines: list[str]) -> list[str]:
        """Of dull lines those that are to be looked at: what patterns find, with what came before, and the last."""
        patterns, seen = [*self.fail_on, *self.missing], 0
        wanted: list[str] = []
        for at, line in enumerate(lines[:-KEPT_LINES] if patterns else []):
            if any(pattern.search(line) for pattern in patterns if not pattern.given_up):
                wanted += lines[max(seen, at - KEPT_LINES) : at + 1]
                seen = at + 1
        return wanted + lines[max(seen, len(lines) - KEPT_LINES) :]

    # -- one line ------------------------------------------------------------------------------------------------------

    def _look(self, line: str) -> None:
        if self._frozen:
            return
        if not self.failed:
            self.lines += 1
            self._kept.append(line)
        self._panics.feed(line)
        self._judge_panics()
        if self.failed:
            self._frozen = not self._panics.open
            return
        self._tests.feed(line)
        self._note_boot(line)
        self._search(line)
        self._frozen = self.failed and not self._panics.open

    def _judge_panics(self) -> None:
        panics = self._panics
        self._dump_lines = self._dump_lines + 1 if panics.open else 0
        if panics.count != self._fatal:
            self._fatal, self._cut_off = panics.count, True
        if self._cut_off and not panics.open and panics.panics:
            self._cut_off = False
            self._tests.cut_off(panics.panics[-1].cause)
        if panics.resets != self._resets:
            self._resets = panics.resets
            self._tests.restarted(expected=self._resets == 1)  # what came before the first boot is of another run
            if self.default_rules and self.started < self._resets - 1:
                self.loop = panics.boot_loop

    def _note_boot(self, line: str) -> None:
        if ("app_main()" in line or "Starting scheduler" in line) and any(sign in line for sign in _STARTED):
            if self._started_in != self._resets:
                self.started, self._started_in, self.stuck = self.started + 1, self._resets, None
        elif not self.started and self.stuck is None:
            self.stuck = next((why for sign, why in _STUCK if sign in line), None)

    def _search(self, line: str) -> None:
        for pattern in self.fail_on:
            if not pattern.given_up and pattern.search(line):
                self.failed_line, self.failed_pattern = line, pattern
                return
        if self.missing:
            hits = [pattern for pattern in self.missing if not pattern.given_up and pattern.search(line)]
            if hits:
                self.matched.append(line[:SHOWN_CHARS])
                self.missing = [pattern for pattern in self.missing if pattern not in hits]
