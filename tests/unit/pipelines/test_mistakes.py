"""Every mistake in a pipeline file: one sentence with its place and what would be right; all of them at once."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.config import Defaults
from mcp_server.errors import BadInput, PipelineError
from mcp_server.pipelines.spec import load as load_file
from mcp_server.yaml_document import read
from tests.unit.pipelines.loading import load, refusal
from tests.unit.pipelines.test_spec import EVERYTHING


def within(stage: str, before: str = "") -> str:
    """A file whose one stage has the name `a` and `stage`, which begins at 4:15."""
    return f"pipeline:\n  {before}\n  stages:\n  - {{name: a, {stage}}}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # the file
        ("", "1:1: the file is empty; it begins with `pipeline:`"),
        ("- a", "1:1: the file should be `key: value` lines at its top"),
        ("stages: []", "1:1: 'stages' belongs under `pipeline:`, two spaces further in"),
        ("pipelin: {}", "1:1: unknown key 'pipelin'; did you mean 'pipeline'?"),
        ("pipeline: {}", "1:1: pipeline.stages is missing"),
        ("pipeline: {stages: []}", "1:20: pipeline.stages: should not be empty"),
        ("pipeline: {stages: {a: b}}", "1:20: pipeline.stages: should be a list, [a, b]"),
        ("pipeline: {stages: [a]}", "1:21: should be `key: value` lines, not 'a'"),
        ("pipeline: {stages: [{command: x}]}", "1:21: name is missing"),
        ("pipeline: {stages: [{name: a b, command: x}]}", "1:28: name: a stage's name has letters, digits"),
        ("pipeline: {name: 'a\n\n b', stages: [{name: a, command: x}]}", "1:18: pipeline.name: should be one line"),
        ("pipeline: {parallel_limit: 0, stages: [{name: a, command: x}]}", "pipeline.parallel_limit: should be at le"),
        ("a: 1\na: 2", "2:1: the key 'a' is here twice, first in line 1"),
        ("pipeline:\n\tname: x", "2:1: a tab is used to indent; YAML takes spaces"),
        (b"pipeline: \xff", "1:11: this is not UTF-8; save the file as UTF-8"),
        ("#" * 5_000_000, " is 5,000,000 bytes long; at most 1,000,000 are read"),
        ("[" * 20_000, "nested too deeply"),
        ("pipeline: " + "{a: " * 100 + "}" * 100, "1:12: unknown key 'a' in pipeline; known here: name, params"),
        ("a: &a [*a]", "1:4: this value contains itself"),
        # a stage
        (within("comand: x"), "4:15: unknown key 'comand'; did you mean 'command'?"),
        (within("timeout: 1h"), "4:5: stage 'a' has nothing to do; give it a command, or uses"),
        (within("command: x, uses: idf.build"), "4:27: stage 'a' has command and uses; leave one of them"),
        (within("command: ''"), "4:24: command: should not be empty"),
        (within("command: x, with: {a: 1}"), "4:27: with belongs to uses; give a command its values in env"),
        (within("command: x, timeout: 3 hours"), "4:36: timeout: '3 hours' is not a duration; write 3h"),
        (within("command: x, retry: many"), "4:34: retry.times: should be a whole number, not 'many'"),
        (within("command: x, retry: {on: [lots]}"), "4:40: retry.on[1]: unknown cause 'lots'; did you mean 'lost'?"),
        (within("command: x, retry: {on: 256}"), "256 is no exit code of a failure; those are 1 to 255"),
        (within("command: x, retry: {on: 0}"), "0 is no exit code of a failure; those are 1 to 255"),
        (within("command: x, retry: {backoff: 1 min}"), "retry.backoff: '1 min' is not a duration; write 1m"),
        (within("command: x, retry: {time: 1}"), "unknown key 'time' in retry; did you mean 'times'?"),
        (within("command: x, sync: {form: x}"), "unknown key 'form' in sync; did you mean 'from'?"),
        (within("command: x, env: {A B: x}"), "env.A B: should be the name of an environment variable"),
        (within("command: x, allow_failure: maybe"), "allow_failure: should be true or false, not 'maybe'"),
        (within("command: x, artifacts: [../x]"), "4:39: artifacts: '../x' leads out of the working folder"),
        (within("command: x, artifacts: /x"), "4:38: artifacts: '/x' leads out of the working folder"),
        (within("command: x, secrets: [A], env: {A: b}"), "4:37: secrets: A is in env, too; leave one"),
        (within("uses: idf.bild"), "4:21: uses: there is no 'idf.bild'; did you mean 'idf.build'?"),
        (within("uses: agent.fxi"), "uses: there is no 'agent.fxi'; did you mean 'agent.fix'?"),
        (within("uses: doctor, with: {projct: x}"), "4:36: unknown key 'projct'; did you mean 'project'?"),
        (within("uses: doctor, server: farm"), "4:29: server: doctor runs on this machine only; leave server out"),
        (within("uses: doctor, env: {A: b}"), "4:29: env says nothing to doctor; leave it out"),
        (within("uses: qa"), "4:21: qa judges what it comes after; name that in depends_on"),
        (within("uses: agent.fix"), "4:5: agent.fix mends what other stages fail of, and there are none"),
        (within("uses: agent.fix, depends_on: b"), "4:32: depends_on says nothing to agent.fix, which comes between"),
        (within("uses: agent.fix, with: {max_rounds: 1}"), "4:51: max_rounds: should be at least 2, not '1'"),
        (within("uses: agent.fix, with: {max_rounds: 21}"), "4:51: max_rounds: should be at most 20, not '21'"),
        (within("uses: agent.fix, with: {allow: [../x]}"), "4:47: allow[1]: '../x' leads out of the project; write"),
        (within("uses: agent.fix, with: {agent: cluade}"), "4:46: agent: no agent 'cluade'; did you mean 'claude'?"),
        (within("uses: agent.fix, with: {budget: {dollars: 3}}"), "4:48: unknown key 'dollars' in budget; known here"),
        (within("uses: agent.fix, with: {budget: {time: 0}}"), "4:54: budget.time: should be more than 0"),
        (within("uses: git.commit"), "message is missing"),
        (within("uses: git.commit, with: {message: ''}"), "4:49: message: should not be empty"),
        (within("uses: git.commit, with: {message: x, branch: a..b}"), "4:60: branch: 'a..b' is no name of a branch"),
        (within("uses: git.commit, with: {message: x, author: me}"), "4:60: author: 'me' is no author; write Name <"),
        (within("uses: git.commit, with: {message: x, paths: /etc}"), "4:59: paths"),
        (within("uses: git.push, with: {remote: origin}"), "4:31: branch is missing"),
        (
            within("uses: git.push, with: {branch: b, remote: 'https://TOKEN@host/x'}"),
            "4:57: remote: should be a remote's name or URL without a login: keep that in your git's credentials",
        ),
        (within("uses: git.push, with: {branch: '${params.b}'}", "params: {b: -f}"), "4:46: branch: '-f' is no name"),
        (within("uses: idf.flash, with: {prot: x}"), "unknown key 'prot'; did you mean 'port'?"),
        (within("uses: idf.build, with: {taget: x}"), "unknown key 'taget'; did you mean 'target'?"),
        (within("uses: idf.build, with: {clean: x}"), "4:46: clean: should be true or false, not 'x'"),
        (within("command: x, server: fram"), "4:35: no server is known as 'fram'; did you mean 'farm'?"),
        (within("command: x, server: []"), "4:35: server: should not be an empty list"),
        (within("command: x, sync: {from: fram}"), "4:40: no server is known as 'fram'; did you mean 'farm'?"),
        # endings
        ("pipeline: {stages: [{name: a, command: x}], on_failure: [{notfy: x}]}", "did you mean 'notify'?"),
        (
            "pipeline: {stages: [{name: a, command: x}], on_success: [{retry: 1}]}",
            "on_success takes notify and archive",
        ),
        (
            "pipeline: {stages: [{name: a, command: x}], on_failure: [{retry: 1}]}\non_failure: [{retry: 1}]",
            "2:1: on_failure is here twice, the other is under pipeline; leave one",
        ),
        # references
        (within("command: 'x ${params.tarjet}'", "params: {target: y}"), "4:24: there is no 'params.tarjet'; did you"),
        (within("command: 'x ${params.a}'"), "4:24: there is no 'params.a'; the pipeline has no params"),
        (within("command: 'x ${matrix.a}'"), "4:24: there is no 'matrix.a'; the stage has no matrix"),
        (within("command: 'x ${{ params.a }}'", "params: {a: y}"), "has a brace too many; write ${params.a}"),
        (within("command: 'x ${secrets.T}'"), "'${secrets.T}' is no reference; a command reads it as ${T}"),
        (within("command: 'x ${param.a}'"), "'${param.a}' is no reference; there are ${params.NAME} and"),
        (within("command: x, env: {B: '${params.b}'}", "params: {a: y}"), "4:36: there is no 'params.b'"),
        (within("command: x, env: {PARAMS_a: b}", "params: {a: y}"), "4:33: env.PARAMS_a is what ${params.a} is read"),
        (
            within("command: x", "params: {a-b: y}"),
            "2:12: a parameter's name has letters, digits and '_' only; write a_b",
        ),
        (within("command: x", "params: {a: [y]}"), "2:15: params.a should be one text, number or true/false"),
        (within("command: x", "params: {b: 1, a: '${params.b}'}"), "2:21: params.a refers to a value; only stages can"),
        # when
        (within("command: x, when: params.a = 1", "params: {a: 1}"), "4:33: when: '=' compares nothing; write =="),
        (within("command: x, when: params.b", "params: {a: 1}"), "4:33: when: there is no 'params.b'"),
        (within("command: x, when: 'params.a < 1'", "params: {a: x}"), "when: '<' compares numbers, and 'x' is none"),
    ],
)
def test_mistake_is_told_with_its_place(text: str | bytes, expected: str) -> None:
    """Ours. Line and column, the key, and what would be right."""
    assert expected in refusal(text)


STAGES = "pipeline:\n  stages:\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  - {name: a, command: x, depends_on: b}\n", "3:39: depends_on: there is no stage 'b'; known here: a"),
        (
            "  - {name: build, command: x}\n  - {name: b, command: x, depends_on: [biuld]}\n",
            "4:40: depends_on: there is no stage 'biuld'; did you mean 'build'?",
        ),
        (
            "  - {name: a, command: x}\n  - {name: a, command: y}\n",
            "4:12: the stage 'a' is here twice, first in line 3:12; choose another name",
        ),
        ("  - {name: a, command: x, depends_on: a}\n", "3:39: the stages wait for each other: a → a"),
        (
            "  - {name: a, command: x, depends_on: b}\n"
            "  - {name: b, command: x, depends_on: c}\n"
            "  - {name: c, command: x, depends_on: [d, a]}\n"
            "  - {name: d, command: x}\n",
            "3:39: the stages wait for each other: a → b → c → a",
        ),
        (
            "  - {name: a, command: x}\n  - {name: f, uses: agent.fix}\n  - {name: g, uses: agent.fix}\n",
            "5:21: a pipeline has one agent.fix, which is in line 4:21",
        ),
        (
            "  - {name: a, command: x, depends_on: f}\n  - {name: f, uses: agent.fix}\n",
            "3:39: depends_on: 'f' comes between two rounds of all stages; no stage waits for it",
        ),
        (
            "  - {name: a, command: x}\n  - {name: a, uses: agent.fix}\n",
            "4:12: the stage 'a' is here twice, first in line 3:12; choose another name",
        ),
        (
            "  - {name: a, command: x}\n  - {name: b, command: x, needs_artifacts: a}\n",
            "4:44: needs_artifacts: 'a' keeps no artifacts; list some under artifacts there",
        ),
    ],
)
def test_mistake_between_stages_is_told_with_its_place(text: str, expected: str) -> None:
    """Issue. A circle is shown as a path, a missing stage with the nearest name, a double one with both places."""
    assert refusal(STAGES + text) == expected


def test_two_circles_are_both_told() -> None:
    """Ours."""
    lines = refusal(
        STAGES + "".join(f"  - {{name: {a}, command: x, depends_on: {b}}}\n" for a, b in ("ab", "ba", "cd", "de", "ec"))
    ).splitlines()

    assert lines[1:] == [
        "3:39: the stages wait for each other: a → b → a",
        "5:39: the stages wait for each other: c → d → e → c",
    ]


def test_all_mistakes_are_told_at_once() -> None:
    """Issue. Also those that lie behind another of the same stage; in the file's order, ten at most."""
    text = """\
pipeline:
  params: {target: esp32c3, jobs: 8}
  stages:
    - name: a
      command: make ${params.tarjet}
      timeout: 3 hours
      depends_on: c
    - name: b
      comand: x
      retry: {on: [lots, 300, timeout]}
    - name: c
      command: x
      depends_on: [d, a]
      server: fram
      when: params.jobs = 8
"""
    lines = refusal(text, jbs=1).splitlines()

    assert lines[0] == "10 mistakes in the pipeline:"
    assert lines[1] == " there is no parameter 'jbs'; did you mean 'jobs'?"
    assert [line.split()[0] for line in lines[2:11]] == [
        *("5:16:", "6:16:", "7:19:", "9:7:", "10:20:", "10:26:", "13:20:", "14:15:", "15:13:")
    ]
    assert len(lines) == 11


