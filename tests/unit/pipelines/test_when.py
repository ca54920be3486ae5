"""The language of `when`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.pipelines.when import MAX_LENGTH, Value, WhenError, parse

VALUES = {
    "params": {
        "target": Value("esp32c3"),
        "jobs": Value("8", "number"),
        "fast": Value("true", "truth"),
        "slow": Value("false", "truth"),
        "version": Value("5.10", "number"),
        "empty": Value(""),
        "no": Value("no"),
        "a-b": Value("x"),
    },
    "matrix": {"chip": Value("esp32")},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("params.target == 'esp32c3'", True),
        ('params.target != "esp32c3"', False),
        ("${params.target} == 'esp32c3'", True),
        ("params.target in ['esp32', 'esp32c3']", True),
        ("params.target not in ['esp32']", True),
        ("'c3' in params.target", True),
        ("params.jobs in [7, 8]", True),
        ("params.jobs == 8", True),
        ("params.jobs == 8.0", True),
        ("params.jobs == '8'", True),
        ("params.jobs > 7 and params.jobs <= 8", True),
        ("params.jobs < 10", True),
        ("'9' < '10'", True),
        ("params.jobs >= 8.5", False),
        ("params.version == '5.10'", True),
        ("params.version == '5.1'", False),
        ("params.fast", True),
        ("params.slow", False),
        ("params.fast == true", True),
        ("params.fast == 'yes'", True),
        ("params.slow == false", True),
        ("params.empty", False),
        ("params.no", False),
        ("not params.no", True),
        ("!params.fast", False),
        ("!!params.fast", True),
        ("params.fast && !params.slow || false", True),
        ("false and false or true", True),
        ("false and (false or true)", False),
        ("not false and false", False),
        ("not params.jobs == 8", False),
        ("(params.jobs == 8) == true", True),
        ("matrix.chip == 'esp32'", True),
        ("true", True),
        ("0", False),
        ("-1", True),
        ("'false'", False),
        ("'a' in []", False),
        ("  params.fast\n", True),
        ("false and params.target < 1", False),
    ],
)
def test_condition_is_true_or_false(text: str, expected: bool) -> None:
    """Issue."""
    assert parse(text).holds(VALUES) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty; write e.g. params.target == 'esp32'"),
        ("params.target = 'x'", "'=' compares nothing; write =="),
        ("params.target == esp32", "'esp32' is no value here; write params.NAME, matrix.NAME, or a text in quotes"),
        ("params.target == 'esp32", "the quote at ''esp32' is never closed"),
        ("param.target == 'x'", "there is no 'param.target'; did you mean 'params.target'?"),
        ("params == 'x'", "'params' is no value here"),
        ("params.fast &", "'&' is no operator; write and"),
        ("a | b", "'|' is no operator; write or"),
        ("params.jobs == 8k", "'8k' is no number; put a text in quotes"),
        ("1 < 2 < 3", "compares three values at once; join two comparisons by and"),
        ("params.fast params.slow", "'params.slow' is too much; join two conditions by and, or"),
        ("params.fast and", "ends where a value is missing"),
        ("and params.fast", "a value is missing before 'and'"),
        ("(params.fast", "a ')' is missing"),
        ("params.jobs in [1, 2", "a ']' is missing"),
        ("params.jobs in [1 2]", "a ',' or ']' is missing"),
        ("params.jobs not 8", "'not' after a value is followed by 'in'"),
        ("params.target < 9", "'<' compares numbers, and 'esp32c3' is none"),
        ("[1] == 1", "a list stands only after in, not beside '=='"),
        ("[1]", "a list alone is no condition; write x in [a, b]"),
        ("params.__class__.x == 1", "there is no 'params.__class__.x'"),
        ("__import__('os')", "'__import__' is no value here"),
        ("params.jobs + 1", "'+ 1' is not understood"),
        ("(" * 60 + "true" + ")" * 60, "is nested too deeply"),
        ("!" * 60 + "true", "is nested too deeply"),
        ("a" * (MAX_LENGTH + 1), "is 1,001 characters long; at most 1,000 are read"),
    ],
)
def test_mistake_says_what_would_be_right(text: str, expected: str) -> None:
    """Ours."""
    with pytest.raises(WhenError) as error:
        parse(text).holds(VALUES)
    assert expected in str(error.value)


def test_references_are_known_before_the_condition_is_tried() -> None:
    """Ours. `or` does not hide a name that is wrong behind a value that is true."""
    assert parse("true or params.x == matrix.y").references == (("params", "x"), ("matrix", "y"))


PIECES = [
    "params.jobs",
    "matrix.chip",
    "'a'",
    "8",
    "true",
    "(",
    ")",
    "[",
    "]",
    ",",
    "and",
    "or",
    "not",
    "in",
    "==",
    "<",
    "!",
    "&",
    "=",
]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join) | st.text(max_size=20))
def test_any_text_is_a_condition_or_a_mistake(text: str) -> None:
    """Ours. Nothing but WhenError, and nothing but True or False."""
    try:
        assert parse(text).holds(VALUES) in (True, False)
    except WhenError as error:
        assert str(error)
