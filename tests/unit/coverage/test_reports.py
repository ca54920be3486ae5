"""Coverage from the reports of real tools, and from whatever else a build may leave in their place."""

import gzip
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.coverage import Covered, book, gcov, read_reports, reports
from mcp_server.coverage.cobertura import is_cobertura
from mcp_server.coverage.lcov import is_lcov

RECORDED = Path(__file__).parents[2] / "fixtures" / "coverage"
ROOT = "/home/dev/valve"
WHOLE = {
    "src/valve.c": (3, 6),
    "src/pump.cpp": (5, 6),
    "src/main.cpp": (5, 5),
    "src/valve.h": (2, 2),
}


def left(folder: Path, **files: str | bytes) -> list[str]:
    """Files that a stage left; `__` in a name stands for a dot."""
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        (folder / name.replace("__", ".")).write_bytes(data)
    return [name.replace("__", ".") for name in files]


@pytest.mark.parametrize("name", ["lcov-1.16.info", "gcovr-8.8.info", "gcovr-8.8.xml"])
def test_every_tool_tells_the_same_of_one_program(name: str) -> None:
    """Issue. lcov's and gcovr's reports of the same run, as tracefile and as Cobertura."""
    found, note = read_reports(RECORDED, [name], ROOT)

    assert found is not None
    assert note == ""
    assert {one.file: (one.lines.covered, one.lines.total) for one in found.files} == WHOLE
    assert found.lines == Covered(covered=15, total=19)
    assert found.branches == Covered(covered=5, total=10)
    assert found.functions == Covered(covered=6, total=7)
    assert found.files[0].file == "src/valve.c"  # the one with most that was not run


@pytest.mark.parametrize("form", ["gcov", "gcov.json.gz"])
def test_gcovs_own_output_tells_it_of_each_source(form: str) -> None:
    """Issue. Where nobody made a report of it; its paths are told from where the compiler ran."""
    names = ["valve.gcov.json.gz", "pump.gcov.json.gz"] if form.endswith("gz") else ["valve.c.gcov", "pump.cpp.gcov"]
    found, note = read_reports(RECORDED, names, ROOT)

    assert found is not None
    assert note == ""
    counts = {one.file: (one.lines.covered, one.lines.total) for one in found.files}
    assert counts == {name: WHOLE[name] for name in ("src/valve.c", "src/pump.cpp")}
    assert (found.branches, found.functions) == (Covered(covered=3, total=8), Covered(covered=4, total=5))


@pytest.mark.parametrize("name", ["coveragepy-7.17.xml", "coveragepy-7.17.lcov"])
def test_reports_of_python_are_read_as_well(name: str) -> None:
    """Ours. A project's tools have tests, too. A branch's name has words in it, functions have an end."""
    found, note = read_reports(RECORDED, [name], ROOT)

    assert found is not None
    assert note == ""
    assert (found.lines, found.branches) == (Covered(covered=7, total=9), Covered(covered=1, total=2))
    assert {one.file for one in found.files} == {"level.py", "try_level.py"}
    assert found.functions == (Covered(covered=1, total=2) if name.endswith("lcov") else None)


def test_what_several_reports_say_of_a_line_counts_once() -> None:
    """Ours. CI jobs often leave the same run in several formats."""
    every = sorted(path.name for path in RECORDED.iterdir())
    found, note = read_reports(RECORDED, every, ROOT)

    assert found is not None
    assert note == ""
    assert found.lines == Covered(covered=22, total=28)
    assert found.branches == Covered(covered=6, total=12)
    assert set(found.sources) == set(every)


def test_two_runs_of_one_source_are_put_together_line_by_line(tmp_path: Path) -> None:
    """Ours. What one test ran and another did not, was run."""
    first = "TN:a\nSF:src/a.c\nFN:1,f\nFNDA:0,f\nBRDA:1,0,0,-\nBRDA:1,0,1,2\nDA:1,1\nDA:2,0\nend_of_record\n"
    other = "SF:/p/src/a.c\nFNDA:3,f\nBRDA:1,0,0,1\nBRDA:1,0,1,0\nDA:2,4\nDA:9,0\nend_of_record\n"
    found, _ = read_reports(tmp_path, left(tmp_path, a__info=first + other, b__info=other), "/p")

    assert found is not None
    assert [one.file for one in found.files] == ["src/a.c"]
    assert (found.lines, found.branches) == (Covered(covered=2, total=3), Covered(covered=2, total=2))
    assert found.functions == Covered(covered=1, total=1)


