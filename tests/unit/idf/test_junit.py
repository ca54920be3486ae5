"""JUnit XML: what a parser reads from it, and the shape that CI systems know."""

import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from mcp_server.idf.junit import to_xml
from mcp_server.idf.unity import TestCase, TestResults

CHILDREN: dict[str, set[str]] = {
    "testsuites": {"testsuite"},
    "testsuite": {"testcase", "properties"},
    "properties": {"property"},
    "property": set(),
    "testcase": {"failure", "skipped"},
    "failure": set(),
    "skipped": set(),
}
NEEDED = {"testsuite": {"name", "tests", "failures", "errors", "skipped", "time"}, "testcase": {"name", "classname"}}
NUMBERS = {"tests", "failures", "errors", "skipped", "time", "line"}


def conforms(element: ET.Element) -> bool:
    """The parts of the usual schema that readers rely on."""
    fine = NEEDED.get(element.tag, set()) <= set(element.attrib)
    fine = fine and all(float(element.attrib[name]) >= 0 for name in NUMBERS & set(element.attrib))
    return fine and all(child.tag in CHILDREN[element.tag] and conforms(child) for child in element)


def results(*cases: TestCase, complete: bool = True) -> TestResults:
    counts = {word: sum(case.result == word for case in cases) for word in ("pass", "fail", "skip")}
    return TestResults(
        total=len(cases),
        passed=counts["pass"],
        failed=counts["fail"],
        skipped=counts["skip"],
        cases=cases,
        complete=complete,
    )


def test_every_result_is_one_testcase() -> None:
    """Issue. JUnit on request."""
    xml = to_xml(
        results(
            TestCase(name="adds", suite="math", result="pass", seconds=0.012),
            TestCase(name="divides", result="fail", file="main/t.c", line=12, message="Expected 1 Was 2"),
            TestCase(name="rounds", result="skip", message="not yet"),
        ),
        "greenhouse",
    )
    root = ET.fromstring(xml)

    assert conforms(root)
    (suite,) = root
    assert {name: suite.get(name) for name in ("name", "tests", "failures", "skipped")} == {
        "name": "greenhouse",
        "tests": "3",
        "failures": "1",
        "skipped": "1",
    }
    passed, failed, skipped = suite.findall("testcase")
    assert (passed.get("classname"), passed.get("time"), len(passed)) == ("math", "0.012", 0)
    failure = failed.find("failure")
    assert failure is not None
    assert (failed.get("file"), failed.get("line")) == ("main/t.c", "12")
    assert (failure.get("message"), failure.text) == ("Expected 1 Was 2", "main/t.c:12: Expected 1 Was 2")
    assert [child.tag for child in skipped] == ["skipped"]


def test_run_without_a_summary_is_marked() -> None:
    """Ours. Counts alone would read like a whole run."""
    root = ET.fromstring(to_xml(results(complete=False), "s"))

    assert [one.get("name") for one in root.iter("property")] == ["incomplete"]


@given(st.text(st.characters(), max_size=30), st.text(st.characters(), max_size=60))
def test_any_text_gives_xml_that_can_be_read(name: str, message: str) -> None:
    """Ours. Firmware prints what it likes: control characters, quotes, `]]>`, halves of letters."""
    case = TestCase.model_construct(name=name, suite=name, result="fail", file=name, line=1, message=message)
    root = ET.fromstring(to_xml(results(case), name).encode("utf-8"))

    assert conforms(root)
    (found,) = root.iter("testcase")
    if (name + message).isprintable():
        assert (found.get("name"), found[0].get("message")) == (name, message)


def test_control_characters_stay_readable() -> None:
    """Ours."""
    root = ET.fromstring(to_xml(results(TestCase(name="a\x1b[0m\x00", result="pass")), "s"))

    assert [case.get("name") for case in root.iter("testcase")] == [r"a\x1b[0m\x00"]
