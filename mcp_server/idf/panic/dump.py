"""A panic while it is being printed: what each of its lines adds."""

import re

from mcp_server.idf.panic.model import Kind, Panic
from mcp_server.idf.panic.openings import Opening

MAX_LINES = 400  # two cores print about 120; an endless one is over here
MAX_CORE_DUMP_LINES = 65_536  # 4 MB at 64 letters a line: more than a chip's RAM
MAX_CORE_DUMP_CHARS = 262_144  # what is kept of it
KEPT_LINES = 120
KEPT_LINE_CHARS = 300
MAX_STACK_WORDS = 1024  # ESP-IDF prints 256
MAX_BACKTRACE = 100  # ESP-IDF's own limit
MAX_TASKS = 16
MAX_REGISTERS = 64
FOREIGN_AFTER_FATAL = 24  # lines of the other core, which may go on printing for a moment
FOREIGN_AFTER_WARNING = 4

_REGISTER = re.compile(r"\b([A-Z][A-Z0-9]{0,7}(?:/FP)?) {0,8}: (0x[0-9a-fA-F]{8})\b")
_STEP = re.compile(r"(0x[0-9a-fA-F]{8}):0x[0-9a-fA-F]{8}")
_STACK = re.compile(r"\b([0-9a-f]{8}): ((?:0x[0-9a-f]{8} ?){1,8})$")
_SHA = re.compile(r"ELF file SHA256: {1,4}([0-9a-f]{8,64})")
_CORE = re.compile(r"Core {0,4}(\d{1,2}) register dump:")
_CANARY = re.compile(r"Stack canary watchpoint triggered \((.{0,64})\)")
_GUARD = re.compile(r'Detected in task "(.{0,64})" at 0x')
_HUNGRY = re.compile(r"\B - (.{1,64}?) \(CPU [\d/]{1,3}\)")
_FILE = re.compile(r'file: "([^"]{1,250})" line (\d{1,7})')
_RUNNING = re.compile(r"task_wdt: CPU \d: (.{1,64})")
_AFTER = re.compile(r"(?:^|\s)(func|expression|what\(\)): {1,3}(.{1,300})")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{1,4000}={0,2}$")

_ENDS = ("Rebooting...", "CPU halted.", "Entering gdb stub now.", "seconds until reboot", "Setting breakpoint at 0x")
_STARTS_CORE_DUMP = "= CORE DUMP START ="
_ENDS_CORE_DUMP = "= CORE DUMP END ="

_FAMILIAR = (
    "task_wdt:",
    "esp_core_dump",
    "was running in ISR context",
    "Stack memory:",
    "Stack pointer:",
    "Stack bounds:",
    "Memory dump at 0x",
    "Debug exception reason:",
    "Rebooting in ",
    "CONFIG_ESP_SYSTEM_USE_FRAME_POINTER",
    "Backtrace ended abruptly",
    "cannot process eh_frame",
    "memory type: ",
    "faulting address: ",
    "operation type: ",
    "world: ",
    "byte-enables: ",
    "operation at address 0x",
    "CORRUPT HEAP",
)


def sha_of(line: str) -> str | None:
    """The ELF's hash that a line names; None for an image that was never given one, which reads as zeros."""
    found = _SHA.search(line)
    return found[1] if found and found[1].strip("0") else None


