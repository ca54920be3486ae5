"""How the first line of a panic reads, whatever stands before it in the line.

The texts are those of ESP-IDF 4.4 to 6.0: esp_system, freertos, heap, esp_libc, cxx, esp_hw_support; and for the linux
target those of glibc and newlib. Every pattern is bounded, begins with literal text and is tried only where that is.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mcp_server.idf.panic.model import Kind

_HEX = r"0x(?P<pc>[0-9a-fA-F]{1,16})"


@dataclass(frozen=True, slots=True)
class Opening:
    """What the first line says. `certain` is False where only what follows tells whether the firmware stops."""

    kind: Kind
    cause: str
    certain: bool = True
    core: int | None = None
    task: str | None = None
    pc: int | None = None
    place: Mapping[str, str | int] = field(default_factory=dict[str, str | int])


def opening_of(line: str) -> Opening | None:
    """The panic that begins in this line, which has no control characters; None for any other line."""
    for marker, pattern, make in _OPENINGS:
        if marker in line and (found := pattern.search(line)):
            return make(found)
    return None


_FAULTS: Mapping[str, tuple[Kind, str]] = {
    "LoadProhibited": ("load_fault", "read from {address}"),
    "LoadStoreError": ("load_fault", "a read or write of {address} that this memory does not allow"),
    "LoadStorePIFDataError": ("load_fault", "read or wrote {address}, and the memory answered with an error"),
    "LoadStorePIFAddrError": ("load_fault", "read or wrote {address}, where no memory is"),
    "LoadStorePrivilege": ("load_fault", "read or wrote {address} without the right to"),
    "Load access fault": ("load_fault", "read from {address}"),
    "Load page fault": ("load_fault", "read from {address}"),
    "StoreProhibited": ("store_fault", "wrote to {address}"),
    "Store access fault": ("store_fault", "wrote to {address}"),
    "Store page fault": ("store_fault", "wrote to {address}"),
    "InstrFetchProhibited": ("instruction_fault", "jumped to {pc}, where no code is: {jump}"),
    "InstructionFetchError": ("instruction_fault", "jumped to {pc}, where no code is: {jump}"),
    "InstrPIFAddrError": ("instruction_fault", "jumped to {pc}, where no code is: {jump}"),
    "InstrPDAddrError": ("instruction_fault", "jumped to {pc}, where no code is: {jump}"),
    "InstFetchPrivilege": ("instruction_fault", "jumped to {pc}, where no code may run: {jump}"),
    "Instruction access fault": ("instruction_fault", "jumped to {pc}, where no code is: {jump}"),
    "Instruction page fault": ("instruction_fault", "jumped to {pc}, where no code is: {jump}"),
    "Instruction address misaligned": ("instruction_fault", "jumped to the odd address {pc}: {jump}"),
    "IllegalInstruction": ("illegal_instruction", "ran an illegal instruction at {pc}: {illegal}"),
    "Illegal instruction": ("illegal_instruction", "ran an illegal instruction at {pc}: {illegal}"),
    "IntegerDivideByZero": ("divide_by_zero", "divided a whole number by zero"),
    "LoadStoreAlignment": ("alignment_fault", "read or wrote {address}, which is not aligned for its size"),
    "Load address misaligned": ("alignment_fault", "read from {address}, which is not aligned for its size"),
    "Store address misaligned": ("alignment_fault", "wrote to {address}, which is not aligned for its size"),
    "Cache error": ("cache_error", "used code or data in flash or PSRAM while the cache was off"),
    "Cache disabled but cached memory region accessed": (
        "cache_error",
        "used code or data in flash or PSRAM while the cache was off",
    ),
    "Memory protection fault": ("memory_protection", "touched protected memory"),
    "Stack protection fault": ("stack_overflow", "a stack overflow"),
    "Double exception": ("double_exception", "an exception while another one was handled: often a broken stack"),
    "Unhandled debug exception": ("guru_meditation", "a debug exception: a watchpoint or breakpoint was hit"),
    "Breakpoint": ("guru_meditation", "a breakpoint instruction was run: __builtin_trap or a failed check"),
}
"""By the reason in "panic'ed (…)": the kind, and the sentence; what is in braces is known when all is printed."""


def fault(reason: str) -> tuple[Kind, str]:
    """Kind and sentence of a Guru Meditation's reason."""
    if reason.startswith("Interrupt wdt timeout"):
        return "interrupt_watchdog", "interrupts were off or an interrupt handler ran for too long"
    return _FAULTS.get(reason, ("guru_meditation", f"the chip stopped: {reason}"))


def _guru(found: re.Match[str]) -> Opening:
    reason = found["reason"].strip()
    kind, cause = fault(reason)
    return Opening(kind, f"{cause} ({reason})" if reason not in cause else cause, core=int(found["core"]))


def _abort(found: re.Match[str]) -> Opening:
    core = found["core"]
    return Opening("abort", "abort() was called", core=int(core) if core else None, pc=int(found["pc"], 16))


def _assert(found: re.Match[str]) -> Opening:
    place: dict[str, str | int] = {
        name: text for name in ("file", "function", "expression") if (text := (found[name] or "").strip())
    }
    if "expression" in place and found.re is _IDF_ASSERT:
        place["expression"] = str(place["expression"]).removesuffix(")")
    place["line"] = int(found["line"])
    where = f"{place.get('file')}:{place['line']}"
    return Opening("assert", f"assert failed at {where}: {place.get('expression', '?')}", place=place)


