"""Matrices: the cells, their names, what they stand for in other stages, and mistakes."""

import pytest

from tests.unit.pipelines.loading import refusal, stages


def test_stage_unfolds_to_a_cell_a_combination() -> None:
    """Issue. In the order written; the values are in `matrix`, in commands and in any text."""
    found = stages(
        "  - {name: b, matrix: {chip: [esp32, esp32c3], fast: [true, false]}, command: 'make ${matrix.chip}', "
        "workdir: '/w/${matrix.chip}', when: matrix.fast}"
    )

    assert list(found) == ["b.esp32.true", "b.esp32.false", "b.esp32c3.true", "b.esp32c3.false"]
    cell = found["b.esp32c3.true"]
    assert (cell.base, cell.matrix) == ("b", {"chip": "esp32c3", "fast": "true"})
    assert (cell.command, cell.workdir, cell.skip) == ("make ${MATRIX_chip}", "/w/esp32c3", "")
    assert cell.env == {"MATRIX_chip": "esp32c3", "MATRIX_fast": "true"}
    assert found["b.esp32.false"].skip == "when: matrix.fast is false"


def test_name_of_a_matrix_stands_for_all_its_cells() -> None:
    """Issue. And a cell's name, also one made by a reference, for itself."""
    found = stages(
        "  - {name: build, matrix: {t: [a, b]}, command: x, artifacts: o}\n"
        "  - {name: test, matrix: {t: [a, b]}, command: x, depends_on: ['build.${matrix.t}']}\n"
        "  - {name: pack, command: x, depends_on: test.a, needs_artifacts: build}\n"
    )

    assert found["test.a"].depends_on == ("build.a",)
    assert found["test.b"].depends_on == ("build.b",)
    assert found["pack"].depends_on == ("test.a", "build.a", "build.b")
    assert found["pack"].needs_artifacts == ("build.a", "build.b")


def test_skipped_cells_are_not_needed_while_others_are_there() -> None:
    """Ours. Only where no cell runs, nothing can be gathered."""
    text = (
        "  - {name: build, matrix: {t: [a, b]}, command: x, artifacts: o, when: matrix.t == %s}\n"
        "  - {name: pack, command: x, needs_artifacts: build}\n"
    )

    some, none = stages(text % "'a'")["pack"], stages(text % "'c'")["pack"]
    assert (some.skip, some.needs_artifacts, some.depends_on) == ("", ("build.a",), ("build.a", "build.b"))
    assert none.skip == "needs the artifacts of 'build', which is skipped"


def test_exclude_and_include_shape_the_cells() -> None:
    """Ours, as known from GitHub's: an entry of include joins the cells it fits, else it is a cell of its own."""
    found = stages(
        "  - name: b\n    command: x ${matrix.flag}\n    matrix:\n      chip: [a, b]\n      mode: [x, y]\n"
        "      exclude: [{chip: a, mode: y}]\n"
        "      include: [{chip: b, flag: -O2}, {chip: c, mode: z}]\n"
    )

    assert list(found) == ["b.a.x", "b.b.x", "b.b.y", "b.c.z"]
    assert [stage.matrix["flag"] for stage in found.values()] == ["", "-O2", "-O2", ""]


def test_include_alone_lists_the_cells() -> None:
    """Ours."""
    found = stages("  - {name: b, command: x, matrix: {include: [{chip: a}, {chip: b}]}}")

    assert [stage.matrix for stage in found.values()] == [{"chip": "a"}, {"chip": "b"}]


def test_parameter_can_be_a_value_of_a_matrix() -> None:
    """Ours."""
    text = "  - {name: b, command: x, matrix: {t: ['${params.t}', z]}}\n  params: {t: y}"

    assert list(stages(text, t="q")) == ["b.q", "b.z"]


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ("[a/b, 'a b', a-b]", ["s.a-b", "s.a-b-2", "s.a-b-3"]),
        ("[5.10, 'é', '']", ["s.5.10", "s.-", "s"]),
        ("[a, a]", ["s.a"]),
    ],
)
def test_names_of_cells_have_safe_letters_and_are_unique(values: str, names: list[str]) -> None:
    """Issue. Jobs' directories are named by them."""
    assert list(stages(f"  - {{name: s, command: x, matrix: {{v: {values}}}}}")) == names


def test_long_names_of_cells_are_cut_and_stay_unique() -> None:
    """Ours. 64 letters at most."""
    found = stages(f"  - {{name: s, command: x, matrix: {{v: [{'a' * 100}, {'a' * 101}]}}}}")

    assert len(found) == 2
    assert {len(name) for name in found} == {64}


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ("[a]", "3:35: matrix should be `key: [values]` lines, e.g. target: [esp32, esp32c3]"),
        ("{}", "3:35: matrix should be"),
        ("{a: []}", "3:39: matrix.a should be a list of values, [a, b]"),
        ("{a: [[b]]}", "3:40: a matrix value should be one text, number or true/false"),
        ("{a-b: [c]}", "3:36: a matrix key's name has letters, digits and '_' only; write a_b"),
        ("{a: [b], exclude: [{c: d}]}", "3:55: the matrix has no key 'c'; known here: a"),
        ("{a: [b], exclude: [{a: b}]}", "3:35: exclude leaves no cell of the matrix"),
        ("{a: [b], include: c}", "3:53: matrix.include should be a list of `key: value` lines"),
        ("{a: ['${params.x}']}", "3:40: there is no 'params.x'; the pipeline has no params"),
    ],
)
def test_mistake_in_a_matrix_is_told_with_its_place(matrix: str, expected: str) -> None:
    """Ours."""
    assert expected in refusal(f"pipeline:\n  stages:\n  - {{name: a, command: x, matrix: {matrix}}}\n")


def test_cell_and_stage_of_one_name_are_a_mistake() -> None:
    """Ours."""
    text = "pipeline:\n  stages:\n  - {name: s, command: x, matrix: {v: [a]}}\n  - {name: s.a, command: x}\n"

    assert "4:12: the stage 's.a' is here twice, first in line 3:12, as a cell of a matrix" in refusal(text)


def test_stages_after_a_broken_matrix_are_not_blamed() -> None:
    """Ours. One mistake, one sentence."""
    broken = "  - {name: s, command: x, matrix: {v: []}}\n  - {name: t, command: x, depends_on: [s.a, s]}\n"

    assert refusal("pipeline:\n  stages:\n" + broken).count("\n") == 0
