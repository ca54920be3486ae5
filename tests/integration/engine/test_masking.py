"""What a command with secrets prints, through the real filters on real shells: bytes, codes, time, and no value."""

import base64
import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from mcp_server.engine.stages.masking import masked

LIMIT_S = 20
VALUE = "s3cr3t.value&[(*+?/$x"
KEY = "-----BEGIN KEY-----\nabcd\n  efgh-ijkl  \nxyz\n-----END KEY-----"
TOOLS = "base64 cat chmod cp env false grep head kill ls mkfifo mktemp printf rm sh sleep tail tr true wc"
SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]
EXACT = [kind for kind in ("perl", "python3") if kind == "python3" or shutil.which(kind)]

Run = Callable[..., tuple[int, bytes]]


def programs(folder: Path, shell: str, filters: str) -> Path:
    """A PATH with the usual tools, `shell` as sh, and of all filters only `filters` ("" for none)."""
    folder.mkdir()
    for tool in TOOLS.split():
        folder.joinpath(tool).symlink_to(shutil.which(shell if tool == "sh" else tool) or "/nowhere")
    for each in filters.split():
        real = {"python3": os.path.realpath(sys.executable)}.get(each) or shutil.which(each)
        if each == "awk" and shell == "busybox":
            real = shutil.which("busybox")
        folder.joinpath(each).symlink_to(real or "/nowhere")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a script of sh as a masked command; its code and all that is in its log once it has ended."""

    def run(script: str, kind: str = EXACT[0], shell: str = SHELLS[0], **variables: str) -> tuple[int, bytes]:
        place = tmp_path / f"{shell}-{kind}"
        path = place if place.exists() else programs(place, shell, kind)
        values = {"TOKEN": VALUE} | variables
        log = tmp_path / "log"
        with log.open("wb") as output:
            ended = subprocess.run(
                [str(path / "sh"), *masked(["sh", "-c", script], ["TOKEN", "KEY", "PIN"])[1:]],
                env={"PATH": str(path), "TMPDIR": str(tmp_path)} | values,
                cwd=tmp_path,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=LIMIT_S,
                check=False,
            )
        return ended.returncode, log.read_bytes()

    return run


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("kind", [*EXACT, "awk"])
@pytest.mark.parametrize(
    ("end", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
)
def test_values_are_masked_and_the_code_is_the_commands(run: Run, shell: str, kind: str, end: str, code: int) -> None:
    """Ours. Both streams, by each filter in each shell; a value in two writes; no word of the shell's own."""
    script = f"""
        printf 'a %s b %s\\n' "$TOKEN" "$TOKEN"
        printf '%s\\n' "$TOKEN" >&2
        printf s3cr3t.va; sleep .05; printf 'lue&[(*+?/$x\\n'
        {end}"""

    assert run(script, kind, shell) == (code, b"a *** b ***\n***\n***\n")


