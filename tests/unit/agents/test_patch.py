"""The patch agent: strict, all or nothing, never outside its folder, and harmless when run again."""

import difflib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_server.agents import patch
from mcp_server.agents.unified_diff import DiffRefused, split_lines

TEN = "".join(f"line {number}\n" for number in range(1, 11))


def diff_of(old: str, new: str, name: str = "x.c", context: int = 3) -> bytes:
    lines = difflib.unified_diff(
        [line.decode() for line in split_lines(old.encode())],
        [line.decode() for line in split_lines(new.encode())],
        f"a/{name}",
        f"b/{name}",
        n=context,
    )
    # difflib says nothing of a missing newline; GNU diff and git do.
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    ).encode()


def summaries(diff: bytes, folder: Path) -> list[str]:
    return [f"{change.path}: {change.summary}" for change in patch.apply(diff, folder)]


def refusal(diff: bytes, folder: Path) -> str:
    """The sentence, after checking that the folder is untouched."""
    before = snapshot(folder)
    with pytest.raises(DiffRefused) as refused:
        patch.apply(diff, folder)
    assert snapshot(folder) == before
    return str(refused.value)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_change_is_applied_and_summed_up(tmp_path: Path) -> None:
    """Ours."""
    (tmp_path / "x.c").write_text(TEN)
    new = TEN.replace("line 4\n", "line four\nand more\n")

    assert summaries(diff_of(TEN, new), tmp_path) == ["x.c: changed, +2 -1"]
    assert (tmp_path / "x.c").read_text() == new


def test_a_change_that_is_there_already_is_left_alone(tmp_path: Path) -> None:
    """Ours: a run that was interrupted is repeated."""
    new = TEN.replace("line 4\n", "line four\n")
    (tmp_path / "x.c").write_text(new)
    os.utime(tmp_path / "x.c", (1, 1))

    assert summaries(diff_of(TEN, new), tmp_path) == ["x.c: already changed"]
    assert (tmp_path / "x.c").stat().st_mtime == 1


def test_a_run_that_ended_between_two_files_is_completed(tmp_path: Path) -> None:
    """Ours: files are renamed into place one after the other, so a crash may leave half of them."""
    diff = (
        diff_of("a\n", "b\n", "one")
        + diff_of("a\n", "b\n", "two")
        + diff_of("", "n\n", "new").replace(b"a/new", b"/dev/null")
    )
    (tmp_path / "one").write_text("b\n")
    (tmp_path / "two").write_text("a\n")

    assert summaries(diff, tmp_path) == ["one: already changed", "two: changed, +1 -1", "new: created, +1 -0"]
    assert summaries(diff, tmp_path) == ["one: already changed", "two: already changed", "new: already created"]
    assert snapshot(tmp_path) == {"one": b"b\n", "two": b"b\n", "new": b"n\n"}


def test_an_insertion_is_not_made_twice(tmp_path: Path) -> None:
    """Ours: the lines around it occur elsewhere, so a search for them alone would put it there."""
    block = "if (x) {\n    y();\n}\n"
    old = block * 3 + TEN + block
    new = block * 3 + TEN.replace("line 10\n", "line 10\nz();\n") + block
    (tmp_path / "x.c").write_text(old)

    patch.apply(diff_of(old, new), tmp_path)
    assert summaries(diff_of(old, new), tmp_path) == ["x.c: already changed"]
    assert (tmp_path / "x.c").read_text() == new


@pytest.mark.parametrize("shift", [-3, 2, 40])
def test_a_hunk_is_found_where_the_lines_moved(tmp_path: Path, shift: int) -> None:
    """Ours: by any number of lines, as long as it fits in one place only."""
    old = "".join(f"top {number}\n" for number in range(5)) + TEN
    new = old.replace("line 5\n", "LINE 5\n").replace("line 9\n", "")
    moved = split_lines(b"more\n" * max(shift, 0) + old.encode())[max(-shift, 0) :]
    (tmp_path / "x.c").write_bytes(b"".join(moved))

    patch.apply(diff_of(old, new), tmp_path)

    assert (tmp_path / "x.c").read_bytes().endswith(b"line 4\nLINE 5\nline 6\nline 7\nline 8\nline 10\n")


def test_a_hunk_that_fits_in_several_other_places_is_refused(tmp_path: Path) -> None:
    """Ours: the nearest may be the wrong one."""
    (tmp_path / "x.c").write_text("a\nb\nc\n" * 3)

    sentence = refusal(b"--- a/x.c\n+++ b/x.c\n@@ -2,3 +2,3 @@\n a\n-b\n+B\n c\n", tmp_path)

    assert sentence == "x.c, hunk 1 (line 2): it fits at lines 1, 4, 7, but not at its own: add context lines"


