"""Where an idf_component.yml is no YAML: the component manager names only the file."""

import re
from pathlib import Path

from mcp_server.idf.diagnostics import dependency
from mcp_server.idf.diagnostics.finding import Finding

MAX_BYTES = 100_000
_NAMED = re.compile(r"check that (?P<file>\S.{0,400}idf_component\.yml) is a valid YAML")


def advise(finding: Finding, project: Path) -> str | None:
    """`main/idf_component.yml:3: found a tab`, if the file lies in the project; else who asks for what is missing."""
    if asked := dependency.advise(finding, project):
        return asked
    found = _NAMED.search(finding.message)
    if found is None:
        return None
    import yaml  # noqa: PLC0415  (only this failure needs it, and it costs 15 ms)

    file = Path(found["file"]).resolve()
    try:
        if not file.is_relative_to(project.resolve()) or file.stat().st_size > MAX_BYTES:
            return None
        yaml.safe_load(file.read_text("utf-8", "replace"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        return f"{file}:{line}: {error.problem or 'no YAML'}"
    except (OSError, yaml.YAMLError, RecursionError, ValueError):
        return None
    return None
