"""ESP-IDF's hints.yml: read as data, never run; whatever is wrong with it costs a hint and nothing else."""

import re
import time
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.idf.diagnostics import Diagnoser, Hints, diagnose
from mcp_server.idf.diagnostics.hints import needle_of

YML = r"""
-
    re: "fatal error: (lamp\\.h|lamps\\.h): No such file or directory"
    hint: "{} was renamed.\nInclude lamp_driver.h."
    match_to_output: True
-
    re: "error: implicit declaration of function '{}'"
    hint: "Use {1} instead of {0} {{sic}}."
    variables:
        -
            re_variables: ['lamp_(on|off)']
            hint_variables: ['lamp_on', 'lamp_set']
        -
            re_variables: ['dim']
            hint_variables: ['dim', 'lamp_dim']
-
    re: "(never closed"
    hint: "broken pattern"
-
    re: "(x+)+y"
    hint: "takes for ever"
-
    hint: "no pattern"
- 7
"""


@pytest.fixture
def idf(tmp_path: Path) -> Path:
    root = tmp_path / "esp-idf"
    (root / "tools" / "idf_py_actions").mkdir(parents=True)
    (root / "tools" / "idf_py_actions" / "hints.yml").write_text(YML)
    (root / "components" / "lamp").mkdir(parents=True)
    (root / "components" / "lamp" / "hints.yml").write_text("- {re: 'lamp burnt', hint: 'Take a new one.'}\n")
    return root


def test_hints_match_as_idf_py_would_match_them(idf: Path) -> None:
    """ESP-IDF's: groups of the match, variables, newlines as spaces, components' own files."""
    hints = Hints.load(idf)

    assert hints.for_text("a.c:1:1: fatal error: lamps.h: No such file\n or directory") == [
        "lamps.h was renamed. Include lamp_driver.h."
    ]
    assert hints.for_text("error: implicit declaration of function 'lamp_off'") == [
        "Use lamp_set instead of lamp_on {sic}."
    ]
    assert hints.for_text("error: implicit declaration of function 'dim'") == ["Use lamp_dim instead of dim {sic}."]
    assert hints.for_text("the lamp burnt down") == ["Take a new one."]
    assert hints.for_text("all is well") == []


def test_a_pattern_that_may_take_for_ever_is_left_out(idf: Path) -> None:
    """Ours: hints.yml of a component may come from anyone."""
    started = time.process_time()

    assert Hints.load(idf).for_text("x" * 2_000) == []
    assert time.process_time() - started < 1


@pytest.mark.parametrize("content", ["", "[", "a: b", "- [1]", "\xff", "!!python/object/apply:os.system [exit 1]"])
def test_a_broken_file_is_no_hints(idf: Path, content: str) -> None:
    """Ours."""
    (idf / "tools" / "idf_py_actions" / "hints.yml").write_text(content, "latin-1")

    assert len(Hints.load(idf)) == 1  # the component's own


def test_no_installation_is_no_hints(tmp_path: Path) -> None:
    """Ours."""
    assert len(Hints.load(None)) == len(Hints.load(tmp_path)) == 0


def test_a_changed_file_is_read_again(idf: Path) -> None:
    """Ours: the installation was updated while the worker runs."""
    first = Hints.load(idf)
    assert Hints.load(idf) is first

    (idf / "tools" / "idf_py_actions" / "hints.yml").write_text("- {re: 'a', hint: 'b'}\n" * 50)
    assert len(Hints.load(idf)) == 51


def test_hints_of_errors_reach_the_diagnosis(idf: Path) -> None:
    """Ours: gcc's curly quotes too, which idf.py itself does not match."""
    log = "/p/main/a.c:1:1: error: implicit declaration of function ‘dim’ [-Wimplicit-function-declaration]\n"
    diagnoser = Diagnoser("/p", idf_path=str(idf))
    diagnoser.feed(log.encode())

    assert diagnoser.finish(2).hints == ("Use lamp_dim instead of dim {sic}.",)


def test_printed_hints_are_taken_over_once() -> None:
    """Ours: from the yellow lines of idf.py, to the end of their colour."""
    hint = "\x1b[0;33mHINT: The binary size has exceeded the limit.\nReduce it.\x1b[0m\n"
    diagnosis = diagnose(f"ninja: error: x\n{hint}{hint}ninja failed with exit code 1\n", 2, hints=Hints())

    assert diagnosis.hints == ("The binary size has exceeded the limit. Reduce it.",)


def test_the_bug_message_of_idf_py_is_no_hint() -> None:
    """ESP-IDF's gap: right after an edit of REQUIRES its hint only says BUG."""
    log = """/p/main/a.c:1:10: fatal error: nvs.h: No such file or directory
ninja: build stopped: subcommand failed.
BUG: component_requirements.py: nvs.h found in component nvs_flash which is already in the requirements list of main
"""
    assert diagnose(log, 2, hints=Hints()).hints == ()


@given(st.text(alphabet="ab|()[]*+?{}\\.^$ ", max_size=30))
def test_a_needle_is_in_whatever_its_pattern_matches(pattern: str) -> None:
    """Ours: the needle only saves time, it may never lose a match."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            regex = re.compile(pattern)
    except (re.error, OverflowError):
        return
    for text in (
        "",
        "a",
        "b",
        "ab",
        "ba",
        "aab b",
        "a b",
        "a|b",
        "(a)",
        "a.b^$",
        "b{a}",
        "[a]",
        "a*",
        "b+?",
        "\\a",
        " ",
    ):
        if regex.search(text):
            assert needle_of(pattern) in text
