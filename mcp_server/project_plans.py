"""The stages that bring a project here and up to date: git, run as a job, with nothing of a repository's own run.

May import: model. Never: anything else of ours.
"""

from mcp_server.model import Plan, StageSpec

IMPORT, SYNC, CHECKOUT = "import", "sync", "checkout"
CLONE_S, SYNC_S = 3600.0, 1800.0

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


def clone(url: str, folder: str, branch: str | None, *, parent: str, redirects: bool) -> Plan:
    """Clone `url` into `folder`, by way of a folder beside it, so that a half one is never seen. Runs in `parent`."""
    return Plan(stages=(_git("clone", CLONE, [url, folder, branch or ""], parent, CLONE_S, redirects=redirects),))


def update(folder: str, *, redirects: bool) -> StageSpec:
    """Bring a clone to what its branch is at its origin, by fast-forward only."""
    stage = _git(SYNC, UPDATE, [folder], folder, SYNC_S, redirects=redirects)
    return stage.model_copy(update={"directory": f"{folder}/build"})


def _git(name: str, script: str, arguments: list[str], folder: str, limit_s: float, *, redirects: bool) -> StageSpec:
    environment = {**GIT_ENVIRONMENT, "REDIRECTS": "initial" if redirects else "false"}
    params = {"argv": ["sh", "-c", script, "sh", *arguments], "project": folder, "env": environment}
    return StageSpec(name=name, kind="command", params=params, timeout_s=limit_s)
