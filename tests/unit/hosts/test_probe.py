"""What a host says of itself, read without one: facts, other people's builds, and the preflight's sentences."""

import pytest

from mcp_server.hosts.probe import OtherProcess, Said, builder, facts, other_builds, parse, warnings

FINE = """time 1795239414652998550
system Linux 6.1.0 x86_64
user 1000 ann
cpus 8
load 0.50 1.25 2.00
memory 8000000000
jobs 50000000000 100000000000
jobs_mount ext4 rw,relatime
end"""


def said(*lines: str) -> Said:
    return parse([*FINE.splitlines(), *lines])


def test_facts_are_read() -> None:
    """Ours."""
    found = facts(said("job s-1-build-1-1 77", "work 5 6", "work_state usable 0", "unknown x"), "/w", 0.25, 0.01)
    assert (found.system, found.cpus, found.load) == ("Linux 6.1.0 x86_64", 8, (0.5, 1.25, 2.0))
    assert (found.memory_free, found.disk_free, found.disk_total) == (8_000_000_000, 50_000_000_000, 100_000_000_000)
    assert (found.work_free, found.running_jobs, found.clock_off_s) == (5, ("s-1-build-1-1",), 0.25)


def test_what_is_not_said_is_unknown() -> None:
    """Ours: macOS and a container without /proc."""
    found = facts(parse(["time 0", "system Darwin 23.0 arm64", "user 501 ann", "end"]), None, 0, 0)
    assert (found.load, found.memory_free, found.disk_free, found.work_free, found.cpus) == (None, None, None, None, 0)
    assert found.warnings == ()


def test_a_host_that_lacks_nothing_has_no_warning() -> None:
    """Ours."""
    assert warnings(said("kills no", "linger no"), None, 4.9) == []


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("missing awk", "awk is missing: no job can run"),
        ("missing rsync", "install rsync"),
        ("missing bash", "install bash"),
        ("missing flock", "not kept apart; install util-linux"),
        ("missing fallocate", "long logs are not cut"),
        ("kills yes", "run `loginctl enable-linger ann` there once"),
        ("jobs_mount nfs4 rw", "network file system (nfs4): set `jobs_dir` to a local disk"),
        ("jobs_mount cifs rw", "network file system (cifs)"),
        ("jobs_mount fuse.sshfs rw", "network file system (fuse.sshfs)"),
        ("jobs_mount ext4 rw,noexec", "mounted noexec"),
        ("jobs 900000000 1000000000", "858 of 953 MiB are free"),
        ("jobs 2000000000 100000000000", "nearly full"),
        ("jobs_denied", "ann may not write to the jobs' folder"),
        ("jobs_strangers /j/x", "/j/x belongs to another user"),
        ("work_state absent", "workdir /w does not exist"),
        ("work_state file", "workdir /w is no folder"),
        ("work_state denied bob", "workdir /w belongs to bob and ann may not write to it"),
        ("work_state usable 1", "workdir /w belongs to another user than ann"),
        ("work_mount tmpfs rw,noexec", "workdir /w is mounted noexec"),
    ],
)
def test_every_trouble_is_one_sentence_with_what_mends_it(line: str, sentence: str) -> None:
    """Issue: preflight."""
    found = warnings(said(line), "/w", 0)
    assert len(found) == 1
    assert sentence in found[0]


def test_setsid_or_perl_is_enough() -> None:
    """Ours."""
    assert warnings(said("missing setsid"), None, 0) == warnings(said("missing perl"), None, 0) == []
    assert "no job can be detached" in warnings(said("missing setsid", "missing perl"), None, 0)[0]


def test_lingering_mends_the_logout() -> None:
    """Ours: and root's jobs are never ended."""
    assert warnings(said("kills yes", "linger yes"), None, 0) == []
    assert warnings(said("kills yes", "user 0 root"), None, 0) == []


@pytest.mark.parametrize(("off_s", "words"), [(7.2, "7 s ahead of ours"), (-90, "90 s behind ours")])
def test_a_clock_that_is_off_is_said(off_s: float, words: str) -> None:
    """Issue."""
    assert words in warnings(said(), None, off_s)[0]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("ninja -C build", "ninja"),
        ("/usr/bin/make -j8", "make"),
        ("/opt/x/xtensa-esp32-elf-gcc -c a.c", "gcc"),
        ("/usr/lib/gcc/x86_64-linux-gnu/12/cc1plus a.cpp", "cc1plus"),
        ("python3 /home/a/poky/bitbake/bin/bitbake-server decafbad", "bitbake"),
        ("python3 /opt/idf/tools/idf.py build", "idf.py"),
        ("python3 -m pytest -q", "pytest"),
        ("python3 build.py all", "build.py"),
        ("java -Xmx1g /opt/gradle/gradle-launcher.jar", "gradle"),
        ("python3 -m http.server", None),
        ("vim make.c", None),
        ("", None),
    ],
)
def test_a_builder_is_known_by_its_command_line(line: str, name: str | None) -> None:
    """Issue: bitbake, build.py, pytest, ninja, make, cmake, idf.py, compilers, cargo."""
    assert builder(line.split()) == name


def test_other_builds_are_counted_with_their_users() -> None:
    """Issue. A process of our jobs' sessions is not another's."""
    lines = ["job s-1 50", "owner 1000 ann", "owner 1001 bob"]
    lines += ["process 51 50 1000 ninja", "process 60 60 1001 make -j4", "process 61 60 1001 make -C x"]
    lines += ["process 70 70 1000 make", "process 71 70 1002 cargo build", "process 72"]
    assert other_builds(said(*lines)) == (
        OtherProcess("make", 3, ("ann", "bob")),
        OtherProcess("cargo", 1, ("1002",)),
    )
