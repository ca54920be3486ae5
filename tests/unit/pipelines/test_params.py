"""Parameters: their kinds, where they are replaced, and that no value ever becomes code."""

import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.pipelines.loading import load, stages

ONE = "pipeline: {params: {x: a}, stages: [{name: s, command: %s, env: {E: '${params.x}'}, workdir: '/w/${params.x}'}]}"
NASTY = [
    "; rm -rf /",
    "$(id)",
    "`id`",
    '"',
    "'",
    "\\",
    "\n",
    "a b",
    "*",
    "${params.x}",
    "${PARAMS_x}",
    "$${params.x}",
    "é",
]


@pytest.mark.parametrize(
    ("written", "given", "text"),
    [
        ("8", 4, "4"),
        ("8", "4", "4"),
        ("8", 2.5, "2.5"),
        ("'8'", "many", "many"),
        ("false", True, "true"),
        ("false", "on", "true"),
        ("true", "0", None),
        ("x", 5, "5"),
        ("x", True, "true"),
        ("", "v", "v"),
        ("012", "x", "x"),
        ("1e3", "x", "x"),
        ("no", "de", "de"),
        ("v5.10", "v5.2", "v5.2"),
    ],
)
def test_given_value_takes_the_kind_of_the_files(written: str, given: object, text: str | None) -> None:
    """Issue. A number, true or false stay of that kind; anything else is text, as are 012, 1e3 and no."""
    file = f"pipeline: {{params: {{x: {written}}}, stages: [{{name: s, command: c}}]}}"
    if text is None:
        with pytest.raises(ValueError, match=r"params\.x is true or false, not '0'"):
            try:
                load(file, x=given)
            except Exception as error:
                raise ValueError(str(error)) from None
    else:
        assert load(file, x=given).params == {"x": text}


@given(
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=30) | st.sampled_from(NASTY)
)
def test_no_value_changes_a_commands_text(value: str) -> None:
    """Issue. A command is the same whatever a parameter is; elsewhere the value stands as it is, and only once."""
    stage = load(ONE % "'make \"${params.x}\" ${ params.x }'", x=value).stages[0]

    assert stage.command == 'make "${PARAMS_x}" ${PARAMS_x}'
    assert stage.env == {"E": value, "PARAMS_x": value}
    assert stage.workdir == f"/w/{value}"


@pytest.mark.parametrize("value", NASTY)
@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_shell_sees_a_value_as_one_word_and_runs_nothing_of_it(shell: str, value: str) -> None:
    """Issue. In double quotes every value arrives whole."""
    stage = load(ONE % "'printf %%s \"${params.x}\"'".replace("%%", "%"), x=value).stages[0]
    assert stage.command is not None
    environment = {"PATH": os.environ["PATH"], **stage.env}
    done = subprocess.run([shell, "-c", stage.command], env=environment, capture_output=True, timeout=5, check=True)

    assert done.stdout.decode() == value


def test_reference_with_two_dollars_stays_as_it_is() -> None:
    """Ours. And what only looks like a reference is the shell's."""
    stage = load(ONE % "'echo $${params.x} ${HOME} ${a%.b} $$ ${x:-y.z}'").stages[0]

    assert stage.command == "echo ${params.x} ${HOME} ${a%.b} $$ ${x:-y.z}"


def test_references_are_replaced_wherever_a_stage_names_something() -> None:
    """Issue."""
    stage = load(
        "pipeline: {params: {x: farm, y: v}, stages: [{name: v, uses: idf.build, artifacts: o}, {name: s,\n"
        "  server: ['${params.x}'], uses: idf.run, with: {expect: ['${params.y}!']}, depends_on: '${params.y}',\n"
        "  needs_artifacts: '${params.y}', artifacts: '${params.y}/*', concurrency: '${params.y}',\n"
        "  sync: {from: '${params.x}', path: '${params.y}'}}]}"
    ).stages[1]

    assert (stage.servers, stage.with_, stage.depends_on) == (("farm",), {"expect": ["v!"]}, ("v",))
    assert (stage.needs_artifacts, stage.artifacts, stage.group) == (("v",), ("v/*",), "v")
    assert stage.sync is not None
    assert (stage.sync.source, stage.sync.path) == ("farm", "v")


def test_stage_that_uses_something_gets_no_variables_of_parameters() -> None:
    """Ours. They are for commands, whose references read them."""
    assert stages("  - {name: a, uses: idf.build, env: {A: b}}")["a"].env == {"A": "b"}