def test_newer_lcov_has_functions_by_index_and_marked_branches(tmp_path: Path) -> None:
    """lcov's. FNL and FNA, an `e` at a branch of an exception, and comments came with version 2."""
    facts = ("FNL:0,1,4", "FNA:0,2,f", "FNL:1,6", "FNA:1,0,g", "BRDA:2,e0,1,-", "DA:2,1,abc", "MCDC:1,2,t,1,1,x")
    text = "\n".join(["# made by hand", "TN:", "SF:a.c", *facts, "end_of_record", ""])
    found, note = read_reports(tmp_path, left(tmp_path, a__info=text), "/p")

    assert found is not None
    assert note == ""
    assert (found.functions, found.branches) == (Covered(covered=1, total=2), Covered(covered=0, total=1))


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE coverage [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><coverage line-rate="1"><sources><source>&c;</source></sources></coverage>'
)
OUTSIDE = (
    '<!DOCTYPE coverage [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    '<coverage line-rate="1"><sources><source>&x;</source></sources></coverage>'
)
CLASS = '<coverage line-rate="1"><packages><package><classes><class filename="a.c"><lines><line number="1" hits="1"/>'


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("bomb__xml", BOMB, "declares types or entities"),
        ("outside__xml", OUTSIDE, "declares types or entities"),
        ("cut__xml", CLASS, "no well-formed XML (line 1)"),
        ("long__xml", '<coverage line-rate="1" ' + " " * 3_000_000, "a tag of more than 1 MiB"),
        ("deep__xml", '<coverage line-rate="1">' + "<a>" * 200, "40 deep"),
        ("cut__info", "SF:a.c\nDA:1,1\nDA:2", "cut off in the middle of a source"),
        ("odd__info", "SF:a.c\nDA:1,1\nDA:x,1\nlorem\nend_of_record\n", "2 of its lines cannot be read"),
        ("none__info", "SF:a.c\n", "cut off"),
        ("a__gcov__json__gz", gzip.compress(b"[1]", mtime=0), "no JSON of gcov"),
        ("b__gcov__json__gz", gzip.compress(b"[" * 100_000, mtime=0), "no JSON"),
        ("c__gcov__json__gz", gzip.compress(b"{}", mtime=0)[:-6], "cannot be unpacked"),
        ("d__gcov__json__gz", b"\x1f\x8b\x08junk" * 9, "cannot be unpacked"),
    ],
)
def test_a_broken_report_is_one_sentence_and_the_others_count(
    tmp_path: Path, name: str, content: str | bytes, said: str
) -> None:
    """Issue. It fails nothing, and what it says in part is not taken for the whole."""
    shutil.copy(RECORDED / "gcovr-8.8.info", tmp_path)
    names = left(tmp_path, **{name: content})
    found, note = read_reports(tmp_path, ["gcovr-8.8.info", *names], ROOT)

    assert said in note
    assert note.startswith(f"{names[0]}: ")
    assert found is not None
    assert found.note == note
    assert found.lines.covered == 15 + (name == "odd__info")  # of text, what was read holds


def test_a_bomb_of_gzip_is_noticed_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue. A kilobyte may stand for megabytes."""
    monkeypatch.setattr(gcov, "MAX_JSON_BYTES", 1 << 20)
    many = json.dumps({"gcc_version": "12", "files": []}) + " " * (30 << 20)
    found, note = read_reports(tmp_path, left(tmp_path, a__gcov__json__gz=gzip.compress(many.encode())), "/p")

    assert found is None
    assert note == "a.gcov.json.gz: it is larger than 1 MiB"


def test_what_is_no_report_is_none_of_it(tmp_path: Path) -> None:
    """Ours. Test results are XML, too, manuals are called .info, and Clover's root is called as Cobertura's."""
    names = left(
        tmp_path,
        junit__xml='<?xml version="1.0"?><testsuites tests="1"/>',
        clover__xml='<coverage generated="1"><project/></coverage>',
        emacs__info="This is emacs.info, produced by makeinfo\n",
        sizes__json="{}",
        empty__xml="",
        junk__gcov="hello\n",
        app__bin=b"\0" * 9,
    )

    assert read_reports(tmp_path, [*names, "gone.info"], "/p") == (
        None,
        "gone.info cannot be read (No such file or directory)",
    )


def test_more_than_is_kept_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours. Sources, lines and bytes are bounded, whatever a report holds."""
    many = "".join(f"SF:{n}.c\nDA:{n + 1},0\nend_of_record\n" for n in range(80))
    names = left(tmp_path, a__info=many, b__info="SF:b.c\nDA:5000000,1\nDA:0,1\nDA:7,1\nend_of_record\n")
    found, note = read_reports(tmp_path, names, "/p")

    assert found is not None
    assert note == ""
    assert (found.file_count, len(found.files)) == (81, book.WORST_FILES)
    assert found.lines == Covered(covered=1, total=81)

    monkeypatch.setattr(book, "MAX_SOURCES", 50)
    assert "a.info: more than 50 sources" in read_reports(tmp_path, names, "/p")[1]
    monkeypatch.setattr(reports, "MAX_BYTES", 100)
    assert "a.info is left out: more than" in read_reports(tmp_path, names, "/p")[1]
    monkeypatch.setattr(book, "MAX_LINES", 5)
    assert "b.info: more than 5 lines of sources" in read_reports(tmp_path, names, "/p")[1]


