"""The report: within its bytes, the most telling first, nothing cut inside a letter."""

from hypothesis import given
from hypothesis import strategies as st

from mcp_server.idf.diagnostics import render
from mcp_server.model import Diagnosis, Diagnostic

texts = st.text(max_size=400)
numbers = st.none() | st.integers(0, 10**6)
diagnostics = st.builds(
    Diagnostic,
    severity=st.just("error"),
    kind=st.sampled_from(["compile", "link", "cmake", "unknown", "interrupted"]),
    message=texts,
    file=st.none() | texts,
    line=numbers,
    column=numbers,
    source=st.none() | texts,
    notes=st.lists(texts, max_size=4).map(tuple),
    count=st.integers(1, 99),
)
diagnoses = st.builds(
    Diagnosis,
    errors=st.lists(diagnostics, max_size=12).map(tuple),
    error_count=st.integers(0, 10**5),
    warning_count=st.integers(0, 10**5),
    hints=st.lists(texts, max_size=4).map(tuple),
    more_may_follow=st.booleans(),
)


@given(diagnosis=diagnoses, limit=st.integers(0, 2000), more=st.none() | texts, build=st.none() | st.integers(1, 10**6))
def test_the_limit_always_holds(diagnosis: Diagnosis, limit: int, more: str | None, build: int | None) -> None:
    """Ours: in bytes of UTF-8, whatever is told."""
    assert len(render(diagnosis, limit, build=build, more=more).encode()) <= limit


def error(number: int, **fields: object) -> Diagnostic:
    return Diagnostic.model_validate(
        {
            "severity": "error",
            "kind": "compile",
            "message": f"message {number}",
            "file": f"main/f{number}.c",
            "line": number,
        }
        | fields
    )


def test_a_report_reads_as_documented() -> None:
    """Ours: docs and prompts show this form."""
    diagnosis = Diagnosis(
        errors=(error(41, column=5, source="gpio_set_levl(LED, 1);", notes=("included from main/app.c:3",)),),
        error_count=1,
        hints=("add esp_driver_gpio to PRIV_REQUIRES",),
    )

    assert render(diagnosis, more='more: build_log(42, "build")') == (
        "main/f41.c:41:5 error: message 41\n"
        "   41 | gpio_set_levl(LED, 1);\n"
        "      included from main/app.c:3\n"
        "hint: add esp_driver_gpio to PRIV_REQUIRES\n"
        'more: build_log(42, "build")'
    )


def test_what_does_not_fit_is_counted() -> None:
    """Ours."""
    diagnosis = Diagnosis(errors=tuple(error(n) for n in range(40)), error_count=140)
    lines = render(diagnosis, 400, build=42).splitlines()

    assert lines[-1] == f"and {140 - (len(lines) - 1)} more: build_get(42)"
    assert lines[0] == "main/f0.c:0 error: message 0"


def test_a_long_message_keeps_its_end() -> None:
    """Ours: linkers and C++ name the symbol last."""
    message = "no match for call to " + "x" * 900 + " with 'needle_t'"
    report = render(Diagnosis(errors=(error(1, message=message),), error_count=1))

    assert "no match for call to" in report and "with 'needle_t'" in report


def test_a_hint_comes_before_the_third_error() -> None:
    """Ours: what helps is worth more than one more symptom."""
    long = "y" * 120
    diagnosis = Diagnosis(
        errors=tuple(error(n, message=f"{n} {long}") for n in range(9)), error_count=9, hints=("do this",)
    )

    assert "hint: do this" in render(diagnosis, 420)


def test_no_errors_are_said() -> None:
    """Ours: warnings are only counted."""
    assert render(Diagnosis(warning_count=40)) == "no errors, 40 warnings"
    assert render(Diagnosis()) == "no errors, no warnings"
    assert render(Diagnosis(warning_count=1)) == "no errors, 1 warning"


def test_nothing_steers_a_terminal_or_the_writing_direction() -> None:
    """Ours: a log is not to be trusted."""
    report = render(Diagnosis(errors=(error(1, message="a\x1b[31mb\x07c\u202ed\x9b2J"),), error_count=1))

    assert not set(report) & set("\x1b\x07\u202e\x9b")
