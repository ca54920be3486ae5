"""Hints of our own, for what ESP-IDF's hints.yml leaves out. Each is said only where its cause is certain."""

import re

from mcp_server.idf.diagnostics.finding import Finding

_ADVICE: tuple[tuple[str, str], ...] = (
    (
        r"Failed to resolve component '.*unknown name",
        "check its spelling; one from the registry needs idf.py add-dependency; some were renamed (migration guide)",
    ),
    (
        r"Failed to resolve component '.*not registered",
        "it exists, but not for this target or configuration",
    ),
    (
        r"grabRef\.cmake.*git-data/head-ref",
        "the repository has no commit yet: git commit",
    ),
    (
        r"loading 'build.ninja'",
        "its writing was not finished (disk full?) or it was deleted: check the disk, then idf.py reconfigure",
    ),
    (
        r"^Killed|Killed signal|Killed \(program|ld terminated with signal 9",
        "killed from outside, most often for lack of memory: build with fewer jobs",
    ),
    (
        r"Include directory '\S*/components/(?:[\w-]+/){1,3}\S*' is not a directory",
        "if that is inside ESP-IDF, its submodules are missing: git submodule update --init --recursive in $IDF_PATH",
    ),
    (
        r"call target out of range|l32r: literal",
        "code and its literals lie too far apart: check IRAM_ATTR and linker fragments of that function",
    ),
    (
        r"out of memory|memory exhausted|Cannot allocate memory|bad_alloc",
        "build with fewer jobs, or give it more memory",
    ),
    (r"is the command line too long|Argument list too long", "shorten the path of the project and of ESP-IDF"),
    (
        r"undefined reference to [`']app_main'",
        'no C function app_main was linked: define void app_main(void) in main, in C++ as extern "C"',
    ),
    (
        r"region [`']iram0_0_seg' overflowed",
        "too much code in IRAM: fewer IRAM_ATTR, or turn off IRAM options in menuconfig",
    ),
    (r"region [`']dram0_0_seg' overflowed", "too much static RAM: make big arrays const or allocate them at run time"),
    (
        r"partitions? (?:is|are) too small for binary",
        "enlarge the app partition in the partition table, or make the app smaller",
    ),
    (
        r"which does not fit in configured flash size",
        "set CONFIG_ESPTOOLPY_FLASHSIZE to the board's flash, or make partitions smaller",
    ),
    (r"Bootloader binary size .* too large", "raise CONFIG_PARTITION_TABLE_OFFSET or lower the bootloader's log level"),
    (r"\.h(?:pp)?:\d+: multiple definition of", "a header must only declare it (extern); define it in one .c file"),
    (
        r"undefined reference to [`']vtable for",
        "define its first virtual function that is neither inline nor pure, in a file of SRCS",
    ),
    (
        r"undefined reference to [`'][\w:~]+\(",
        'if it is a C function, wrap its declaration in extern "C"; else is its file in SRCS?',
    ),
    (
        r"undefined reference to [`']",
        "is the file that defines it in SRCS, and its component in REQUIRES or PRIV_REQUIRES?",
    ),
    (
        r"'CONFIG_\w+' (?:undeclared|was not declared)",
        "not set in sdkconfig: a bool that is off is not defined; a new Kconfig file needs idf.py reconfigure",
    ),
    (r"^Invalid field \"", "it is in an idf_component.yml of the project; the tool does not say which"),
    (r"stray '\\(?:377|376)'|null character\(s\) ignored", "the file is UTF-16: save it as UTF-8"),
    (
        r"stray '\\(?:357|342|302|303)'",
        "the file holds a byte order mark, typographic quotes or non-ASCII spaces: retype them",
    ),
    (r"version control conflict marker|expected .* before '<<' token", "an unresolved merge conflict is in the file"),
    (r"Permission denied: '?/dev/tty", "add the user to the group of the port (dialout or uucp), then log in again"),
    (r"No serial data received|Wrong boot mode", "check cable and port; hold BOOT while it connects"),
    (r"env: .*\\r|\^M|bad interpreter", "the script has Windows line ends: convert it with dos2unix"),
)
_COMPILED: list[tuple[re.Pattern[str], str]] = []


def advise(finding: Finding) -> str:
    """Our hint for a finding, or nothing."""
    if finding.hint:
        return finding.hint
    if not _COMPILED:
        _COMPILED.extend((re.compile(pattern), text) for pattern, text in _ADVICE)
    text = finding.raw[:2000] or finding.message[:2000]
    return next((hint for pattern, hint in _COMPILED if pattern.search(text)), "")