def test_context_must_match_to_the_byte(tmp_path: Path) -> None:
    """Ours: no fuzz. The sentence shows what is there and what the diff expects."""
    (tmp_path / "x.c").write_text(TEN.replace("line 3\n", "line  3\n"))

    sentence = refusal(diff_of(TEN, TEN.replace("line 4\n", "")), tmp_path)

    assert sentence == "x.c, hunk 1 (line 1): line 3 is 'line  3\\n', the diff expects 'line 3\\n'"


def test_the_sentence_names_the_hunk_that_does_not_fit(tmp_path: Path) -> None:
    """Ours."""
    old = TEN + "middle\n" * 10 + TEN.replace("line", "last")
    new = old.replace("line 2\n", "LINE 2\n").replace("last 9\n", "LAST 9\n")
    (tmp_path / "x.c").write_text(old.replace("last 10\n", ""))

    sentence = refusal(diff_of(old, new), tmp_path)

    assert sentence == "x.c, hunk 2 (line 26): the file ends at line 29, the diff expects 'last 10\\n' after it"


def test_an_insertion_without_context_is_refused(tmp_path: Path) -> None:
    """Ours: nothing would tell whether it was made before."""
    (tmp_path / "x.c").write_text(TEN)

    assert "lacks context lines" in refusal(diff_of(TEN, "new\n" + TEN, context=0).replace(b"-0,0", b"-3,0"), tmp_path)


def test_a_replacement_without_context_is_applied(tmp_path: Path) -> None:
    """Ours: models write such hunks; the line itself says where it belongs."""
    (tmp_path / "x.c").write_text(TEN)
    diff = b"--- a/x.c\n+++ b/x.c\n@@ -4 +4 @@\n-line 4\n+LINE 4\n"

    assert summaries(diff, tmp_path) == ["x.c: changed, +1 -1"]
    assert summaries(diff, tmp_path) == ["x.c: already changed"]


def test_one_misfit_keeps_every_file_as_it_was(tmp_path: Path) -> None:
    """Ours: all or nothing."""
    (tmp_path / "one").write_text("a\n")
    (tmp_path / "two").write_text("something else\n")

    sentence = refusal(diff_of("a\n", "b\n", "one") + diff_of("a\n", "b\n", "two"), tmp_path)

    assert sentence == "two, hunk 1 (line 1): line 1 is 'something else\\n', the diff expects 'a\\n'"


def test_a_write_that_fails_takes_the_others_back(tmp_path: Path) -> None:
    """Ours: a folder lies where the second file is prepared."""
    (tmp_path / "one").write_text("a\n")
    (tmp_path / "two").write_text("a\n")
    (tmp_path / ".two.patching").mkdir()

    sentence = refusal(diff_of("a\n", "b\n", "one") + diff_of("a\n", "b\n", "two"), tmp_path)

    assert sentence.endswith("nothing was changed")