def test_error_lists_every_mistake_for_programs() -> None:
    """Ours. The text is bounded, the list is not."""
    with pytest.raises(PipelineError) as error:
        load(STAGES + "".join(f"  - {{name: s{number}, comand: x}}\n" for number in range(30)))

    assert len(error.value.mistakes) == 30
    assert str(error.value).splitlines()[-1] == "and 20 more"
    assert isinstance(error.value, BadInput)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"jobs": "many"}, "params.jobs is a number in the file (8); put that in quotes there if any text will do"),
        ({"fast": "maybe"}, "params.fast is true or false, not 'maybe'"),
        ({"target": ["a"]}, "params.target should be one text, number or true/false"),
        ({"target": None}, "params.target should be one text, number or true/false"),
        ({"target": "a\0b"}, "params.target has a character that no program takes"),
        ({"tarjet": "a"}, "there is no parameter 'tarjet'; did you mean 'target'?"),
    ],
)
def test_given_parameter_that_does_not_fit_is_refused(given: dict[str, object], expected: str) -> None:
    """Issue."""
    text = "pipeline: {params: {jobs: 8, fast: true, target: x}, stages: [{name: a, command: x}]}"

    assert expected in refusal(text, **given)


@pytest.mark.parametrize("field", ["env: {A: [S3CRET]}", "with: {A: [S3CRET]}", "uses: idf.run, env: {'A B': S3CRET}"])
def test_mistake_shows_nothing_of_env(field: str) -> None:
    """Ours. A message ends in logs and in a model's context."""
    assert "S3CRET" not in refusal(within(f"comand: x, {field}"))


