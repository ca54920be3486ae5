"""What is OpenCode's own, whichever way it is spoken to: its variables, its rules of permission, its files."""

from collections.abc import Mapping

USERNAME, PASSWORD = "OPENCODE_SERVER_USERNAME", "OPENCODE_SERVER_PASSWORD"  # names, OpenCode's own

RULES: Mapping[str, str] = {
    # OpenCode asks nothing by itself. Looking inside the folder needs no question; these have none to answer: `task`
    # starts a second agent, `question` asks a person.
    **dict.fromkeys(("*", "edit", "bash", "external_directory", "doom_loop", "skill"), "ask"),
    **dict.fromkeys(("read", "glob", "grep", "list", "lsp", "todowrite", "todoread"), "allow"),
    **dict.fromkeys(("webfetch", "websearch", "codesearch", "task", "question"), "deny"),
}

OWN_FILES = (
    *("opencode.json", "opencode.jsonc", ".opencode/opencode.json", ".opencode/opencode.jsonc"),
    *(".opencode/package.json", ".opencode/package-lock.json", ".opencode/bun.lock", ".opencode/.gitignore"),
)
"""Files of a project that it writes for itself when it starts: a `$schema` into its settings, what its plugins need."""
