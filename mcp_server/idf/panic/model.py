"""What a panic said, and what it means once its addresses are places in the source."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from mcp_server.model import Model

Kind = Literal[
    "guru_meditation",
    "load_fault",
    "store_fault",
    "instruction_fault",
    "illegal_instruction",
    "divide_by_zero",
    "alignment_fault",
    "cache_error",
    "memory_protection",
    "double_exception",
    "interrupt_watchdog",
    "task_watchdog",
    "stack_overflow",
    "stack_smashing",
    "heap_corruption",
    "abort",
    "assert",
    "error_check",
    "cpp_terminate",
    "undefined_behavior",
    "brownout",
    "panic_in_panic",
    "unexplained_reset",
    "boot_loop",
]
"""`guru_meditation` is any other cause that the chip names."""


class Panic(Model):
    """One panic as it was printed. Addresses are numbers; what was not printed is None or empty.

    `cause` is one sentence. `core` and `task` are those at fault; `tasks` all that a watchdog named. `backtrace` is
    Xtensa's own, or that of a RISC-V program that prints one; else `stack` holds the words that were dumped from
    address `stack_at` on. `registers` are the first core's that was printed. `file`, `line`, `function` and
    `expression` are those that the firmware itself printed. `fatal` is False where the firmware went on.
    `before` are at most 20 lines ahead of it, `lines` its own text, without the core dump; both are bounded.
    `reboots` counts the resets ahead of it in the same log. `core_dump` is base64 and bounded, `core_dump_bytes` not;
    `core_dump_whole`: it came to its end within that bound.
    """

    kind: Kind
    cause: str
    fatal: bool = True
    core: int | None = None
    task: str | None = None
    tasks: tuple[str, ...] = ()
    pc: int | None = None
    backtrace: tuple[int, ...] = ()
    backtrace_corrupted: bool = False
    registers: Mapping[str, int] = Field(default_factory=dict[str, int])
    stack_at: int | None = None
    stack: tuple[int, ...] = ()
    elf_sha256: str | None = None
    file: str | None = None
    line: int | None = None
    function: str | None = None
    expression: str | None = None
    before: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    reboots: int = 0
    core_dump: str = Field(default="", repr=False)
    core_dump_bytes: int = 0
    core_dump_whole: bool = False
    notes: tuple[str, ...] = ()


class Frame(Model):
    """One step of a backtrace, the innermost first.

    `inlined`: it has no call of its own, the next frame holds it. `handler`: part of how the chip stops (abort, the
    panic handler, a task's first function), never the cause. `certain` is False for an address that only lay on the
    stack and looks like a return address.
    """

    address: int
    function: str | None = None
    file: str | None = None
    line: int | None = None
    inlined: bool = False
    handler: bool = False
    certain: bool = True

    @property
    def place(self) -> str:
        """`main/main.c:6`, or ""."""
        return "" if self.file is None else self.file if self.line is None else f"{self.file}:{self.line}"


class Decoded(Model):
    """A panic with its frames. `matches`: whether the ELF is the firmware's; None where the panic does not say."""

    panic: Panic
    frames: tuple[Frame, ...] = ()
    matches: bool | None = None
    notes: tuple[str, ...] = ()

    @property
    def cause_frames(self) -> tuple[Frame, ...]:
        """The frames from the first one that may be the user's mistake, without those of the panic handler."""
        return tuple(frame for frame in self.frames if not frame.handler)