def test_a_rename_that_fails_takes_the_others_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours: also after the first file is in its place, and a file that was deleted is there again, mode included."""
    (tmp_path / "gone").write_text("a\n")
    (tmp_path / "gone").chmod(0o750)
    (tmp_path / "one").write_text("a\n")
    replace = Path.replace

    def fails_on_one(self: Path, target: Path) -> Path:
        if target.name == "one":
            raise OSError(28, "No space left on device", str(target))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fails_on_one)
    diff = b"--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n" + diff_of("a\n", "b\n", "one")

    assert "No space left on device; nothing was changed" in refusal(diff, tmp_path)
    assert (tmp_path / "gone").stat().st_mode & 0o777 == 0o750


def test_files_are_created_and_deleted(tmp_path: Path) -> None:
    """git."""
    (tmp_path / "old.c").write_text("x\n")
    diff = (
        b"--- /dev/null\n+++ b/deep/er/new.c\n@@ -0,0 +1,2 @@\n+a\n+b\n--- a/old.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
    )

    assert summaries(diff, tmp_path) == ["deep/er/new.c: created, +2 -0", "old.c: deleted, +0 -1"]
    assert snapshot(tmp_path) == {"deep/er/new.c": b"a\nb\n"}
    assert summaries(diff, tmp_path) == ["deep/er/new.c: already created", "old.c: already deleted"]


def test_empty_files_and_modes_come_from_gits_headers(tmp_path: Path) -> None:
    """git."""
    (tmp_path / "run.sh").write_text("echo\n")
    (tmp_path / "empty").write_text("")
    diff = (
        b"diff --git a/new b/new\nnew file mode 100755\nindex 0000000..e69de29\n"
        b"diff --git a/run.sh b/run.sh\nold mode 100644\nnew mode 100755\n"
        b"diff --git a/empty b/empty\ndeleted file mode 100644\nindex e69de29..0000000\n"
    )

    assert summaries(diff, tmp_path) == ["new: created, +0 -0", "run.sh: changed, +0 -0", "empty: deleted, +0 -0"]
    assert os.access(tmp_path / "run.sh", os.X_OK)
    assert os.access(tmp_path / "new", os.X_OK)
    assert summaries(diff, tmp_path) == ["new: already created", "run.sh: already changed", "empty: already deleted"]


def test_a_file_keeps_its_mode(tmp_path: Path) -> None:
    """Ours: it is replaced by a new one."""
    (tmp_path / "x.c").write_text("a\n")
    (tmp_path / "x.c").chmod(0o755)

    patch.apply(diff_of("a\n", "b\n"), tmp_path)

    assert (tmp_path / "x.c").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("diff", "sentence"),
    [
        (b"--- a/no.c\n+++ b/no.c\n@@ -1 +1 @@\n-a\n+b\n", "no.c: there is no such file"),
        (b"--- /dev/null\n+++ b/x.c\n@@ -0,0 +1 @@\n+b\n", "x.c: the diff creates it, but it is there"),
        (
            b"--- a/x.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-line 1\n",
            "x.c: the diff deletes it, but it holds something else",
        ),
        (diff_of(TEN, "line 0\n" + TEN) * 2, "x.c: the diff has this file twice"),
        (
            diff_of("a\n", "b\n", "x.c") + diff_of("a\n", "b\n", "./x.c"),
            "line 1 is 'line 1\\n', the diff expects 'a\\n'",
        ),
        (b"--- a/sub\n+++ b/sub\n@@ -1 +1 @@\n-a\n+b\n", "sub: it is not a regular file"),
    ],
)
def test_what_does_not_agree_with_the_folder_is_refused(tmp_path: Path, diff: bytes, sentence: str) -> None:
    """Ours."""
    (tmp_path / "x.c").write_text(TEN)
    (tmp_path / "sub").mkdir()

    assert sentence in refusal(diff, tmp_path)


@pytest.mark.parametrize(
    "path", ["../out", "/etc/out", "sub/../../out", "", "..", ".git/hooks/pre-commit", "sub/.GIT/x"]
)
def test_no_path_leads_out_of_the_folder(tmp_path: Path, path: str) -> None:
    """Ours: a diff comes from a stranger."""
    (tmp_path / "in").mkdir()

    refusal(f"--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+x\n".encode(), tmp_path / "in")

    assert snapshot(tmp_path) == {}


def test_no_symbolic_link_is_followed(tmp_path: Path) -> None:
    """Ours: a link in a source tree may lead anywhere."""
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "x.c").write_text("a\n")
    (inside / "folder").symlink_to(outside)
    (inside / "file.c").symlink_to(outside / "x.c")
    (inside / "dangling.c").symlink_to(outside / "new.c")

    assert "a symbolic link lies on the way" in refusal(diff_of("a\n", "b\n", "folder/x.c"), inside)
    assert "not a regular file" in refusal(diff_of("a\n", "b\n", "file.c"), inside)
    created = b"--- /dev/null\n+++ b/dangling.c\n@@ -0,0 +1 @@\n+x\n"
    assert "not a regular file" in refusal(created, inside)
    assert snapshot(outside) == {"x.c": b"a\n"}


def test_the_folder_itself_may_be_a_symbolic_link(tmp_path: Path) -> None:
    """Ours: /tmp is one on macOS."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real/x.c").write_text("a\n")
    (tmp_path / "link").symlink_to(tmp_path / "real")

    assert summaries(diff_of("a\n", "b\n"), tmp_path / "link") == ["x.c: changed, +1 -1"]