def test_alias_bomb_is_refused() -> None:
    """Issue."""
    bomb = "a: &a [x,x,x,x,x,x,x,x]\n" + "".join(
        f"{n}: &{n} [*{p},*{p},*{p},*{p},*{p},*{p},*{p},*{p}]\n" for p, n in zip("abcdefgh", "bcdefghi", strict=True)
    )

    assert "more than 50,000 values" in refusal(bomb)


def test_too_many_stages_and_dependencies_are_refused() -> None:
    """Ours. A few lines of matrices stand for millions of stages or arrows."""
    axis = f"[{', '.join(map(str, range(16)))}]"
    one = "  - {name: %s, command: x, matrix: {x: %s, y: %s}%s}\n"
    many = "".join(one % (f"s{number}", axis, axis, "") for number in range(8))
    arrows = "".join(one % (f"s{number}", axis, axis, f", depends_on: s{number - 1}") for number in range(1, 7))

    assert "with this there are more than 2,000 stages" in refusal(STAGES + many)
    first = one % ("s0", axis, axis, "")
    assert "have more than 100,000 dependencies" in refusal(STAGES + first + arrows)
    assert "the matrix makes 4,096 cells; at most 256 are run" in refusal(
        STAGES + f"  - {{name: a, command: x, matrix: {{x: {axis}, y: {axis}, z: {axis}}}}}\n"
    )


