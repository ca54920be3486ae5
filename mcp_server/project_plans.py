"""The stages that bring a project here and up to date: git, run as a job, with nothing of a repository's own run.

May import: model, moved, public_net. Never: anything else of ours.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mcp_server.model import Expansion, Plan, StageSpec
from mcp_server.moved import moved
from mcp_server.public_net import around

IMPORT, SYNC, CHECKOUT = "import", "sync", "checkout"
CLONE_S, SYNC_S = 3600.0, 1800.0
BESIDE = -1  # the priority of transfers, which nobody can ask for: below 0 neither limits nor slots are waited for

GIT_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "true",
    "GIT_ALLOW_PROTOCOL": "https:http:ssh:git",
    "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
    "GCM_INTERACTIVE": "never",
}
_G = """set -e
g() { git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c gc.auto=0 -c http.followRedirects=$REDIRECTS "$@"; }
"""
CLONE = (
    _G
    + """url=$1 folder=$2 branch=$3
if [ -d "$folder/.git" ]; then echo "$folder is there already"; exit 0; fi
rm -rf -- "$folder.part"
g clone --depth 1 --recurse-submodules --shallow-submodules ${branch:+--branch "$branch"} -- "$url" "$folder.part" || {
    code=$?; rm -rf -- "$folder.part"; exit $code; }
[ -z "$FOR_OTHERS" ] || git -C "$folder.part" config build-orchestrator.public true
mv -- "$folder.part" "$folder"
git -C "$folder" log -1 --format='%H %s'
"""
)
UPDATE = (
    _G
    + """cd "$1"
branch=$(git symbolic-ref --short -q HEAD) || { echo "fatal: $1 is on no branch" >&2; exit 1; }
g fetch --no-recurse-submodules origin "+refs/heads/$branch:refs/remotes/origin/$branch"
g merge --ff-only "refs/remotes/origin/$branch"
[ ! -e .gitmodules ] || g submodule update --init --recursive --depth 1
git log -1 --format='%H %s'
"""
)
OUT = (
    _G
    + """top=$1 folder=$2 commit=$3 branch=$4 origin=$5 source=$6
if [ -n "$source" ] && [ ! -d "$top/.git" ]; then
    rm -rf -- "$top.part"
    g clone -q --depth 1 --recurse-submodules --shallow-submodules -- "$source" "$top.part" || {
        code=$?; rm -rf -- "$top.part"; exit $code; }
    [ -z "$FOR_OTHERS" ] || git -C "$top.part" config build-orchestrator.public true
    mv -- "$top.part" "$top"
fi
mkdir -p -- "$folder"
cd "$folder"
[ -d .git ] || git init -q
GIT_ALLOW_PROTOCOL=file g fetch -q --no-tags --update-shallow -- "$top" +HEAD:refs/head-there \\
    '+refs/heads/*:refs/there/*' '+refs/remotes/origin/*:refs/origin/*' '+refs/tags/*:refs/tags/*'
url=$(git -C "$top" config --get remote.origin.url || true)
get() { [ -n "$url" ] && g fetch -q --no-recurse-submodules -- "$url" "$@"; }
is() { git rev-parse -q --verify "$1^{commit}"; }
if [ -n "$commit" ]; then
    sha=$(is "$commit" || { get "$commit" 2>/dev/null; is "$commit"; } ||
        { get '+refs/heads/*:refs/origin/*'; is "$commit"; }) || {
        echo "fatal: commit $commit is not known in $top, nor at its origin" >&2; exit 1; }
else
    [ -z "$origin" ] || get "+refs/heads/$branch:refs/origin/$branch" || {
        echo "fatal: branch $branch is not to be had from $url" >&2; exit 1; }
    sha=$({ [ -z "$origin" ] && is "refs/there/$branch"; } ||
        { [ -n "$origin" ] || get "+refs/heads/$branch:refs/origin/$branch"; is "refs/origin/$branch"; } ||
        is "refs/there/$branch") || {
        echo "fatal: branch $branch is neither in $top nor at its origin" >&2; exit 1; }
fi
g checkout -q --force --detach "$sha"
[ ! -e .gitmodules ] || { g submodule -q sync --recursive; g submodule -q update --init --recursive --depth 1; }
g clean -ffdxq -e build -e managed_components
git log -1 --format='%H %s'
"""
)


Reach = Collection[str] | None
"""What git may reach: None, whatever the user may; else public hosts and these, for somebody else asked."""


def clone(url: str, folder: str, branch: str | None, *, parent: str, reach: Reach) -> Plan:
    """Clone `url` into `folder`, by way of a folder beside it, so that a half one is never seen. Runs in `parent`."""
    return Plan(stages=(_git("clone", CLONE, [url, folder, branch or ""], parent, CLONE_S, reach=reach),))


def update(folder: str, *, reach: Reach) -> StageSpec:
    """Bring a clone to what its branch is at its origin, by fast-forward only."""
    stage = _git(SYNC, UPDATE, [folder], folder, SYNC_S, reach=reach)
    return stage.model_copy(update={"directory": f"{folder}/build"})


@dataclass(frozen=True, slots=True)
class Checkout:
    """The checkout `folder` of its own, at a commit or branch of the repository `top`.

    `origin`: the branch is the one that the origin has now, else the one that `top` has. `origin_url`: `top` is a clone
    of ours of that, which another machine makes for itself.
    """

    top: str
    folder: str
    commit: str | None
    branch: str | None
    origin: bool
    reach: Reach
    origin_url: str | None = None

    def stage(self) -> StageSpec:
        """What brings it there."""
        origin = "origin" if self.origin else ""
        arguments = [self.top, self.folder, self.commit or "", self.branch or "", origin, self.origin_url or ""]
        stage = _git(CHECKOUT, OUT, arguments, str(Path(self.folder).parent), SYNC_S, reach=self.reach)
        params = {**stage.params, "checkout": self.folder}
        if self.origin_url:
            params["origin_url"] = self.origin_url
        return stage.model_copy(update={"params": params, "directory": self.folder, "once": True})


def checked_out(plan: Plan, at: Checkout) -> Plan:
    """The plan run in a checkout."""
    stages = [moved(stage, at.top, at.folder) for stage in plan.stages]
    # Each of them: a retry leaves out what passed, and those that come after that.
    stages = [one.model_copy(update={"depends_on": (CHECKOUT, *one.depends_on)}) for one in stages]
    place = plan.workspace and plan.workspace.replace(at.top, at.folder, 1)
    update = {"stages": (at.stage(), *stages), "workspace": place}
    return plan.model_copy(update={**update, "fix": plan.fix and moved(plan.fix, at.top, at.folder)})


def decided_behind(first: StageSpec, project: str, wanted: Expansion) -> Plan:
    """A stage, then what builds the folder `project` as that stage has left it."""
    first = first.model_copy(update={"params": {**first.params, "builds": project}})
    return Plan(stages=(first,), expand=wanted)


def _git(name: str, script: str, arguments: list[str], folder: str, limit_s: float, *, reach: Reach) -> StageSpec:
    environment = {**GIT_ENVIRONMENT, "REDIRECTS": "initial" if reach is None else "false"}
    environment["FOR_OTHERS"] = "" if reach is None else "1"
    argv = ["sh", "-c", script, "sh", *arguments]
    argv = argv if reach is None else around(argv, sorted(reach))
    params = {"argv": argv, "project": folder, "env": environment}
    return StageSpec(name=name, kind="command", params=params, timeout_s=limit_s)