def _silent_assert(found: re.Match[str]) -> Opening:
    return Opening("assert", "assert failed; its text is left out of this build", pc=int(found["pc"], 16))


def _error_check(found: re.Match[str]) -> Opening:
    code, name = found["code"], found["name"]
    pc = int(found["pc"], 16) if found["pc"] else None
    return Opening("error_check", f"ESP_ERROR_CHECK got {name or 'error'} ({code})", pc=pc)


def _overflow(found: re.Match[str]) -> Opening:
    return Opening("stack_overflow", "a stack overflow", task=found["task"].strip() or None)


def _terminate(found: re.Match[str]) -> Opening:
    thrown = found["thrown"]
    cause = f"a C++ exception was not caught: {thrown}" if thrown else "C++ called std::terminate"
    return Opening("cpp_terminate", cause)


def _heap(found: re.Match[str]) -> Opening:
    return Opening("heap_corruption", f"the heap is corrupt: {found['what'].strip() or '?'}", certain=False)


def _undefined(found: re.Match[str]) -> Opening:
    return Opening("undefined_behavior", f"undefined behavior: {found['what']}")


def _fixed(kind: Kind, cause: str, *, certain: bool = True) -> Callable[[re.Match[str]], Opening]:
    return lambda _: Opening(kind, cause, certain=certain)


_IDF_ASSERT = re.compile(  # the function is that of C++ with its arguments, so it may have blanks and colons
    r"assert failed: (?:(?P<function>.{0,200}?) {1,2})?(?P<file>[^\s:]{1,250}):(?P<line>\d{1,7})"
    r"(?: \((?P<expression>.{0,300}))?"
)
_SMASHED = "a function wrote beyond the end of a local array (stack smashing)"
_SLOW = "a task did not let others run in time"

_OPENINGS: tuple[tuple[str, re.Pattern[str], Callable[[re.Match[str]], Opening]], ...] = (
    (
        "Guru Meditation Error",
        re.compile(r"Guru Meditation Error: Core {0,4}(?P<core>\d{1,2}) panic'ed \((?P<reason>[^)]{1,80})\)"),
        _guru,
    ),
    ("assert failed: ", _IDF_ASSERT, _assert),
    ("assert failed: ", re.compile(rf"assert failed: {_HEX}\s{{0,4}}$"), _silent_assert),
    (
        "assert failed at ",  # ESP-IDF on the linux target
        re.compile(
            r"assert failed at (?P<file>[^:]{1,250}):(?P<line>\d{1,7}) \((?P<function>[^)]{0,120})\): "
            r"(?P<expression>.{0,300})"
        ),
        _assert,
    ),
    (
        '" failed: file "',  # newlib
        re.compile(
            r'assertion "(?P<expression>[^"]{0,300})" failed: file "(?P<file>[^"]{1,250})", line (?P<line>\d{1,7})'
            r"(?:, function: (?P<function>.{0,120}))?"
        ),
        _assert,
    ),
    (
        ": Assertion `",  # glibc
        re.compile(
            r"(?<![^:\s])(?P<file>[^:\s]{1,250}):(?P<line>\d{1,7}): (?P<function>[^`]{1,120}?): "
            r"Assertion `(?P<expression>.{0,300})' failed"
        ),
        _assert,
    ),
    ("Stack smashing protect failure", re.compile(r"Stack smashing"), _fixed("stack_smashing", _SMASHED)),
    ("*** stack smashing detected ***", re.compile(r"stack smashing"), _fixed("stack_smashing", _SMASHED)),
    (
        "A stack overflow in task ",
        re.compile(r"\*\*\*ERROR\*\*\* A stack overflow in task (?P<task>.{0,64}?) has been detected"),
        _overflow,
    ),
    ("Task watchdog got triggered", re.compile(r"Task watchdog"), _fixed("task_watchdog", _SLOW, certain=False)),
    (
        "Brownout detector was triggered",
        re.compile(r"Brownout"),
        _fixed("brownout", "the supply voltage fell too low (brownout): look at the power supply and cable"),
    ),
    ("CORRUPT HEAP: ", re.compile(r"CORRUPT HEAP: (?P<what>.{0,200})"), _heap),
    (
        "ESP_ERROR_CHECK failed: ",
        re.compile(
            r"ESP_ERROR_CHECK failed: esp_err_t (?P<code>0x[0-9a-fA-F]{1,8})(?: \((?P<name>[^)]{1,80})\))?"
            rf"(?: at {_HEX})?"
        ),
        _error_check,
    ),
    (
        "terminate called ",
        re.compile(r"terminate called (?:after throwing an instance of '(?P<thrown>[^']{1,200})|without|recursively)"),
        _terminate,
    ),
    ("abort() was called at ", re.compile(rf"abort\(\) was called at PC {_HEX}(?: on core (?P<core>\d))?"), _abort),
    (
        "Undefined behavior of type ",
        re.compile(r"Undefined behavior of type (?P<what>[a-z_0-9]{1,60})"),
        _undefined,
    ),
    (
        "Panic handler entered multiple times",
        re.compile(r"Panic handler"),
        _fixed("panic_in_panic", "the panic handler itself panicked"),
    ),
    (
        "Re-entered core dump!",
        re.compile(r"Re-entered"),
        _fixed("panic_in_panic", "another exception while the core dump was written"),
    ),
)

MARKERS = tuple(marker for marker, _, _ in _OPENINGS)
"""One of these is in every line that opens a panic."""
