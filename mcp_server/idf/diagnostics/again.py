"""Whether a failed command would fail in the same way again: what a retry needs to know."""

import re

from mcp_server.model import Diagnosis, Diagnostic

_PASSING = frozenset(
    ("disk full", "read-only", "memory", "killed", "crash", "system", "network", "interrupted", "unknown")
)
_PASSING_WORDS = re.compile(
    r"No space left on device|Disk quota exceeded|[Oo]ut of memory|memory exhausted|Cannot allocate memory"
    r"|MemoryError|[Kk]illed\b|terminated with signal|internal compiler error|Segmentation fault|Bus error"
    r"|core dumped|Illegal instruction|Could(?: not|n't) resolve|Temporary failure in name resolution"
    r"|Name or service not known|Connection (?:refused|reset|timed out|closed)|[Nn]etwork is unreachable"
    r"|No route to host|[Tt]imed out|unable to (?:access|connect)|Cannot establish a connection"
    r"|Could not read from remote|early EOF|RPC failed|Fetcher failure|HTTP Error 5\d\d|Too Many Requests"
    r"|No serial data received|Input/output error|Stale file handle|Text file busy"
)


def is_deterministic(diagnosis: Diagnosis | None) -> bool:
    """True where a diagnosed error will come again: compile, link, configuration, a failed test, a missing file.

    False where the first cause is one that may pass (a crash, memory, disk, network, a kill), or none was found.
    """
    if diagnosis is None or not diagnosis.errors:
        return False
    return not _may_pass(diagnosis.errors[0])


def _may_pass(error: Diagnostic) -> bool:
    return error.kind in _PASSING or bool(_PASSING_WORDS.search(error.message))