KEYS = st.sampled_from(
    [
        *("pipeline", "name", "stages", "params", "server", "command", "uses", "with", "workdir", "depends_on", "a"),
        *("timeout", "retry", "when", "matrix", "env", "secrets", "sync", "artifacts", "needs_artifacts", "x-y"),
        *("on_failure", "notify", "include", "exclude", "on", "times", "from", "path", "concurrency", "\x00", "a b"),
    ]
)
WORDS = st.sampled_from(
    [
        *("a", "b.c", "", "~", "1", "-1", "1e3", "3 hours", "true", "${params.a}", "${matrix.a}", "idf.build", "é"),
        *("*.bin", "params.a == 1", "((", "not", "local", "lost", "${", "$${params.a}", "/", "..", "1h", "'", "\x00"),
    ]
)
TREES = st.recursive(
    WORDS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=25
)


def as_yaml(value: object) -> str:
    """Flow YAML with every text in quotes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}": {as_yaml(item)}' for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_yaml, value)) + "]"
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\0", "\\0") + '"'


def is_loaded_or_refused(text: str | bytes) -> None:
    try:
        load_file(text, defaults=Defaults())
    except PipelineError as error:
        assert error.mistakes
        assert len(str(error).splitlines()) <= 12


@given(st.binary(max_size=60) | st.text(alphabet="ab:{}[],&*!|>'\"%@`#-? \n\t\\<\x00é0~", max_size=40))
def test_any_bytes_are_loaded_or_refused(text: str | bytes) -> None:
    """Ours. No input ends in anything but a pipeline or a PipelineError."""
    is_loaded_or_refused(text)


@given(st.lists(st.dictionaries(KEYS, TREES, max_size=6), max_size=4), st.dictionaries(KEYS, TREES, max_size=3))
def test_any_tree_of_known_keys_is_loaded_or_refused(entries: list[object], params: dict[str, object]) -> None:
    """Ours. Values of every shape in every key."""
    is_loaded_or_refused(as_yaml({"pipeline": {"stages": entries, "params": params}}))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 30_000 + "]" * 30_000,
        "- " * 30_000,
        "a: [" + "x," * 200_000 + "]",
        "a:\n" * 200_000,
        "${a." + " " * 90_000,
    ],
    ids=["brackets", "dashes", "list", "lines", "blanks"],
)
def test_great_nonsense_is_refused_at_once(text: str) -> None:
    """Ours. Neither its depth nor its length ends the process or holds it up."""
    started = time.process_time()

    refusal(text)
    assert time.process_time() - started < 5


def test_long_file_is_read_as_a_short_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours. The fast reader gives the same values and places."""
    text = (EVERYTHING.replace("EMPTY: ,", "EMPTY: '',") + "# é\n").encode()
    slow = read(text)
    monkeypatch.setattr("mcp_server.yaml_document.FAST_FROM", 0)

    assert read(text) == slow
