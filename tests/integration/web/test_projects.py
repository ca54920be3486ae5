"""Projects over REST: folders, clones from a git that listens on loopback, what is refused, what removal leaves."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from mcp import Client

from mcp_server.demo.place import fix_patch, lay_out, simulated_installation
from mcp_server.git_source import same_place
from mcp_server.orchestrator import Orchestrator
from mcp_server.server import make_server
from mcp_server.store import builds, projects
from tests.support.git_tree import UserTree, begun, git_daemon
from tests.support.small_disk import mounted
from tests.support.web_service import Service, web_service
from tests.support.workers import end_everything, worker_inside
from tests.unit.tools.calls import call

pytestmark = pytest.mark.timeout(60)


@pytest_asyncio.fixture
async def service(home: Path) -> AsyncIterator[Service]:
    async with worker_inside(home), web_service(PATH="/usr/local/bin:/usr/bin:/bin") as service:
        yield service
    end_everything(home)


@pytest.fixture
def origin(tmp_path: Path) -> UserTree:
    return begun(tmp_path / "served" / "lamp", tmp_path / "user")


@pytest.fixture
def git_port(tmp_path: Path, origin: UserTree) -> Iterator[int]:
    """A git daemon that serves the folder `served`."""
    with git_daemon(tmp_path / "served") as port:
        yield port


async def over(service: Service, build: int) -> str:
    async with asyncio.timeout(30):
        return str((await service.orchestrator.wait(build, 30)).build.status)


async def test_a_repository_is_cloned_synced_and_removed(
    service: Service, home: Path, origin: UserTree, git_port: int
) -> None:
    """Issue: pending → active or error with the reason; sync; removal says what it deletes."""
    (home / "config.yaml").write_text(f"security: {{project_hosts: ['127.0.0.1:{git_port}']}}\n")
    url = f"git://127.0.0.1:{git_port}/lamp/.git"
    made = await service.ask("POST", "/api/projects", json={"source": url, "name": "lamp"})
    assert made.status_code == 202, made.text
    answer = made.json()
    assert (answer["project"]["status"], answer["project"]["source"]) == ("pending", url)
    refused = await service.ask("POST", "/api/projects/lamp/build", json={})
    assert (refused.status_code, "pending" in refused.text) == (409, True)
    assert await over(service, answer["build_id"]) == "success"
    project = (await service.ask("GET", "/api/projects/lamp")).json()
    assert (project["status"], project["reason"], bool(project["synced_at"])) == ("active", None, True)
    clone = Path(project["path"])
    assert clone == home / "projects" / "lamp" and (clone / "main/main.c").is_file()

    origin.write("main/new.c")
    sha = origin.commit("more")
    synced = await service.ask("POST", "/api/projects/lamp/sync")
    assert await over(service, synced.json()["build_id"]) == "success"
    assert origin.git("rev-parse", "HEAD", cwd=clone) == sha
    again = await service.ask("POST", "/api/projects", json={"source": url, "name": "lamp"})
    assert await over(service, again.json()["build_id"]) == "success"
    origin.git("commit", "-q", "--allow-empty", "-m", "theirs", cwd=clone)
    origin.commit("ours")
    apart = await service.ask("POST", "/api/projects/lamp/sync", json={})
    assert await over(service, apart.json()["build_id"]) == "failed"
    project = (await service.ask("GET", "/api/projects/lamp")).json()
    assert (project["status"], "fast-forward" in project["reason"]) == ("active", True)

    absent = await service.ask("POST", "/api/projects", json={"source": url.replace("lamp", "no"), "name": "no"})
    assert await over(service, absent.json()["build_id"]) == "failed"
    project = (await service.ask("GET", "/api/projects/no")).json()
    assert project["status"] == "error" and "no such repository" in project["reason"]
    assert {path.name for path in clone.parent.iterdir()} == {"lamp"}

    kept = await service.ask("DELETE", "/api/projects/lamp", json={"delete": True})
    told = (kept.status_code, kept.json()["type"], "no remote-tracking branch has: main." in kept.json()["detail"])
    assert told == (409, "urn:build-orchestrator:unpushed", True), kept.text
    assert (clone / "main/main.c").is_file() and (await service.ask("GET", "/api/projects/lamp")).status_code == 200
    removed = await service.ask("DELETE", "/api/projects/lamp", json={"delete": True, "unpushed": True})
    said = f"project lamp is removed: its folder {clone} is deleted, the records of its builds stay"
    assert (removed.json(), clone.exists()) == ({"removed": said}, False)
    again = await service.ask("POST", f"/api/builds/{apart.json()['build_id']}/retry")
    assert (again.status_code, "lamp" in again.text, "was removed" in again.text) == (409, True, True)
    listed = (await service.ask("GET", "/api/projects")).json()["projects"]
    assert [one["name"] for one in listed] == ["no"]
    assert (await service.ask("GET", f"/api/builds/{answer['build_id']}")).json()["status"] == "success"


@pytest.fixture
def busy(home: Path) -> Iterator[Path]:
    """A folder in a clone that nobody can remove: something is mounted there."""
    clone = home / "projects" / "lamp"
    (clone / "main").mkdir(parents=True)
    yield from mounted(clone / "mnt", "1m")


async def test_what_cannot_be_deleted_is_not_said_to_be(service: Service, busy: Path) -> None:
    """Issue: removal that says what it deletes. It said that the folder is deleted, whatever became of it."""
    store, now = await service.orchestrator.store(), service.orchestrator.clock.now()
    source, clone = "https://git.example/me/lamp", busy.parent
    more: dict[str, Any] = {
        "name": "lamp",
        "source": source,
        "status": "active",
        "target": None,
        "branch": None,
        "now": now,
    }
    await store.write(lambda c: projects.import_project(c, path=str(clone), **more))
    refused = await service.ask("DELETE", "/api/projects/lamp", json={"delete": True})
    assert (refused.status_code, "is no Git repository any more" in refused.text) == (409, True)
    removed = await service.ask("DELETE", "/api/projects/lamp", json={"delete": True, "unpushed": True})
    why = f"its folder {clone} could not be deleted ({busy}: Device or resource busy)"
    assert removed.json()["removed"] == f"project lamp is removed: {why}, it had no builds"
    assert [path.name for path in clone.iterdir()] == ["mnt"]


async def test_a_folder_is_registered_as_it_is(service: Service, origin: UserTree) -> None:
    """Interfaces: a folder, never written to; it keeps the name that it was given, and is nobody's to delete."""
    before = origin.everything()
    made = await service.ask("POST", "/api/projects", json={"source": str(origin.top), "name": "my-lamp"})
    assert made.json()["build_id"] is None and made.json()["project"]["status"] == "active"
    store, now = await service.orchestrator.store(), service.orchestrator.clock.now()
    kept = await store.write(lambda c: builds.ensure_project(c, str(origin.top), "lamp", now))
    assert kept.name == "my-lamp"
    for method, path, body in (
        ("POST", "/api/projects/my-lamp/sync", {}),
        ("DELETE", "/api/projects/my-lamp", {"delete": True}),
    ):
        assert (await service.ask(method, path, json=body)).status_code == 409
    removed = await service.ask("DELETE", "/api/projects/my-lamp")
    assert removed.json()["removed"].endswith(f"its folder {origin.top} stays, it had no builds")
    assert origin.everything() == before


