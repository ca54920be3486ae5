"""What remains where no rule knows a message: lines that call themselves errors, and the last meaningful ones."""

import re

from mcp_server.idf.diagnostics.finding import Finding, Rank

_STATED = re.compile(
    r"^\s{0,8}(?:[\w./+()\[\]-]{1,120}[:|] )?(?:\d{1,7}: )?(?:\[?(?:fatal error|fatal|error|critical|exception"
    r"|failed|failure)\]?)(?: \w{1,12})?(?:\[\w+\])?[:!,] ?\S"
    r"|\b(?:Error|Exception): \S|^\S{1,200}: No such file or directory$|^(?:Could|Can|Did|Does|Was|Is|Has"
    r"|Do)n't |^Cannot |^Failed to |^Unable to |^Invalid |^Unknown |^Missing ",
    re.IGNORECASE,
)
_NONE = re.compile(r"^\W{0,8}(?:errors?|failures?|failed)\W{1,4}(?:0|none|no)\W{0,4}$", re.IGNORECASE)
_PREFIX = re.compile(r"^(?:(?:fatal error|error|fatal|critical)(?: occurred)?: ){1,4}", re.IGNORECASE)
_BORING = re.compile(
    r"^(?:ninja: (?:build stopped|Entering directory|no work)|\S.{0,80}? failed with exit code|FAILED: "
    r"|See also \"|HINT|NOTE: |-- |\[\d+/\d+\]|Executing |Running |Adding \""
    r"|Done$|g?make(?:\[\d+\])?: |compilation terminated|fatal: not a git repository"
    r"|WARNING: Git version unavailable|ESP-IDF v|CMake Generate step failed|Call Stack"
    r"|real\t|user\t|sys\t|collect2(?:\.exe)?: error: ld returned|Bootloader binary size|\S+ binary size 0x"
    r"|\[\]$|esptool(?:\.py)? |Creating \S+ image|Merged \d+ ELF|Successfully created"
    r"|Generated /|NOTE|Note that|\d+ (?:errors?|warnings?) generated|\*{10,}|-{10,}|={10,}|[A-Z ]+ ={3,}"
    r"|Using default value|Default value for|.*use the --help option"
    r"|This warning is for project developers|Processing |Loading defaults"
    r"|For troubleshooting steps|Try '.*--help'|Usage: |Solving|Updating lock|# |Serial port |Connecting\."
    r"|\.{4,}|Checking|To view |Press |Hard resetting)"
    r"|^\s*[\^~]+\s*$|^\s*\d* \||^In file included|^\s+from |: In function|: At top level"
)


def states_error(line: str) -> bool:
    """The line calls itself an error."""
    return bool(_STATED.search(line)) and not is_boring(line) and not _NONE.match(line)


def plain_error(line: str) -> str:
    """`ERROR: error: x` → `x`: the report says `error` itself."""
    return _PREFIX.sub("", line.strip()) or line.strip()


def is_boring(line: str) -> bool:
    """Every build prints such a line; it explains nothing."""
    return not line.strip() or bool(_BORING.search(line))


def from_lines(lines: list[str], subject: str, kind: str = "unknown") -> Finding | None:
    """A finding made of a failed step's own output: the line that sounds most like an error, the others as notes."""
    lines = [line.strip()[:400] for line in lines if not is_boring(line)]
    if not lines:
        return None
    stated = [line for line in lines if _STATED.search(line)]
    chosen = stated[-1] if stated else lines[-1]
    finding = Finding(kind, plain_error(chosen), Rank.STATED if stated else Rank.LAST, raw=chosen, subject=subject)
    finding.notes = [f"\0\0{line}" for line in lines if line != chosen][-3:]
    return finding
