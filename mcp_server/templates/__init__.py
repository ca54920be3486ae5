"""New projects from templates: built in, in a local folder, or at a Git URL. Rendered by copier, run as a program.

May import: config, errors, text.
Never: store, engine, orchestrator, a front.
"""

from mcp_server.templates.catalog import Question, Template, listing
from mcp_server.templates.creation import ANSWERS, Created, answers_of, check, create, created_already
from mcp_server.templates.first_commit import first_commit

__all__ = [
    "ANSWERS",
    "Created",
    "Question",
    "Template",
    "answers_of",
    "check",
    "create",
    "created_already",
    "first_commit",
    "listing",
]
