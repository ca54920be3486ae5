"""What the component manager says of versions that are missing, yanked or in conflict, without its wrapping.

CMake prints its whole stderr as one message: warnings, the error, the facts and a conclusion that repeats them.
"""

import re
from pathlib import Path

from mcp_server.idf.dependencies import read_asked
from mcp_server.idf.diagnostics.finding import Finding

KIND = "dependency"
MOST_FACTS = 12
MOST_ASKED = 4

_OURS = re.compile(
    r"Version solving failed|Solver failed processing|Cannot download component|Cannot establish a connection to"
    r" the component registry|recorded in your dependencies\.lock|is not compatible with target \""
    r"|Cannot find required component|The downloaded component \"|Version should (?:be )?provided for"
)
_WARNED = re.compile(r"^(?:WARNING: .*? )?ERROR: (?=\S)", re.DOTALL)
_FACTS = re.compile(r"Version solving failed: (?P<facts>- .*?)(?: Result: .*)?$", re.DOTALL)
_YANKED = re.compile(
    r"The following versions of the \"(?P<name>[^\"]{1,200})\" component have been yanked: (?P<versions>- .{1,2000}?) "
    r"We recommend"
)


def read(finding: Finding, text: str) -> bool:
    """Tell the component manager's error in `text`, on one line, by `finding`. False: it is none of its."""
    if not _OURS.search(text):
        return False
    for found in _YANKED.finditer(text):
        versions = ", ".join(version for version in found["versions"].removeprefix("- ").split(" - "))
        note = f"\0\0yanked: {found['name']} {versions}"
        if note not in finding.notes:
            finding.notes.append(note)
    finding.kind = KIND
    finding.message = _message(_WARNED.sub("", text))
    finding.file = finding.line = None  # a line of ESP-IDF's own CMake, where it called the component manager
    return True


def advise(finding: Finding, project: Path) -> str | None:
    """`main/idf_component.yml asks for example/lamp ^2.0.0`: the tool names the component and never the file."""
    if finding.kind != KIND:
        return None
    asked = [
        one for one in read_asked(project) if re.search(rf"(?<![\w/-]){re.escape(one.name)}(?![\w/-])", finding.message)
    ]
    return "; ".join(f"{one.manifest} asks for {one.name} {one.spec}" for one in asked[:MOST_ASKED]) or None


def _message(text: str) -> str:
    """`Version solving failed: no versions of x match >=3; project depends on x (>=3)`: its facts say it all."""
    found = _FACTS.search(text)
    if found is None:
        return text
    facts = list(dict.fromkeys(found["facts"].removeprefix("- ").split(" - ")))
    more = f"; and {len(facts) - MOST_FACTS} more" if len(facts) > MOST_FACTS else ""
    return f"Version solving failed: {'; '.join(facts[:MOST_FACTS])}{more}"