async def test_models_see_and_import_projects(service: Service, origin: UserTree, git_port: int) -> None:
    """Interfaces: the tools `projects` and `project_import`; on this machine loopback may be named."""

    async def opener() -> Orchestrator:
        return service.orchestrator

    url = f"git://127.0.0.1:{git_port}/lamp/.git"
    async with Client(make_server(opener)) as client:
        told = [
            await call(client, "project_import", source=url, name="lamp", branch="main", target="esp32c3"),
            await call(client, "project_import", source=str(origin.top), name="mine"),
            await call(client, "project_import", source=url, name="dark", branch="no"),
            await call(client, "project_import", source="file:///etc"),
            await call(client, "projects"),
            await call(client, "projects", name="mine"),
        ]
    lamp, mine, dark, refused, listed, one = told
    home = service.orchestrator.config.home
    assert lamp == (f"lamp · active · esp32c3 · {home}/projects/lamp · from {url}", False)
    assert mine == one == (f"mine · active · {origin.top}", False)
    assert dark[1] and "error" in dark[0] and "branch no not found" in dark[0]
    assert refused == ("source: file:// is not cloned from: give https, ssh or git, or a folder", True)
    assert listed == ("\n".join((dark[0], lamp[0], mine[0])), False)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("ext::sh -c touch% /tmp/x", "printable ASCII"),
        ("ext::sh", "names a program"),
        ("fd::3", "names a program"),
        ("file:///etc", "file:// is not cloned from"),
        ("--upload-pack=touch", "is no folder"),
        ("-u@h:p", "option"),
        ("https://me:secret@git.example/a/b", "holds a login"),
        ("https://token@git.example/a/b", "holds a login"),
        ("ssh://-oProxyCommand=x/a", "neither a name nor an address"),
        ("ssh://-oa@h/a", "user's name"),
        ("http://git.example/a", "https://"),
        ("https://git.example/a\nb", "printable ASCII"),
        ("https://git.example", "should be like"),
        ("https://127.0.0.1/a/b", " 127.0.0.1 is no public address; security.project_hosts"),
        ("https://127.0.0.1./a/b", "no public address"),
        ("https://LOCALHOST./a/b", "no public address"),
        ("https://2130706433/a/b", "no public address"),
        ("https://0x7f000001/a/b", "no public address"),
        ("https://0177.0.0.1/a/b", "no public address"),
        ("https://127.1/a/b", "no public address"),
        ("https://0/a/b", "no public address"),
        ("https://[::ffff:127.0.0.1]/a/b", "no public address"),
        ("https://[::ffff:a00:1]/a/b", "no public address"),
        ("https://[fe80::1%25eth0]/a/b", "neither a name nor an address"),
        ("https://[64:ff9b::7f00:1]/a/b", "no public address"),
        ("https://github.com@127.0.0.1/a/b", "holds a login"),
        ("https://github.com:443@127.0.0.1/a/b", "holds a login"),
        ("https://github.com\\@127.0.0.1/a/b", "printable ASCII"),
        ("https://127.0.0.1#@github.com/a/b", "should be like"),
        ("ssh://git@127.0.0.1@github.com/a/b", "user's name"),
        ("ssh://git@github.com@127.0.0.1/a/b", "user's name"),
        ("git@0x7f.1:a/b", "no public address"),
        ("https://[::1]/a/b", "no public address"),
        ("git@localhost:a/b", "no public address"),
        ("ssh://git@10.0.0.1/a/b", "no public address"),
        ("git://169.254.169.254/latest", "no public address"),
        ("/no/such/folder", "neither a folder"),
        ("", "at least 1 character"),
    ],
)
async def test_what_git_is_not_given(service: Service, source: str, said: str) -> None:
    """Issue: SSRF through project URLs; `ext::`, `file://`, option-like ones."""
    answer = await service.ask("POST", "/api/projects", json={"source": source, "name": "a"})
    assert (answer.status_code, said in answer.json()["detail"]) == (422, True), answer.text
    assert "secret" not in answer.text
    assert (await service.ask("GET", "/api/projects")).json()["projects"] == []


