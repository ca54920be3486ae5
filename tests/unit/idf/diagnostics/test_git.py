"""Why git failed, from what git 2.39 and OpenSSH 9.2 printed in a clone, a sync and a checkout on loopback."""

import json
from pathlib import Path

import pytest

from mcp_server.idf.diagnostics import Hints, diagnose, is_deterministic, render

LOGS = Path(__file__).parents[3] / "fixtures" / "logs" / "tools"
CODES: dict[str, int] = json.loads((LOGS / "exit_codes.json").read_text())
# log → the first line of the report begins with it, and a word of the hint ("" where there is none)
TOLD: dict[str, tuple[str, str]] = {
    "host-key-unknown": ("ssh error: Host key verification failed.", "accept its key once"),
    "host-key-changed": ("ssh error: Host key for [127.0.0.1]:", "ssh-keygen -R '[127.0.0.1]:"),
    "ssh-key-refused": ("ssh error: git@127.0.0.1: Permission denied (publickey,", "add its public key there"),
    "ssh-no-repository": ("git error: '/home/dev/srv/none.git' does not appear", "check the URL"),
    "ssh-no-host": ("network error: ssh: Could not resolve hostname nosuchhost.invalid", "network"),
    "refused": ("network error: unable to connect to 127.0.0.1: 127.0.0.1[0: 127.0.0.1]: errno=Connection", "network"),
    "http-refused": ("network error: unable to access 'http://127.0.0.1:1/lamp.git/': Failed to connect", "network"),
    "look-up": ("network error: unable to look up nosuchhost.invalid (port 9418)", "network"),
    "daemon-missing": ("git error: remote error: access denied or repository not exported: /none.git", "the URL"),
    "http-missing": ("git error: repository 'http://127.0.0.1:", "private repository"),
    "http-password": ("git error: Authentication failed for 'http://127.0.0.1:", "nobody can type a password"),
    "http-no-prompt": ("git error: could not read Username for 'http://127.0.0.1:", "an ssh URL and a key"),
    "http-forbidden": ("git error: unable to access 'http://127.0.0.1:", "private repository"),
    "http-denied": ("git error: HTTP Basic: Access denied. The provided password or token is incorrect or", "the URL"),
    "branch-missing": ("git error: Remote branch nosuch not found in upstream origin", "push it there"),
    "file-refused": ("git error: transport 'file' not allowed", "only https, http, ssh and git://"),
    "not-public": ("git error: 127.0.0.1 is no public address; security.project_hosts", ""),
    "not-public-ssh": ("git error: 127.0.0.1 is no public address; security.project_hosts", ""),
    "not-public-git": ("git error: 127.0.0.1 is no public address; security.project_hosts", ""),
    "public-no-host": ("network error: nosuchhost.invalid: [Errno -2] Name or service not known", "network"),
    "sync-dirty": (
        "git error: Your local changes to the following files would be overwritten by merge: a.txt",
        "stash",
    ),
    "sync-untracked": ("git error: The following untracked working tree files would be overwritten", "stash"),
    "sync-diverged": ("git error: Not possible to fast-forward", "rebase, merge or reset"),
    "sync-branch-gone": ("git error: couldn't find remote ref refs/heads/feature", "push it there"),
    "locked": ("git error: Unable to create '.git/index.lock': File exists.", "remove the file"),
    "dubious": ("git error: detected dubious ownership in repository", "safe.directory"),
    "checkout-no-commit": ("git error: commit 0123456789012345678901234567890123456789 is not known in", "push it"),
    "checkout-no-branch-origin": ("git error: couldn't find remote ref refs/heads/nosuch", "push it there"),
    "checkout-commit-refused": ("network error: unable to connect to 127.0.0.1:", "network"),
    "submodule-missing": ("git error: remote error: access denied or repository not exported: /none.git", "the URL"),
    "submodule-commit": ("git error: Fetched in submodule path 'lib', but it did not contain 1111", "push it there"),
    "disk-full-fetch": ("disk full error: fatal: write error: No space left on device", ""),
    "disk-full-checkout": ("git error: unable to write file big.bin", "disk may be full"),
}


@pytest.mark.parametrize("name", TOLD)
def test_the_cause_is_told_first_and_with_what_to_do(name: str) -> None:
    """Ours. `Could not read from remote repository` and its like only follow, and are no component's errors."""
    log = f"git-{name}.log"
    lines = render(
        diagnose((LOGS / log).read_bytes(), CODES[log], project="/home/dev/lamp", hints=Hints())
    ).splitlines()
    first, hint = TOLD[name]

    assert lines[0].startswith(first), lines
    told = [line for line in lines if line.startswith("hint: ")]
    assert hint in told[0] if hint else not told, lines


@pytest.mark.parametrize(("name", "again"), [("host-key-unknown", True), ("ssh-key-refused", True), ("refused", False)])
def test_a_refused_key_is_refused_again_and_a_silent_server_may_answer(name: str, again: bool) -> None:
    """Ours."""
    diagnosis = diagnose((LOGS / f"git-{name}.log").read_bytes(), 128, hints=Hints())

    assert is_deterministic(diagnosis) is again


def test_git_s_own_advice_hides_no_error() -> None:
    """Ours. Newer versions print it before; each of its lines begins with `hint:`."""
    log = (
        "hint: Diverging branches can't be fast-forwarded, you need to either:\nhint:\nhint: \tgit merge --no-ff\n"
        "hint:\nhint: or:\nhint:\nhint: \tgit rebase\nfatal: Not possible to fast-forward, aborting.\n"
    )
    diagnosis = diagnose(log, 128, hints=Hints())

    assert [error.message for error in diagnosis.errors] == ["Not possible to fast-forward, aborting."]
    assert "you need to either: git merge --no-ff or: git rebase" in diagnosis.hints[-1]


def test_git_s_last_words_alone_are_told() -> None:
    """Ours. A cut log has nothing else; what the service sees of GitHub over ssh has one line more."""
    words = "fatal: Could not read from remote repository.\n"
    alone, with_cause = (diagnose(text + words, 128, hints=Hints()) for text in ("", "ERROR: Repository not found.\n"))

    assert (alone.errors[0].kind, alone.error_count) == ("git", 1)
    assert [error.message for error in with_cause.errors] == ["Repository not found."]
