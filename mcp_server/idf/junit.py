"""Test results as JUnit XML, as CI systems read it."""

import re
from collections.abc import Mapping
from xml.sax.saxutils import escape, quoteattr

from mcp_server.idf.unity import TestCase, TestResults

_NOT_XML = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 forbids or advises against."""


def to_xml(results: TestResults, suite: str) -> str:
    """One run as a document: `document` of one suite."""
    return document({suite: results})


def document(suites: Mapping[str, TestResults]) -> str:
    """A `testsuite` a run, by its name, in `testsuites`. A control character becomes `\\x1b`, as XML cannot hold it.

    Tests that are counted and not kept as a case are in the counts only; `errors` is always 0: a test that was cut off
    has failed. A run without a summary adds `incomplete` to its suite's properties, kept cases that are not all
    `truncated`.
    """
    total, failed = sum(run.total for run in suites.values()), sum(run.failed for run in suites.values())
    seconds = sum(map(_seconds, suites.values()))
    inner = "".join(_suite(name, run) for name, run in suites.items())
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<testsuites tests="{total}" failures="{failed}" errors="0" time="{seconds:.3f}">\n{inner}</testsuites>\n'
    )


def _suite(name: str, run: TestResults) -> str:
    cases = "".join(_case(case, name) for case in run.cases)
    counts = f'tests="{run.total}" failures="{run.failed}" errors="0" skipped="{run.skipped}"'
    opening = f'<testsuite name={_attribute(name)} {counts} time="{_seconds(run):.3f}">\n'
    return f"{opening}{_properties(run)}{cases}</testsuite>\n"


def _seconds(run: TestResults) -> float:
    return sum(case.seconds or 0 for case in run.cases)


def _properties(results: TestResults) -> str:
    said = {"incomplete": not results.complete, "truncated": results.truncated}
    properties = "".join(f'<property name="{name}" value="true"/>' for name, holds in said.items() if holds)
    return f"<properties>{properties}</properties>\n" if properties else ""


def _case(case: TestCase, suite: str) -> str:
    attributes = [f"name={_attribute(case.name)}", f"classname={_attribute(case.suite or suite)}"]
    attributes.append(f'time="{case.seconds or 0:.3f}"')
    if case.file is not None:
        attributes.append(f"file={_attribute(case.file)}")
    if case.line is not None:
        attributes.append(f'line="{case.line}"')
    opening = f"<testcase {' '.join(attributes)}"
    if case.result == "pass":
        return f"{opening}/>\n"
    message = _attribute(case.message)
    if case.result == "skip":
        return f"{opening}><skipped message={message}/></testcase>\n"
    place = f"{case.file}:{case.line}: " if case.file and case.line is not None else ""
    return f'{opening}><failure message={message} type="failure">{_text(place + case.message)}</failure></testcase>\n'


def _text(text: str) -> str:
    return escape(_NOT_XML.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text))


def _attribute(text: str) -> str:
    """Quoted, with line ends as references: a reader would make spaces of them."""
    clean = _NOT_XML.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)
    return quoteattr(clean)
