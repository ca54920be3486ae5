"""Projects in words, for models and people.

May import: model. Never: anything else of ours.
"""

from collections.abc import Sequence

from mcp_server.model import Project


def project_list(projects: Sequence[Project]) -> str:
    """One line each."""
    return "\n".join(map(project_line, projects)) or "no project is known yet: build one, or project_import"


def project_line(project: Project) -> str:
    """Name, status, chip, folder, where it is from, and what is wrong with it."""
    parts = [project.name, project.status, project.target or "", project.path]
    if project.source and project.source != project.path:
        parts.append(f"from {project.source}")
    if project.reason:
        parts.append(project.reason)
    return " · ".join(part for part in parts if part)
