"""bitbake: which task of which recipe failed, what it quotes of that task's log, and what it cannot even start."""

import re

from mcp_server.idf.diagnostics.finding import Finding, Log, Rank, Rule, tail_of

_TASK_SAYS = re.compile(
    r"^(?P<level>ERROR|WARNING): (?P<recipe>\S{1,200}-\S{1,200}) (?P<task>do_\w{1,60}): (?P<text>.*)$"
)
_TASK_FAILED = re.compile(
    r"^ERROR: Task \((?P<file>.{1,400}):(?P<task>do_\w{1,60})\) failed with exit code '?(?P<code>-?\d+)"
)
_LOG_FILE = re.compile(r"^ERROR: Logfile of failure stored in: (?P<file>\S.{0,400})$")
_ONLY_SAYS_SO = re.compile(
    r"^(?:oe_runmake failed|ExecutionError\(|Function failed|Execution of '|Fatal QA errors? were found"
    r"|Error executing a python function|The stack trace of python calls)"
)
_COMMAND = re.compile(r"Fetch command (?:export [A-Z_]+=\"?[^;]{0,4000}; ?)*")


def read(line: str, log: Log) -> str | None:
    """A line of bitbake's, told to `log`: the task that its next quoted lines are of, "" where none; else None."""
    if found := _TASK_SAYS.match(line):
        if found["level"] == "WARNING":
            log.warn(1, Finding("bitbake", f"{found['recipe']} {found['task']}: {found['text']}"[:600]))
            return ""
        task = f"{found['recipe']} {found['task']}"
        text = _COMMAND.sub("fetch command ", found["text"])
        finding = Finding("bitbake", f"{task}: {text}", raw=line)
        if _ONLY_SAYS_SO.match(text):
            finding.rank = Rank.WRAPPER
        elif text.startswith(("Fetcher failure", "Bitbake Fetcher Error")):
            finding.kind = "network"
        log.add(finding)
        return task
    if found := _TASK_FAILED.match(line):
        text = f"{found['task']} of {tail_of(found['file'])} failed with exit code {found['code']}"
        log.add(Finding("bitbake", text, Rank.RESULT, file=found["file"], raw=line))
        log.failed()
        return ""
    if _LOG_FILE.match(line) or line.startswith("Log data follows:"):
        return "\n"
    return None


RULES: tuple[Rule, ...] = (
    Rule(
        "bitbake",
        ("Nothing PROVIDES", "Nothing RPROVIDES"),
        r"^ERROR: (?P<message>Nothing R?PROVIDES '.*)$",
        "ERROR: Nothing PROVIDES 'liblamp' (but /home/dev/meta-lamp/recipes/lamp_1.0.bb DEPENDS on it)",
    ),
    Rule(
        "bitbake",
        ("Required build target",),
        r"^ERROR: (?P<message>Required build target '.*)$",
        "ERROR: Required build target 'lamp-image' has no buildable providers.",
        rank=Rank.RESULT,
    ),
    Rule(
        "bitbake",
        ("ParseError",),
        r"^ERROR: (?P<message>ParseError (?:at|in) (?P<file>[^\s:]{1,400}?)(?::(?P<line>\d{1,6}))?: .*)$",
        "ERROR: ParseError at /home/dev/meta-lamp/recipes/lamp_1.0.bb:12: unparsed line: 'DEPNDS liblamp'",
    ),
    Rule(
        "bitbake",
        ("Error during parsing", "ExpansionError", "Unable to parse"),
        r"^ERROR: (?P<message>(?:\w+ during parsing|Unable to parse|Failed to parse recipe:?) "
        r"(?P<file>/[^\s:]{1,400})\b.*)$",
        "ERROR: ExpansionError during parsing /home/dev/meta-lamp/recipes/lamp_1.0.bb",
    ),
    Rule(
        "bitbake",
        ("Parsing halted due to errors",),
        r"^ERROR: (?P<message>Parsing halted due to errors.*)$",
        "ERROR: Parsing halted due to errors, see error messages above",
        rank=Rank.WRAPPER,
    ),
)