@pytest.mark.parametrize("kind", EXACT)
def test_every_other_byte_is_unchanged(run: Run, tmp_path: Path, kind: str) -> None:
    """Ours. NULs, all bytes, and a megabyte of chance, without a newline at its end."""
    data = bytes(range(256)) + b"\0\0\n\0before\0after\r\n" + random.Random(1).randbytes(1_000_000)
    (tmp_path / "data").write_bytes(data)
    code, log = run("cat data", kind)

    assert (code, hashlib.sha256(log).hexdigest()) == (0, hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("kind", EXACT)
def test_a_value_is_found_wherever_a_piece_of_output_ends(run: Run, tmp_path: Path, kind: str) -> None:
    """Ours. Values across the edges of what is read at once, and beginnings of a value that are none."""
    text = (VALUE[:-1] + "!" + VALUE + "\n") * 9_000
    (tmp_path / "data").write_text(text)

    assert run("cat data", kind)[1].decode() == text.replace(VALUE, "***")


@pytest.mark.parametrize("kind", EXACT)
def test_encoded_values_are_masked(run: Run, kind: str) -> None:
    """Ours. base64 in its three places and wrapped, percent-encoded; what is left tells at most a letter's few bits."""
    value = "p/ä ss+w~rd?" + "q7" * 40
    raw = value.encode()
    forms = [quote(value, safe=""), quote_plus(value), quote(value), quote(value, safe="").lower()]
    forms += [base64.b64encode(raw).decode().rstrip("="), base64.urlsafe_b64encode(raw).decode().rstrip("=")]
    log = run("printf '%s\\n' \"$FORMS\"", kind, TOKEN=value, FORMS="\n".join(forms))[1]
    assert log == b"***\n" * len(forms)

    for before in ("", "u:", "user:", "x"):
        for after in ("", "\n", ";;"):
            text = base64.b64encode(f"{before}{value}{after}".encode()).decode()
            log = run("printf '%s\\n' \"$TEXT\"", kind, TOKEN=value, TEXT=text)[1]
            assert b"***" in log
            assert len(log) <= 3 + 1 + 4 * (len(before) + len(after) + 4) // 3, (before, after, log)

    wrapped = run('printf %s "$TOKEN" | base64; printf %s "$TOKEN" | base64 -w 64', kind, TOKEN=value)[1]
    assert set(wrapped.split()) <= {b"***", *(base64.b64encode(raw)[at:][:99] for at in (114, 128))}


@pytest.mark.parametrize("kind", [*EXACT, "awk"])
def test_each_line_of_a_value_is_masked_and_short_ones_are_left(run: Run, kind: str) -> None:
    """docs/secrets.md. Four letters are enough; the frame of a key is no secret; letters are counted, not bytes."""
    script = "printf '%s\\n' 'x efgh-ijkl x' abcd/xyz 'pin 123' 'ää äää'"
    code, log = run(script, kind, KEY=KEY, PIN="123")

    assert (code, log.decode()) == (0, "x *** x\n***/xyz\npin 123\nää äää\n")


@pytest.mark.parametrize("kind", EXACT)
def test_a_whole_key_is_one_mask(run: Run, kind: str) -> None:
    """Ours."""
    assert run("printf '<%s>' \"$KEY\"", kind, KEY=KEY)[1] == b"<***>"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("kind", EXACT)
def test_a_background_process_delays_nothing_and_is_still_masked(
    run: Run, tmp_path: Path, shell: str, kind: str
) -> None:
    """Ours. The command's end is the end; what it left goes on printing through the filter."""
    began = time.monotonic()
    script = """{ while [ ! -e go ]; do sleep .05; done; printf "late $TOKEN"; } & echo hi; printf s3cr"""
    assert run(script, kind, shell) == (0, b"hi\ns3cr")
    assert time.monotonic() - began < 5

    (tmp_path / "go").touch()
    assert until(lambda: (tmp_path / "log").read_bytes() == b"hi\ns3crlate ***")


def test_awk_waits_one_second_for_a_background_process(run: Run) -> None:
    """Ours. It cannot tell what the command printed from what comes later."""
    began = time.monotonic()
    assert run("sleep 6 & echo hi", "awk") == (0, b"hi\n")
    assert time.monotonic() - began < 4


@pytest.mark.parametrize("kind", EXACT)
def test_what_is_kept_back_is_shown_when_nothing_more_comes(run: Run, tmp_path: Path, kind: str) -> None:
    """Ours. A prompt that ends like a value begins is seen; the rest of a value that does come is masked."""
    script = "printf 'user s3cr'; until grep -q cr log; do sleep .05; done; printf '3t.value&[(*+?/$x.'"

    assert run(script, kind) == (0, b"user s3cr***.")


@pytest.mark.parametrize("kind", EXACT)
def test_a_line_of_64_mb_takes_seconds_and_little_memory(run: Run, kind: str) -> None:
    """Ours. The filter's memory does not grow with a line."""
    began = time.monotonic()
    script = """
        head -c 64000000 /dev/zero | tr '\\0' s
        for each in /proc/[0-9]*; do
            grep -aq s3cr3t-only-for-the-memory "$each/environ" 2>/dev/null && grep VmHWM "$each/status" >&2
        done; true"""
    code, log = run(script, kind, MARK="s3cr3t-only-for-the-memory")
    peaks = [int(line.split()[1]) for line in log[64_000_000:].splitlines() if line.startswith(b"VmHWM")]

    assert (code, log[:64_000_000].count(b"s")) == (0, 64_000_000)
    assert max(peaks) < 60_000  # KiB
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("kind", [*EXACT, "awk"])
def test_no_command_line_holds_a_value(run: Run, kind: str) -> None:
    """Ours. Not in any form, while the filter runs; the command itself looks at all of them."""
    script = (
        'sleep .2; cat /proc/[0-9]*/cmdline >seen 2>/dev/null; grep -ac TOKEN seen; grep -acF "$TOKEN" seen; printf x'
    )
    log = run(script, kind)[1].split()

    assert log[0] != b"0"
    assert log[1:] == [b"0", b"x"]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_has_its_signals_and_its_input_and_no_other_descriptor(run: Run, shell: str) -> None:
    """Ours. A shell that starts it by `&` would leave SIGINT ignored, which nothing in the command can undo."""
    script = "grep SigIgn /proc/self/status; cat; for n in 3 4 5 6 7 8 9; do [ ! -e /proc/$$/fd/$n ] || echo $n; done"
    log = run(script, shell=shell)[1].split()

    assert int(log[1], 16) & (1 << 1 | 1 << 2 | 1 << 12 | 1 << 14) == 0  # INT, QUIT, PIPE, TERM
    assert log[2:] == []


@pytest.mark.parametrize("shell", SHELLS)
def test_a_signal_to_the_group_leaves_last_words_and_code_to_the_command(run: Run, tmp_path: Path, shell: str) -> None:
    """Ours. `kill 0` is a usual way to end one's children."""
    path = programs(tmp_path / "group", shell, EXACT[0])
    argv = masked(["sh", "-c", "trap 'echo \"bye $TOKEN\"; exit 7' TERM; kill 0; exit 8"], ["TOKEN"])
    ended = subprocess.run(
        [str(path / "sh"), *argv[1:]],
        env={"PATH": str(path), "TOKEN": VALUE},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        start_new_session=True,
        timeout=LIMIT_S,
        check=False,
    )

    assert (ended.returncode, ended.stdout) == (7, b"bye ***\n")


@pytest.mark.parametrize("kind", EXACT)
def test_a_killed_filter_does_not_hang_the_command(run: Run, kind: str) -> None:
    """Ours. Its writes end it, as when a reader of its pipe goes away."""
    script = """
        for each in /proc/[0-9]*; do
            [ "${each#/proc/}" != $$ ] && [ "${each#/proc/}" != $PPID ] &&
                grep -aq -- 'only-this-test' "$each/environ" 2>/dev/null &&
                grep -aq 'setsid' "$each/cmdline" && kill -KILL "${each#/proc/}"
        done
        while echo x; do :; done"""

    assert run(script, kind, MARK="only-this-test")[0] == 141


@pytest.mark.parametrize("shell", SHELLS)
def test_without_a_place_for_the_fifo_nothing_is_run(run: Run, tmp_path: Path, shell: str) -> None:
    """Ours."""
    code, log = run("echo ran >ran", shell=shell, TMPDIR="/nowhere/at/all")

    assert code == 126
    assert b"build-orchestrator: no folder can be made in /nowhere/at/all" in log
    assert not (tmp_path / "ran").exists()


def test_without_a_filter_nothing_is_run(run: Run, tmp_path: Path) -> None:
    """Ours. Better no build than a value in a log."""
    code, log = run("echo ran >ran", "")

    assert (code, log.count(b"neither perl nor python3 nor awk")) == (126, 1)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_no_folder_is_left(run: Run, tmp_path: Path, shell: str) -> None:
    """Ours. The FIFO's folder is gone before the command begins."""
    (tmp_path / "t").mkdir()

    assert run("ls -A t", shell=shell, TMPDIR=str(tmp_path / "t")) == (0, b"")


def until(holds: Callable[[], bool]) -> bool:
    """Whether it holds within some seconds."""
    end = time.monotonic() + 10
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)
    return holds()