def test_paths_are_told_from_the_project_and_others_as_they_are(tmp_path: Path) -> None:
    """Ours. The same source has one name, on whichever host it was built."""
    paths = ("/w/p/src/a.c", "src/a.c", "./src/../src/a.c", "../src/a.c", "/usr/include/x.h", "/w/private/b.c")
    text = "".join(f"SF:{path}\nDA:1,0\nend_of_record\n" for path in paths)
    found, _ = read_reports(tmp_path, left(tmp_path, a__info=text), "/w/p")

    assert found is not None
    assert sorted(one.file for one in found.files) == ["/usr/include/x.h", "/w/private/b.c", "src/a.c"]


hits = st.dictionaries(st.integers(1, 60), st.integers(0, 3), min_size=1, max_size=20)


@given(st.dictionaries(st.sampled_from(["a.c", "b/c.c", "d.h"]), st.lists(hits, min_size=1, max_size=3), min_size=1))
def test_tracefile_and_cobertura_of_the_same_lines_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, runs: dict[str, list[dict[int, int]]]
) -> None:
    """Ours. A line that any run ran was run; each counts once."""
    folder = tmp_path_factory.mktemp("same")
    sections = [(name, run) for name, found in runs.items() for run in found]
    lcov = "".join(
        f"SF:{name}\n" + "".join(f"DA:{n},{count}\n" for n, count in run.items()) + "end_of_record\n"
        for name, run in sections
    )
    classes = "".join(
        f'<class filename="{name}"><lines>'
        + "".join(f'<line number="{n}" hits="{count}"/>' for n, count in run.items())
        + "</lines></class>"
        for name, run in sections
    )
    xml = f'<coverage line-rate="0"><packages><package><classes>{classes}</classes></package></packages></coverage>'
    names = left(folder, a__info=lcov, b__xml=xml)
    one, other = (read_reports(folder, [name], "/p")[0] for name in names)
    both = read_reports(folder, names, "/p")[0]
    assert one is not None
    assert other is not None
    assert both is not None
    wanted = sum(len({n for run in found for n in run}) for found in runs.values())
    ran = sum(len({n for run in found for n, count in run.items() if count}) for found in runs.values())

    assert one.lines == other.lines == both.lines == Covered(covered=ran, total=wanted)
    assert one.files == other.files


@given(st.sampled_from(["a.info", "a.xml", "a.gcov", "a.gcov.json.gz"]), st.data())
def test_whatever_a_report_holds_is_read_or_said(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    """Ours. Cut, garbled or random: no error, and never more covered than there is."""
    recorded = {
        "a.info": "lcov-1.16.info",
        "a.xml": "gcovr-8.8.xml",
        "a.gcov": "pump.cpp.gcov",
        "a.gcov.json.gz": "valve.gcov.json.gz",
    }
    whole = bytearray((RECORDED / recorded[name]).read_bytes())
    for at, byte in data.draw(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=6)):
        whole[at] = byte
    folder = tmp_path_factory.mktemp("any")
    (folder / name).write_bytes(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    found, note = read_reports(folder, [name], ROOT)

    assert len(note) < 300
    if found is not None:
        assert 0 <= found.lines.covered <= found.lines.total
        assert found.file_count >= len(found.files) > 0


def test_names_are_kept_as_every_database_and_reader_takes_them(tmp_path: Path) -> None:
    """Ours. A file's name may hold any byte but NUL, and JSON half a letter."""
    told = {"file": "a\ud800\x00\x1b[2J.c", "lines": [{"line_number": 1, "count": 1}], "functions": []}
    names = left(tmp_path, a__gcov__json=json.dumps({"gcc_version": "12", "files": [told]}))
    (tmp_path / "b\udce9.info").write_bytes(b"SF:b\xe9\x01.c\nDA:1,0\nlorem\nend_of_record\n")
    found, note = read_reports(tmp_path, [*names, "b\udce9.info"], "/p")

    assert found is not None
    kept = found.model_dump_json() + note
    assert kept.encode().decode().isprintable()
    assert {one.file for one in found.files} == {"a\ufffd\ufffd\ufffd[2J.c", "b\ufffd\ufffd.c"}


@given(st.binary(max_size=200))
def test_looking_at_how_a_file_begins_is_quick_and_no_error(head: bytes) -> None:
    """Ours. Also of heads that are made to be slow."""
    assert is_lcov(head) in (True, False)
    assert is_cobertura(head) in (True, False)


@pytest.mark.timeout(5)
def test_heads_made_to_be_slow_are_not() -> None:
    """Ours. Comments and empty names by the hundred."""
    assert not is_lcov(b"TN:\r\n" * 800 + b"x")
    assert not is_lcov(b"#\n \n" * 1000)
    assert not is_cobertura(b"<!-- ><!---->" * 300 + b"<a>")
