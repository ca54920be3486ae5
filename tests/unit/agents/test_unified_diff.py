"""What is read out of a diff, and the one sentence for each way in which one can be wrong."""

import pytest

from mcp_server.agents.unified_diff import DiffRefused, parse

ONE = b"--- a/main/x.c\n+++ b/main/x.c\n@@ -1,3 +1,3 @@ int main(void)\n a\n-b\n+B\n c\n"


def test_a_hunk_has_its_lines_places_and_context() -> None:
    """Ours."""
    [file] = parse(ONE)

    [hunk] = file.hunks
    assert (file.path, file.created, file.deleted, file.mode) == ("main/x.c", False, False, None)
    assert (hunk.old_at, hunk.old, hunk.new_at, hunk.new) == (0, (b"a\n", b"b\n", b"c\n"), 0, (b"a\n", b"B\n", b"c\n"))
    assert (hunk.leading, hunk.trailing) == (1, 1)


@pytest.mark.parametrize(
    ("names", "path"),
    [
        (b"--- a/x.c\n+++ b/x.c\n", "x.c"),
        (b"--- x.c\n+++ x.c\n", "x.c"),
        (b"--- a/x.c\t2026-01-01 00:00:00\n+++ b/x.c\t2026-01-02 00:00:00\n", "x.c"),
        (b"--- a/with blank.c\n+++ b/with blank.c\n", "with blank.c"),
        (b'--- "a/\\303\\251\\t.c"\n+++ "b/\\303\\251\\t.c"\n', "é\t.c"),
        (b"--- a/b/x.c\n+++ b/b/x.c\n", "b/x.c"),
    ],
)
def test_names_are_read_as_diff_and_git_write_them(names: bytes, path: str) -> None:
    """GNU diff and git."""
    assert parse(names + b"@@ -1 +1 @@\n-a\n+b\n")[0].path == path


def test_text_around_the_diffs_is_passed_over() -> None:
    """Ours: a model's answer and a mail are diffs, too."""
    mail = (
        b"Subject: fix\n\n--- \nHere it is:\n```diff\n"
        + ONE
        + b"```\nDone.\n"
        + ONE.replace(b"x.c", b"y.c")
        + b"-- \n2.4\n"
    )

    assert [file.path for file in parse(mail)] == ["main/x.c", "main/y.c"]


def test_created_deleted_and_empty_files_are_known_from_gits_headers() -> None:
    """git."""
    diff = (
        b"diff --git a/new.c b/new.c\nnew file mode 100755\nindex 0000000..e69de29\n"
        b"diff --git a/old.c b/old.c\ndeleted file mode 100644\nindex 61780798..0000000\n"
        b"--- a/old.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-b\n"
        b"diff --git a/run.sh b/run.sh\nold mode 100644\nnew mode 100755\n"
    )

    new, old, run = parse(diff)

    assert (new.path, new.created, new.mode, new.hunks) == ("new.c", True, 0o755, [])
    assert (old.path, old.deleted, len(old.hunks)) == ("old.c", True, 1)
    assert (run.path, run.created, run.deleted, run.mode) == ("run.sh", False, False, 0o755)


def test_a_missing_newline_at_the_end_belongs_to_its_side() -> None:
    """GNU diff."""
    [file] = parse(b"--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n")

    assert (file.hunks[0].old, file.hunks[0].new) == ((b"a",), (b"a\n",))


def test_an_empty_context_line_may_have_lost_its_blank() -> None:
    """Ours: mail programs and models drop it."""
    [file] = parse(b"--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n a\n\n-b\n+c\n")

    assert file.hunks[0].old == (b"a\n", b"\n", b"b\n")


def test_a_diff_that_became_crlf_as_a_whole_is_read_as_it_was() -> None:
    """Ours."""
    assert parse(ONE.replace(b"\n", b"\r\n")) == parse(ONE)


HEAD = b"--- a/x.c\n+++ b/x.c\n"


@pytest.mark.parametrize(
    ("diff", "sentence"),
    [
        (b"", "no unified diff was found"),
        (b"just talk\n", "no unified diff was found"),
        (HEAD, "x.c: no hunk"),
        (HEAD + b"@@ -1,2 +1,2 @@\n-a\n+b\n", "x.c, hunk 1: it has not the 2 old and 2 new lines"),
        (HEAD + b"@@ -1 +1 @@\n-a\n+b\n c\n", "x.c, hunk 1: it has more than the 1 old and 1 new lines"),
        (HEAD + b"@@ -1 +1 @@\n-a\n-b\n+c\n", "x.c, hunk 1: it has not the 1 old and 1 new lines"),
        (HEAD + b"@@ -1 +1 @@\n-a\n+b\n@@ -9 +9 @@\n x\n", "x.c, hunk 2: it changes nothing"),
        (b"--- /dev/null\n+++ /dev/null\n@@ -1 +1 @@\n-a\n+b\n", "both /dev/null"),
        (b"--- a/x.c\n+++ b/y.c\n@@ -1 +1 @@\n-a\n+b\n", "renames are not applied"),
        (b"diff --git a/x.c b/x.c\nrename from x.c\nrename to y.c\n", "x.c: renames, copies and binary changes"),
        (b"diff --git a/x b/x\nindex 1..2\nGIT binary patch\nliteral 3\n", "x: renames, copies and binary changes"),
        (b"diff --git a/x b/x\nnew file mode 120000\n", "x: symbolic links and submodules"),
        (b"diff --git a/x b/x\nnew file mode 160000\n", "x: symbolic links and submodules"),
    ],
)
def test_a_diff_that_cannot_be_right_is_refused_in_one_sentence(diff: bytes, sentence: str) -> None:
    """Ours: which file, which hunk, what is wrong."""
    with pytest.raises(DiffRefused) as refused:
        parse(diff)

    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
