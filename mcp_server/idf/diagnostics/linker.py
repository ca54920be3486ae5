"""ld, lld, collect2, ar, objcopy and the sizes they check."""

import re

from mcp_server.idf.diagnostics.finding import Block, Finding, Log, Place, Rank, Rule, tail_of

_LD = re.compile(r"^(?:\S{0,400}[/\\])?(?:[\w.+-]{0,40}-)?(?:ld|ld\.bfd|ld\.gold|ld\.lld|lld|collect2)(?:\.exe)?: ")
_IN_FUNCTION = re.compile(r"^(?P<object>.{0,600}?):? ?in function [`'](?P<function>.{1,400}?)':?(?: *(?P<rest>.*))?$")
_UNDEFINED = re.compile(
    r"^(?P<where>.{0,800}?):? ?(?:more )?undefined references? to [`'](?P<symbol>.{1,800}?)'(?P<follow> follow)?"
)
_LLD_UNDEFINED = re.compile(r"^error: undefined (?:hidden )?symbol: (?P<symbol>.{1,800})$")
_LLD_BY = re.compile(r"^>>> (?:referenced by|defined (?:at|in)) (?P<where>.{1,400})$")
_MULTIPLE = re.compile(
    r"^(?P<where>.{0,800}?):? ?multiple definition of [`'](?P<symbol>.{1,800}?)'(?:; (?P<first>.{1,800}?):? "
    r"?first defined here)?"
)
_RELOCATION = re.compile(
    r"^(?P<where>.{1,800}?): ?(?P<message>(?:dangerous relocation|relocation truncated to fit): .*)$"
)
_POSITION = re.compile(r"(?P<file>(?:[A-Za-z]:)?[^:()\s][^:()]{0,400}):(?P<line>\d{1,7})(?=:|$)")
_OBJECT = re.compile(
    r"(?P<archive>[^/\\:()\s]{1,200})\((?P<object>[^()]{1,200})\)|(?P<file>[^/\\:()\s]{1,200}\.(?:o|obj|a))\b"
)
_SECTION = re.compile(r"\((?P<section>\.[^)+]{1,300})(?:\+0x[0-9a-fA-F]+)?\)")
_SECTION_FUNCTION = re.compile(r"^\.(?:text|literal|rodata|data|bss|iram1|iram0\.text|init_array)\.?(?P<name>[\w$.]*)$")


def read(line: str, log: Log) -> Block | bool:
    """A linker's line, if it is one."""
    prefix = _LD.match(line)
    body = line[prefix.end() :] if prefix else line
    if "undefined reference" in body and (found := _UNDEFINED.match(body)):
        return _undefined(found, line, log)
    if "multiple definition of" in body and (found := _MULTIPLE.match(body)):
        return _multiple(found, line, log)
    if "in function" in body and (found := _IN_FUNCTION.match(body)):
        log.function = f"{found['object']}\0{found['function']}"
        return read(found["rest"], log) if found["rest"] else True
    if "relocation" in body and (found := _RELOCATION.match(body)):
        finding = Finding("link", found["message"], raw=line)
        _locate(finding, found["where"], log)
        log.add(finding)
        return True
    if prefix and (found := _LLD_UNDEFINED.match(body)):
        return LldBlock(log, Finding("link", text := f"undefined reference to '{found['symbol']}'", raw=text))
    if not prefix:
        return False
    if body.startswith("warning:") or ": warning:" in body:
        log.warn(1, Finding("link", body[:600]))
        return True
    return False


def _undefined(found: re.Match[str], line: str, log: Log) -> bool:
    if found["follow"]:
        return True
    finding = Finding("link", f"undefined reference to '{found['symbol']}'", Rank.ERROR, raw=line)
    _locate(finding, found["where"], log)
    log.add(finding)
    return True


def _multiple(found: re.Match[str], line: str, log: Log) -> bool:
    finding = Finding("link", f"multiple definition of '{found['symbol']}'", Rank.ERROR, raw=line)
    _locate(finding, found["where"], log)
    if found["first"]:
        first = Finding("link", "")
        _locate(first, found["first"], log, use_function=False)
        place = f"{first.file}\0{first.line or ''}" if first.file else "\0"
        within = first.notes[0].rpartition("\0")[2] if first.notes else ""
        finding.notes.append(f"{place}\0first defined here {within}".rstrip())
    log.add(finding)
    return True


def _locate(finding: Finding, where: str, log: Log, use_function: bool = True) -> None:
    """From `main/libmain.a(a.c.obj):(.text.f+0x1a)`, `/p/main/a.c:19` or both, and the `in function` line before."""
    function = ""
    holder = where
    if use_function and log.function:
        holder_before, _, function = log.function.partition("\0")
        holder = holder_before + " " + where
    if found := _POSITION.search(where):
        file = found["file"].rpartition("):")[2] or found["file"]
        finding.file, finding.line = file.removeprefix("):"), int(found["line"])
    if not function and (section := _SECTION.search(where)) and (name := _SECTION_FUNCTION.match(section["section"])):
        function = name["name"]
    member = _OBJECT.search(holder)
    parts = [f"in {function}"] if function else []
    if member and member["archive"]:
        parts.append(f"{tail_of(member['archive'])}({member['object']})")
    elif member and member["file"]:
        parts.append(member["file"])
    if parts:
        finding.notes.append("\0\0" + ", ".join(parts))