@pytest.mark.parametrize("lost", [False, True])
def test_crlf_is_kept(tmp_path: Path, lost: bool) -> None:
    """Ours: whether the diff has the file's line ends, or lost them on its way through a model or a form."""
    new = TEN.replace("line 4\n", "line four\nand more\n")
    (tmp_path / "x.c").write_bytes(TEN.replace("\n", "\r\n").encode())
    diff = diff_of(TEN, new) if lost else diff_of(TEN.replace("\n", "\r\n"), new.replace("\n", "\r\n"))

    patch.apply(diff, tmp_path)

    assert (tmp_path / "x.c").read_bytes() == new.replace("\n", "\r\n").encode()
    assert summaries(diff, tmp_path) == ["x.c: already changed"]


def test_bytes_that_are_no_text_are_kept(tmp_path: Path) -> None:
    """Ours: Latin-1 comments, form feeds and bare returns are not ends of lines."""
    old = b"caf\xe9\x0c\n\r one line\rstill it\nc\n"
    (tmp_path / "x.c").write_bytes(old)

    patch.apply(b"--- a/x.c\n+++ b/x.c\n@@ -1,3 +1,3 @@\n caf\xe9\x0c\n \r one line\rstill it\n-c\n+d\n", tmp_path)

    assert (tmp_path / "x.c").read_bytes() == old.replace(b"c\n", b"d\n").replace(b"d\nd", b"c\nd")


def test_the_command_prints_what_changed_and_exits_by_it(tmp_path: Path) -> None:
    """Ours: it runs as a job, without build-orchestrator's other modules."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/x.c").write_text("a\n")
    (tmp_path / "fix.patch").write_bytes(diff_of("a\n", "b\n"))
    argv = [sys.executable, "-X", "importtime", "-m", "mcp_server.agents.patch", str(tmp_path / "fix.patch")]

    good = subprocess.run([*argv, str(tmp_path / "in")], capture_output=True, text=True, check=False)
    (tmp_path / "in/x.c").write_text("c\n")
    bad = subprocess.run([*argv, str(tmp_path / "in")], capture_output=True, text=True, check=False)
    usage = subprocess.run(argv[:-1], capture_output=True, text=True, check=False)

    assert (good.returncode, good.stdout) == (0, "x.c: changed, +1 -1\n")
    assert "pydantic" not in good.stderr
    assert (bad.returncode, bad.stdout) == (1, "")
    assert bad.stderr.splitlines()[-1] == "x.c, hunk 1 (line 1): line 1 is 'c\\n', the diff expects 'a\\n'"
    assert (usage.returncode, usage.stderr.splitlines()[-1].startswith("usage: ")) == (1, True)


LINES = st.lists(st.sampled_from(["a", "b", "c", "", "{", "}", "é", "\ta", "a\r"]), max_size=30)
FREE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@FREE
@given(old=LINES, new=LINES, context=st.integers(1, 4), newline=st.tuples(st.booleans(), st.booleans()))
def test_any_diff_of_two_texts_makes_the_second_of_the_first(
    tmp_path: Path, old: list[str], new: list[str], context: int, newline: tuple[bool, bool]
) -> None:
    """Ours: whatever difflib writes, applied where it says."""
    before, after = (
        "\n".join(lines) + ("\n" if lines and end else "") for lines, end in zip((old, new), newline, strict=True)
    )
    (tmp_path / "x.c").write_bytes(before.encode())
    diff = diff_of(before, after, context=context)

    if before != after:
        patch.apply(diff, tmp_path)

    assert (tmp_path / "x.c").read_bytes() == after.encode()


@FREE
@given(data=st.data())
def test_a_diff_of_distinct_lines_applies_wherever_they_moved_and_only_once(
    tmp_path: Path, data: st.DataObject
) -> None:
    """Ours: lines above and below come and go between the diff and its use."""
    old = [f"line {number}\n" for number in range(30)]
    keep = data.draw(st.lists(st.booleans(), min_size=10, max_size=10))
    new = [line for line, kept in zip(old[10:20], keep, strict=True) if kept or line.endswith("0\n")]
    new.insert(data.draw(st.integers(0, len(new))), "inserted\n")
    new = old[:10] + new + old[20:]
    above = data.draw(st.lists(st.just("above\n"), max_size=5))
    below = data.draw(st.lists(st.just("below\n"), max_size=5))
    path, diff = tmp_path / "x.c", diff_of("".join(old), "".join(new))
    path.write_text("".join(above + old[data.draw(st.integers(0, 6)) :] + below))
    wanted = path.read_text().replace("".join(old[7:23]), "".join(new[7:-7]))

    patch.apply(diff, tmp_path)
    assert path.read_text() == wanted
    assert summaries(diff, tmp_path) == ["x.c: already changed"]
    assert path.read_text() == wanted
