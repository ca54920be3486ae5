"""Plans for the eye: the table, the estimate, the Mermaid graph."""

import re

import pytest

from mcp_server.pipelines.render import columns, mermaid, plan_table, plan_text, runnable, seconds
from tests.unit.pipelines.loading import SERVERS, load

PIPELINE = """\
pipeline:
  name: 펌웨어
  stages:
    - {name: pack, command: "tar czf out.tgz build && echo done with a rather long command", needs_artifacts: build}
    - {name: build, uses: idf.build, server: idf, timeout: 90m, artifacts: o, retry: 0}
    - {name: docs, command: "make\\ndocs", timeout: 0, when: "false", depends_on: build}
    - {name: publish, command: x, depends_on: docs}
"""

TABLE = """\
펌웨어 · 3 stages · 1 skipped · at most 3 at a time
#  stage    server      after  limit  retry
1  build    farm,spare  -      1h30m  -
     idf.build
2  pack     local       1      2h     1
     tar czf out.tgz build && echo done with a rather long command
3  docs     local       1      none   1
     skipped: when: false is false
4  publish  local       3      2h     1
     x
about 12m, by earlier runs; of 1 nothing is known
longest path: build → pack"""

GRAPH = """\
flowchart LR
    s0["pack"]
    s1["build<br/>idf"]
    s2["docs"]:::skipped
    s3["publish"]
    s1 --> s0
    s1 --> s2
    s2 --> s3
    classDef skipped stroke-dasharray: 4
"""


def test_plan_is_a_table_in_the_order_of_work() -> None:
    """Issue. At most 80 columns; of a line in Korean, too, which takes two a letter."""
    text = plan_text(load(PIPELINE), SERVERS.__getitem__, {"build": 600, "pack": 120})

    assert text == TABLE
    assert max(columns(line) for line in text.splitlines()) <= 80


def test_plan_says_no_time_where_none_is_known() -> None:
    """Ours."""
    assert plan_text(load(PIPELINE)).splitlines()[-2:] == ["4  publish  local   3      2h     1", "     x"]


def test_beside_a_graph_the_table_has_the_commands_and_not_who_waits() -> None:
    """Ours. What a stage runs is what a plan is read for."""
    command = "make " + "x" * 88
    lines = plan_text(load(PIPELINE.replace("command: x", f"command: {command}")), after=False, task_width=100)

    assert lines.splitlines()[1] == "#  stage    server  limit  retry"
    assert lines.splitlines()[-1] == f"     {command}"


def test_rows_are_plain_data() -> None:
    """Ours. For --json, and for a table that the terminal draws."""
    row = plan_table(load(PIPELINE), SERVERS.__getitem__, {"build": 600.0})[0].model_dump(mode="json")

    assert row["stage"] == "build"
    assert (row["number"], row["after"], row["hosts"], row["typical_s"]) == (1, [], ["farm", "spare"], 600)
    assert (row["timeout_s"], row["retries"], row["task"], row["critical"]) == (5400, 0, "idf.build", True)


def test_skipped_stage_hands_on_what_it_waits_for() -> None:
    """Ours. `publish` waits for `build` although `docs` between them is not run."""
    assert runnable(load(PIPELINE)) == {"pack": ("build",), "build": (), "publish": ("build",)}


def test_long_plans_are_cut() -> None:
    """Ours. Names, servers and numbers of any length keep to 80 columns."""
    names = ["n" * 50 + str(number) for number in range(70)]
    text = "pipeline:\n  stages:\n" + "".join(
        f"    - {{name: {name}, command: '{'é' * 200}', depends_on: [{', '.join(names[:number])}]}}\n"
        for number, name in enumerate(names)
    )
    lines = plan_text(load(text), lambda _: ["h" * 60]).splitlines()

    assert max(map(columns, lines)) <= 80
    assert lines[-1] == "and 10 more"


def test_graph_is_a_mermaid_flowchart() -> None:
    """Issue."""
    assert mermaid(load(PIPELINE)) == GRAPH


@pytest.mark.parametrize(
    "name", ["end", 'a"]', "x[y]", "a --> b", "%% c", "#quot;", "<script>", "a;b", "`x`", "graph TD", "{{", "é"]
)
def test_odd_names_cannot_break_the_graph(name: str) -> None:
    """Issue. A name is a label in quotes, in which only letters and harmless signs stand as they are."""
    lines = mermaid({name: ["other"], "other": []}).splitlines()

    assert lines[0] == "flowchart LR"
    assert all(re.fullmatch(r'    (s\d\["[\w .,/:@+#;-]*"\]|s\d --> s\d)', line) for line in lines[1:])
    label = lines[1][8:-2]
    assert re.sub(r"#(\d+);", lambda found: chr(int(found[1])), label) == name


def test_great_graphs_stay_within_what_mermaid_draws() -> None:
    """Ours. 500 arrows and 50,000 characters; what is left out is said."""
    graph = {
        f"stage-{place:060}": [f"stage-{other:060}" for other in range(max(0, place - 5), place)]
        for place in range(1000)
    }
    text = mermaid(graph)

    assert len(text) < 50_000
    assert text.count("-->") <= 500
    assert "more arrows]" in text
    assert "and 600 more stages]" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0s"),
        (0.25, "0.25s"),
        (45, "45s"),
        (90, "1m30s"),
        (5400, "1h30m"),
        (7200, "2h"),
        (3605, "1h"),
        (90_000, "1d1h"),
    ],
)
def test_seconds_read_as_a_file_writes_them(value: float, text: str) -> None:
    """Ours."""
    assert seconds(value) == text