class Dump:
    """One panic as it grows. `ended` once its last line was seen, or too much else came instead."""

    def __init__(self, opening: Opening, line: str, before: tuple[str, ...], reboots: int) -> None:
        self.kind: Kind = opening.kind
        self.ended = False
        self.in_core_dump = False
        self._cause = opening.cause
        self._detail = ""
        self._fatal = opening.certain
        self._core, self._task, self._pc = opening.core, opening.task, opening.pc
        self._place = dict(opening.place)
        self._tasks: list[str] = []
        self._running: list[str] = []
        self._registers: dict[str, int] = {}
        self._blocks = 0  # register dumps: each core has its own
        self._backtrace: list[int] = []
        self._corrupted = False
        self._stack_at: int | None = None
        self._stack: list[int] = []
        self._sha: str | None = None
        self._before, self._reboots = before, reboots
        self._lines = [line[:KEPT_LINE_CHARS]]
        self._count = 1
        self._foreign: list[str] = []
        self._core_dump: list[str] = []
        self._core_dump_chars = 0
        self._core_dump_lines = 0
        self._core_dump_ended = False
        self._notes: list[str] = []

    @property
    def fatal(self) -> bool:
        return self._fatal

    def absorbs(self, opening: Opening) -> bool:
        """Whether this opening is the next words of the same panic, e.g. `abort()` after a failed assertion."""
        if self._registers or self._backtrace or self._sha or len(self._foreign) > FOREIGN_AFTER_WARNING:
            return False
        if self.kind == "heap_corruption":
            return opening.kind not in ("task_watchdog", "brownout")
        return opening.kind == "abort" and self.kind in ("assert", "error_check", "cpp_terminate", "undefined_behavior")

    def absorb(self, opening: Opening, line: str) -> None:
        """Take the second opening in: the first one keeps naming the cause."""
        self._keep(line)
        self._foreign = []
        self._fatal = self._fatal or opening.certain
        self._core = self._core if self._core is not None else opening.core
        self._pc = self._pc if self._pc is not None else opening.pc
        self._task = self._task or opening.task
        self._place = {**opening.place, **self._place}

    def add(self, line: str) -> None:
        """The next line, without control characters."""
        if self.in_core_dump:
            self._add_core_dump(line)
            return
        self._count += 1
        if not line.strip():
            return
        if self._familiar(line):
            for foreign in self._foreign:
                self._keep(foreign)
            self._foreign = []
            self._keep(line)
        else:
            self._foreign.append(line)
        self.ended = self.ended or self._count >= MAX_LINES or self._is_over()

    def left_over(self) -> list[str]:
        """The last lines, which are the firmware's again and not the panic's."""
        return self._foreign

    def stop_by_reset(self) -> None:
        """The chip was reset: whatever it was, the firmware did not go on."""
        self._fatal = True

    def reads(self) -> str:
        """The same text for the same panic, to count how often it comes."""
        return f"{self.kind} {self._program_counter()} {self._place.get('file')} {self._place.get('line')}"

    def panic(self) -> Panic:
        """What was said so far."""
        notes = list(self._notes)
        if self.in_core_dump:
            notes.append("the core dump is not complete")
        if self._core_dump_chars > MAX_CORE_DUMP_CHARS:
            notes.append(f"of the core dump, the first {MAX_CORE_DUMP_CHARS:,} letters were kept")
        if self._corrupted:
            notes.append("the chip found the stack corrupt: the backtrace may end early")
        file, line, function, expression = (self._place.get(n) for n in ("file", "line", "function", "expression"))
        return Panic(
            kind=self.kind,
            cause=self._sentence(),
            fatal=self._fatal,
            core=self._core,
            task=self._task,
            tasks=tuple(self._tasks),
            pc=self._program_counter(),
            backtrace=tuple(self._backtrace),
            backtrace_corrupted=self._corrupted,
            registers=dict(self._registers),
            stack_at=self._stack_at,
            stack=tuple(self._stack),
            elf_sha256=self._sha,
            file=None if file is None else str(file),
            line=None if line is None else int(line),
            function=None if function is None else str(function),
            expression=None if expression is None else str(expression),
            before=self._before,
            lines=tuple(self._lines),
            reboots=self._reboots,
            core_dump="\n".join(self._core_dump),
            core_dump_bytes=self._core_dump_chars * 3 // 4,
            core_dump_whole=self._core_dump_ended and self._core_dump_chars <= MAX_CORE_DUMP_CHARS,
            notes=tuple(notes),
        )

    def _program_counter(self) -> int | None:
        """Where it stopped; for an abort, where it was called rather than inside of it."""
        if self._pc is not None:
            return self._pc
        printed = self._registers.get("PC", self._registers.get("MEPC"))
        return printed if printed is not None else self._backtrace[0] if self._backtrace else None

    def _sentence(self) -> str:
        registers = self._registers
        pc = self._program_counter()
        address = registers.get("EXCVADDR", registers.get("MTVAL"))
        known = {
            "{pc}": "an address" if pc is None else f"0x{pc:08x}",
            "{address}": _address(address),
            "{jump}": "a wrong function pointer or return address",
            "{illegal}": "a wrong function pointer, overwritten code, or a function without a return",
        }
        cause = self._cause
        if "Guru Meditation" in self._lines[0]:  # braces in any other sentence are the firmware's
            for name, text in known.items():
                cause = cause.replace(name, text)
        if self.kind in ("task_watchdog", "cpp_terminate", "cache_error") and self._detail:
            cause = f"{cause}: {self._detail}"
        if self.kind == "task_watchdog" and self._tasks:
            cause = f"{cause}: {', '.join(self._tasks[:4])} did not reset the task watchdog"
            cause += f" while {', '.join(self._running[:2])} ran" if self._running else ""
        if self.kind == "error_check" and self._place.get("expression"):
            cause = f"{cause} from {self._place['expression']}"
        if self.kind == "stack_overflow":
            cause = f"{cause} in task {self._task}" if self._task else cause
        return cause[:400]

    def _is_over(self) -> bool:
        if self._fatal:
            return len(self._foreign) >= FOREIGN_AFTER_FATAL
        shown = bool(self._backtrace or self._registers)
        return len(self._foreign) >= (1 if shown else FOREIGN_AFTER_WARNING)

    def _keep(self, line: str) -> None:
        if len(self._lines) < KEPT_LINES:
            self._lines.append(line[:KEPT_LINE_CHARS])

    def _familiar(self, line: str) -> bool:
        """Take in what the line says; False where it says nothing of a panic."""
        if line.startswith("--- "):  # esp-idf-monitor's own comment on the line above
            return True
        if any(end in line for end in _ENDS):
            self.ended = True
            return True
        if _STARTS_CORE_DUMP in line:
            self.in_core_dump = True
            return True
        if "0x" in line and (self._numbers(line) or self._add_stack(line)):
            return True
        if "ELF file SHA256:" in line:
            self._sha = sha_of(line) or self._sha
            return True
        if core := _CORE.search(line):
            self._blocks += 1
            self._core = self._core if self._core is not None else int(core[1])
            return True
        return self._words(line) or any(text in line for text in _FAMILIAR)

    def _numbers(self, line: str) -> bool:
        if "Backtrace:" in line:
            steps = [int(address, 16) for address in _STEP.findall(line)]
            if not self._backtrace:
                self._backtrace = steps[:MAX_BACKTRACE]
                self._corrupted = "|<-CORRUPTED" in line
            return True
        registers = _REGISTER.findall(line)
        if self._blocks <= 1 and len(self._registers) < MAX_REGISTERS:
            for name, value in registers:
                self._registers.setdefault(name, int(value, 16))
        return bool(registers)

    def _add_stack(self, line: str) -> bool:
        found = _STACK.search(line.rstrip())
        if not found:
            return False
        address, words = int(found[1], 16), [int(word, 16) for word in found[2].split()]
        if self._stack_at is None:
            self._stack_at = address
        # A line that was lost or garbled on its way ends what can be trusted.
        if address == self._stack_at + 4 * len(self._stack) and len(self._stack) < MAX_STACK_WORDS:
            self._stack += words
        return True

    def _words(self, line: str) -> bool:
        if found := _CANARY.search(line) or _GUARD.search(line):
            self.kind, self._task = "stack_overflow", found[1]
            self._cause = "a stack overflow"
        elif self.kind == "task_watchdog":
            return self._watchdog(line)
        elif self.kind == "error_check" and (found := _FILE.search(line)):
            self._place |= {"file": found[1], "line": int(found[2])}
        elif found := self.kind in ("error_check", "cpp_terminate") and _AFTER.search(line):
            self._after(found[1], found[2].strip())
        elif self.kind == "cache_error" and not self._registers and not self._detail:
            self._detail = line.strip()[:160]
        else:
            return False
        return True

    def _after(self, name: str, text: str) -> None:
        if name == "what()":
            self._detail = text
        else:
            self._place["function" if name == "func" else "expression"] = text

    def _watchdog(self, line: str) -> bool:
        if "task_wdt:" in line and "Aborting." in line:
            self._fatal = True
        elif found := _HUNGRY.search(line):
            if len(self._tasks) < MAX_TASKS:
                self._tasks.append(found[1])
        elif found := _RUNNING.search(line):
            if len(self._running) < MAX_TASKS:
                self._running.append(found[1].strip())
        else:
            return False
        # An idle task only starves: who is to blame ran meanwhile.
        self._task = next((name for name in (*self._tasks, *self._running) if not name.startswith("IDLE")), None)
        return True

    def _add_core_dump(self, line: str) -> None:
        self._core_dump_lines += 1
        text = line.strip()
        if _ENDS_CORE_DUMP in text:
            self.in_core_dump, self._core_dump_ended = False, True
            self._keep(f"(core dump, {self._core_dump_chars * 3 // 4:,} bytes)")
        elif _BASE64.match(text):
            if self._core_dump_chars < MAX_CORE_DUMP_CHARS:
                self._core_dump.append(text)
            self._core_dump_chars += len(text)
        elif self._core_dump_lines >= MAX_CORE_DUMP_LINES or any(end in text for end in _ENDS):
            self.ended = True


def _address(address: int | None) -> str:
    if address is None:
        return "an address where no memory is"
    if address < 0x1000:
        return f"address 0x{address:08x}: a NULL pointer" + (" (or a member of one)" if address else "")
    return f"address 0x{address:08x}"