async def test_names_and_branches_that_cannot_be(service: Service) -> None:
    """Ours. A name becomes a folder."""
    for body in (
        {"target": "\0"},
        {"target": "ESP 32"},
        {"name": "../x"},
        {"name": ".git"},
        {"name": "a/b"},
        {"branch": "-x"},
        {"branch": "a..b"},
    ):
        answer = await service.ask("POST", "/api/projects", json={"source": "https://git.example/a", **body})
        assert answer.status_code == 422, body
        assert answer.json()["argument"] in body


def test_one_repository_by_several_urls() -> None:
    """Ours."""
    urls = ("https://GitHub.com/Me/Lamp.git", "git@github.com:me/lamp.git", "ssh://git@github.com:22/me/lamp/")
    assert {same_place(url) for url in urls} == {"github.com/me/lamp"}
    with contextlib.suppress(ValueError):
        assert same_place("/a/folder") == ""


async def test_a_commit_is_built_beside_what_its_user_has_open(home: Path, tmp_path: Path) -> None:
    """Interfaces: a build of a commit runs in a checkout of its own; what was built is on record."""
    project = lay_out(tmp_path / "greenhouse")
    tree = UserTree(project, tmp_path / "user")
    tree.git("init", "-q", "-b", "main")
    broken = tree.commit("broken")
    (tmp_path / "fix.diff").write_text(fix_patch())
    tree.git("apply", str(tmp_path / "fix.diff"))
    good = tree.commit("mended")
    tree.git("branch", "works")
    tree.git("reset", "-q", "--hard", broken)
    tree.write("main/thermostat.c", "half of a thought\n")
    before = tree.everything()
    path, idf = os.environ["PATH"], str(simulated_installation())
    async with worker_inside(home), web_service(PATH=path, IDF_PATH=idf) as service:
        await service.ask("POST", "/api/projects", json={"source": str(project)})

        async def built(**ask: str) -> dict[str, Any]:
            answer = await service.ask("POST", "/api/projects/greenhouse/build", json={"qemu": False, **ask})
            assert answer.status_code == 202, answer.text
            assert answer.json()["commit_sha"] == ask.get("commit_sha", "")
            await over(service, answer.json()["build_id"])
            return (await service.ask("GET", f"/api/builds/{answer.json()['build_id']}")).json()

        first, second = await built(commit_sha=good[:10]), await built(commit_sha=broken)
        third, fourth = await built(branch="works"), await built(commit_sha="f" * 40)
        wrong = await service.ask("POST", "/api/projects/greenhouse/build", json={"branch": "--upload-pack=x"})
        again = await service.ask("POST", f"/api/builds/{second['id']}/retry", json={})
        await over(service, again.json()["build_id"])
        retried = (await service.ask("GET", f"/api/builds/{again.json()['build_id']}")).json()
    end_everything(home)
    assert (first["status"], first["commit_sha"], first["commit_message"]) == ("success", good, "mended"), first
    assert (second["status"], second["commit_sha"], second["commit_author"]) == ("failed", broken, "User")
    assert (third["status"], third["commit_sha"], third["branch"]) == ("success", good, "works")
    assert fourth["status"] == "failed" and f"commit {'f' * 40} is not known in {project}" in fourth["build_output"]
    assert (wrong.status_code, wrong.json()["argument"]) == (422, "branch")
    assert (retried["status"], retried["commit_sha"]) == ("failed", broken)
    assert tree.everything() == before