class LldBlock:
    """lld names the referring place on lines of its own."""

    def __init__(self, log: Log, finding: Finding) -> None:
        self._log, self._finding = log, finding

    def take(self, line: str, raw: bytes) -> bool:
        found = _LLD_BY.match(line)
        if found is None:
            return line.startswith(">>>")
        if found["where"] and self._finding.file is None:
            place = re.match(r"(?P<file>[^:\s]{1,300}):(?P<line>\d{1,7})", found["where"])
            if place:
                self._finding.via.append(Place(place["file"], int(place["line"])))
                self._finding.file, self._finding.line = place["file"], int(place["line"])
        return True

    def close(self) -> None:
        self._log.add(self._finding)


_TOOL = (
    r"(?:\S*[/\\])?(?:[\w.+-]*-)?(?:ld(?:\.\w+)?|ar|objcopy|ranlib|strip|nm|size|readelf|objdump|collect2)(?:\.exe)?: "
)
RULES: tuple[Rule, ...] = (
    Rule(
        "link",
        ("terminated with signal",),
        r"^(?:\S*[/\\])?collect2(?:\.exe)?: (?:fatal )?error: (?P<message>ld terminated with signal .*)$",
        "collect2: fatal error: ld terminated with signal 9 [Killed]",
        rank=Rank.ROOT,
    ),
    Rule(
        "link",
        ("final link failed",),
        rf"^{_TOOL}(?P<message>final link failed.*)$",
        "/usr/bin/ld: final link failed: bad value",
        rank=Rank.RESULT,
    ),
    Rule(
        "link",
        ("will not fit in region",),
        r"(?:\S+ )?(?P<message>section [`'][^']+' will not fit in region [`'][^']+')",
        "riscv32-esp-elf/bin/ld: door-lock.elf section `.flash.rodata' will not fit in region `drom0_0_seg'",
    ),
    Rule(
        "link",
        ("overflowed by",),
        r"(?P<message>region [`'][^']+' overflowed by \d+ bytes)",
        "riscv32-esp-elf/bin/ld: region `iram0_0_seg' overflowed by 1139068 bytes",
        rank=Rank.ERROR,
    ),
    Rule(
        "link",
        ("cannot find",),
        rf"^(?:{_TOOL}|.*ld: )?(?P<message>cannot find (?:-l|entry symbol|\S).{{0,300}})$",
        "/usr/bin/ld: cannot find -lmotor: No such file or directory",
    ),
    Rule(
        "link",
        ("cannot open linker script", "cannot open output file"),
        r"(?P<message>cannot open (?:linker script|output) file .{1,400})$",
        "/usr/bin/ld: cannot open linker script file /p/components/motor/motor.ld: No such file or directory",
    ),
    Rule(
        "link",
        ("ld:", "ld.exe:", "syntax error", "lld:"),
        r"^(?:\S*[/\\])?[\w.+-]*ld(?:\.\w+)?: ?(?P<file>[^:\s][^:]{0,300}?\.(?:ld|lds|lf|x"
        r"|in)\S*?):(?P<line>\d+): ?(?P<message>.+)$",
        "/usr/bin/ld:/p/components/motor/motor_tables.ld:7: syntax error",
    ),
    Rule(
        "link",
        (
            "discarded section",
            "orphan section",
            "hidden symbol",
            "file format not recognized",
            "file not recognized",
            "file in wrong format",
            "incompatible",
            "can't link",
            "cannot link",
            "failed to merge",
            "final link failed",
            "DSO missing",
            "section overlaps",
            "overlaps section",
            "assertion",
            "ASSERT",
            "undefined symbol",
            "cannot move location counter",
            "not in a region",
            "no memory region",
            "mis-matched ISA",
            "unresolvable",
            "nonrepresentable section",
            "no symbol",
            "bad value",
            "symbol",
        ),
        rf"^{_TOOL}(?P<message>.*(?:discarded section|orphan section|hidden symbol|not recognized"
        r"|wrong format|incompatible|can't link|cannot link|failed to merge|DSO missing|overlaps|assert|ASSERT"
        r"|undefined symbol|location counter"
        r"|region|mis-matched|unresolvable|nonrepresentable|linker script|bad value|version).*)$",
        "/usr/bin/ld: unplaced orphan section `.foo' from `esp-idf/main/libmain.a(a.c.obj)'",
    ),
    Rule(
        "link",
        ("ar: ", "objcopy: ", "ranlib: ", "ld: ", "strip: ", "nm: ", "collect2: fatal", "ar.exe: ", "objcopy.exe: "),
        rf"^{_TOOL}(?P<message>(?!use the --help).{{3,600}})$",
        "/usr/bin/ar: esp-idf/freertos/libfreertos.a: malformed archive",
        rank=Rank.STATED,
    ),
)