def says(word: str, *more: str) -> str:
    """A pipeline file."""
    return "\n".join(("pipeline:", "  name: lamp", "  stages:", f"    - {{name: {word}, command: echo {word}}}", *more))


async def test_what_is_no_firmware_is_built_by_its_own_pipeline_as_that_commit_has_it(
    service: Service, origin: UserTree, git_port: int, home: Path
) -> None:
    """Interfaces: any other project builds by its own `.build-orchestrator.yaml`; by REST and by pushes, too."""
    (home / "config.yaml").write_text(f"security: {{project_hosts: ['127.0.0.1:{git_port}']}}\n")
    before = origin.git("rev-parse", "HEAD")
    origin.write(".build-orchestrator.yaml", says("one"))
    one = origin.commit("one")
    origin.write(".build-orchestrator.yaml", says("two", "    - {name: three, command: pwd, depends_on: [two]}"))
    two = origin.commit("two")
    origin.write(".build-orchestrator.yaml", says("four", "    - {name: out, uses: git.push, with: {branch: x}}"))
    pushes = origin.commit("four")
    source = f"git://127.0.0.1:{git_port}/lamp/.git"
    made = await service.ask("POST", "/api/projects", json={"source": source, "name": "lamp"})
    assert await over(service, made.json()["build_id"]) == "success"

    async def built(path: str = "build", **ask: Any) -> dict[str, Any]:
        answer = await service.ask("POST", f"/api/projects/lamp/{path}", json=ask)
        assert answer.status_code == 202, answer.text
        await over(service, answer.json()["build_id"])
        return (await service.ask("GET", f"/api/builds/{answer.json()['build_id']}")).json()

    def ran(build: dict[str, Any]) -> list[tuple[str, str]]:
        return [(stage["stage"], stage["status"]) for stage in build["stages"]]

    first, second, third = await built(commit_sha=one), await built(commit_sha=two), await built(commit_sha=before)
    fourth = await built(commit_sha=pushes)
    assert (first["status"], first["commit_sha"]) == ("success", one), first["build_output"]
    assert ran(first) == [("checkout", "success"), ("one", "success")]
    assert ran(second) == [("checkout", "success"), ("two", "success"), ("three", "success")]
    assert "/worktrees/project-" in second["build_output"]
    assert (third["status"], third["reason"]) == ("failed", "invalid")
    assert "no ESP-IDF project and has no .build-orchestrator.yaml" in third["build_output"]
    assert fourth["status"] == "failed" and "would do what nobody was asked for" in fourth["build_output"]

    refused = [
        await service.ask("POST", "/api/projects/lamp/build", json=ask) for ask in ({"flash": True}, {"agent": "x"}, {})
    ]
    assert [(one.status_code, one.json().get("argument")) for one in refused] == [
        (422, "flash"),
        (422, "agent"),
        (403, None),
    ]
    origin.write(".build-orchestrator.yaml", says("five"))
    origin.commit("five")
    assert ran(await built("sync", build=True)) == [("sync", "success"), ("five", "success")]
    assert ran(await built()) == [("five", "success")]
    # A build of a commit fetches from the origin that the clone came from, and knows that others asked for it.
    (home / "config.yaml").write_text("security: {project_hosts: []}\n")
    dark = await built(branch="dark")
    assert dark["status"] == "failed" and "no public address" in dark["build_output"], dark["build_output"]
