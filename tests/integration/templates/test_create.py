"""Projects made by the real copier and the real git: what comes out, and what is refused without a trace."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from mcp_server.config import Defaults
from mcp_server.errors import BadInput
from mcp_server.idf.project import inspect_project
from mcp_server.pipelines.spec import load
from mcp_server.templates import answers_of, create, listing
from mcp_server.templates.program import Bounds
from tests.integration.templates.conftest import Write, git, repository
from tests.support.extras import need

need("copier")
pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "projects"
    folder.mkdir()
    return folder / "made"


def left(place: Path) -> list[str]:
    return sorted(path.name for path in place.parent.iterdir())


async def refused(
    template: object, place: Path, why: str, variables: Mapping[str, str] | None = None, *, trusted: bool = False
) -> str:
    """The sentence of a refusal, which leaves nothing."""
    async with asyncio.timeout(20):
        with pytest.raises(BadInput, match=why) as refusal:
            await create(str(template), place, variables or {}, trusted=trusted)
    assert left(place) == []
    assert "Traceback" not in str(refusal.value)
    return str(refusal.value)


async def test_an_app_is_a_project_that_idf_stages_take(place: Path) -> None:
    """Issue."""
    made = await create("esp-idf-app", place, {"name": "blinker", "target": "esp32c3"})

    found = inspect_project(place)
    assert (found.name, found.target, found.certain) == ("blinker", "esp32c3", True)
    assert "blinker: started" in (place / "main" / "app_main.c").read_text()
    assert {".woodpecker.yaml", ".gitignore", "README.md"} <= {path.name for path in place.iterdir()}
    assert left(place) == ["made"]
    assert (made.folder, made.template, made.commit) == (place, "esp-idf-app", "")


async def test_a_component_comes_with_an_application_that_tries_it(place: Path) -> None:
    """Issue."""
    await create("esp-idf-component", place, {"name": "rounding", "description": 'says "hi": {x}'})

    assert inspect_project(place / "test_app").name == "rounding_test"
    assert (place / "rounding" / "include" / "rounding.h").is_file()
    assert 'description: "says \\"hi\\": {x}"' in (place / "rounding" / "idf_component.yml").read_text()
    pipeline = load((place / ".build-orchestrator.yaml").read_bytes(), defaults=Defaults())
    assert [stage.uses for stage in pipeline.stages] == ["idf.build", "idf.run"]


async def test_a_page_has_a_build_that_finds_what_is_wrong_with_it(place: Path) -> None:
    """Issue. The check is run as the pipeline would run it; text with signs of HTML stays text."""
    await create("web-page", place, {"name": "soon", "title": "R&D <soon>", "language": "de"})
    pipeline = load((place / ".build-orchestrator.yaml").read_bytes(), defaults=Defaults())
    page = (place / "index.html").read_text()
    command = pipeline.stages[0].command
    assert command

    def check() -> tuple[int, str]:
        words = [sys.executable if word == "python3" else word for word in command.split()]
        done = subprocess.run(words, cwd=place, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    assert "<h1>R&amp;D &lt;soon&gt;</h1>" in page
    assert check() == (0, "1 page(s), no mistake\n")
    for broken, why in (
        (page.replace("</main>", ""), "error: </body> before <main> of line 10 is closed"),
        (page.replace("style.css", "styles.css"), "7:3: error: no file styles.css"),
        (page.replace("<p>", '<p id="a"></p><p id="a">'), "error: id 'a' is used twice"),
        (page.replace(' lang="de"', ""), "error: <html> without lang"),
        (page.replace("<p>", '<a href="#x">y</a><p>'), "error: no element has the id 'x'"),
    ):
        (place / "index.html").write_text(broken)
        code, said = check()
        assert code == 1
        assert why in said


async def test_what_is_listed_tells_what_each_template_asks() -> None:
    """Ours."""
    found = {template.name: template for template in listing()}

    assert list(found) == ["esp-idf-app", "esp-idf-component", "web-page"]
    assert [question.name for question in found["esp-idf-app"].questions if question.required] == ["name"]
    assert "esp32c3" in found["esp-idf-app"].questions[1].choices
    assert all(
        template.summary and all(question.help for question in template.questions) for template in found.values()
    )


@pytest.mark.parametrize(
    ("template", "variables", "why"),
    [
        ("esp-idf-app", {}, r"^variables: name is missing; esp-idf-app takes name \(required\), target, description"),
        ("esp-idf-app", {"nam": "x"}, r"name is missing; no variable 'nam'; did you mean 'name'\?"),
        ("esp-idf-app", {"name": "../../x"}, r"^variables: name: should begin with a letter"),
        ("esp-idf-app", {"name": "x", "target": "esp33"}, r"^variables: target: 'esp33' is not in"),
        ("esp-idf-app", {"name": "x" * 20_000}, "at most 10000 characters"),
        ("web-page", {"name": "a\0b"}, "name holds a zero byte"),
        (
            "esp-idf-ap",
            {"name": "x"},
            "no template 'esp-idf-ap'; built in are esp-idf-app, esp-idf-component, web-page",
        ),
        ("", {}, "should be a built-in template"),
        ("--upload-pack=touch x", {}, "begins with '-'"),
        ("ext::sh -c touch% /tmp/x", {}, "Git helper"),
        ("http://git.example/x.git", {}, "http: is not used"),
        ("git://git.example/x.git", {}, "git: is not used"),
        ("file:///tmp/x", {}, "file:// is for trusted"),
        ("https://me:hunter2@git.example/x.git", {}, "user or password"),
        ("https://git.example/x.git#--upload-pack=x", {}, "a branch or a tag"),
        ("ssh://-oProxyCommand=x/y", {}, "names no host"),
        ("./here", {}, "absolute path"),
        ("/nonexistent/template", {}, "no folder"),
    ],
)
async def test_bad_input_is_one_sentence(template: str, variables: dict[str, str], why: str, place: Path) -> None:
    """Issue. All that is missing or unknown at once."""
    said = await refused(template, place, why, variables)

    assert "hunter2" not in said


@pytest.mark.parametrize(
    "copier",
    [
        "_tasks: ['touch {there}']",
        "_migrations: [{{version: v1, before: ['touch {there}']}}]",
        "_jinja_extensions: [os.system]",
        "_external_data: {{x: /etc/passwd}}",
    ],
)
async def test_a_template_that_runs_code_needs_trust(copier: str, write: Write, place: Path, tmp_path: Path) -> None:
    """Issue."""
    there = tmp_path / "there"
    await refused(write(copier.format(there=there)), place, r"would run code .*_\w+.*trusted=true")

    assert not there.exists()


async def test_a_trusted_template_runs_its_tasks(write: Write, place: Path, tmp_path: Path) -> None:
    """Issue."""
    there = tmp_path / "there"
    await create(str(write(f"_tasks: ['touch {there}']")), place, {}, trusted=True)

    assert there.exists()


async def test_a_task_that_fails_leaves_nothing(write: Write, place: Path) -> None:
    """Issue: roll back what a failed creation left."""
    await refused(write("_tasks: ['touch b; exit 3']"), place, "cannot be rendered", trusted=True)


@pytest.mark.parametrize("value", ["../../../escaped", "/tmp/escaped-by-a-template", "x/../../../../escaped"])
async def test_a_name_from_a_variable_leads_nowhere_else(value: str, write: Write, place: Path, tmp_path: Path) -> None:
    """Issue: traversal by file names."""
    template = write("x: {type: str}", {"{{ x }}.txt.jinja": "out"})
    await refused(template, place, "^template: ", {"x": value})

    assert not list(tmp_path.rglob("escaped*"))
    assert not Path("/tmp/escaped-by-a-template.txt").exists()


@pytest.mark.parametrize("path", ["../..", "/etc", "~/x"])
async def test_a_subdirectory_outside_is_refused(path: str, write: Write, place: Path) -> None:
    """Ours."""
    await refused(write(f"_subdirectory: {path}"), place, "_subdirectory should be a plain path")


async def test_links_that_lead_out_of_a_template_are_refused(write: Write, place: Path, tmp_path: Path) -> None:
    """Issue: traversal by links. Else a template could read a key into a project that is pushed later."""
    (tmp_path / "key").write_text("hunter2")
    template = write("x: 1")
    link = template / "innocent.txt"
    for target in (str(tmp_path / "key"), "../key", "../../../../../../etc/passwd"):
        link.symlink_to(target)
        await refused(template, place, "innocent.txt leads out")
        link.unlink()
    (template / "sub").symlink_to("..")
    await refused(template, place, "sub leads out")


async def test_a_link_inside_is_a_link_still(write: Write, place: Path) -> None:
    """Ours."""
    template = write("_preserve_symlinks: true")
    (template / "b.txt").symlink_to("a.txt")
    await create(str(template), place, {})

    assert (place / "b.txt").readlink() == Path("a.txt")


async def test_a_link_made_from_a_variable_is_refused(write: Write, place: Path) -> None:
    """Ours. Its name is harmless in the template."""
    template = write("_preserve_symlinks: true\nx: {type: str}")
    (template / "l.jinja").symlink_to("{{ x }}")
    (template / "{{ x }}").write_text("in")
    await refused(template, place, "is forbidden|leads out", {"x": "/etc/passwd"})


async def test_a_repository_is_not_a_templates_to_make(write: Write, place: Path) -> None:
    """Ours. Its settings would run programs at our first commit."""
    template = write(
        "_exclude: []\nx: {type: str, default: git}", {".{{ x }}/config.jinja": "[core]\nfsmonitor = touch x"}
    )

    await refused(template, place, "a repository is not a template's to make")


async def test_secrets_are_not_asked_for(write: Write, place: Path) -> None:
    """Issue. The answer would be in the project."""
    await refused(write("token: {type: str, secret: true, default: ''}"), place, "asks for secrets \\(token\\)")
    await refused(write("_secret_questions: [token]\ntoken: x"), place, "asks for secrets \\(token\\)")


@pytest.mark.parametrize(
    "text", ["{{ x", "{% for %}", "{{ 1 / 0 }}", "{{ ().__class__.__mro__ }}", "{{ 'a' * 9999999999 }}"]
)
async def test_a_text_that_cannot_be_rendered_is_one_sentence(text: str, write: Write, place: Path) -> None:
    """Ours. Also what would take all memory, or reach for Python behind Jinja."""
    await refused(write("x: 1", {"a.txt.jinja": text}), place, "^template: .*cannot be rendered: .")


async def test_a_project_that_is_too_large_is_refused(write: Write, place: Path) -> None:
    """Ours. In files, in bytes, and in the template already."""
    small = Bounds(files=20, size=10_000)
    for files, why in (
        ({f"{number}.txt": "" for number in range(30)}, "larger than 20 files"),
        ({"a.txt": "a" * 20_000}, "larger than"),
        ({"a.txt.jinja": "{{ 'a' * 20000 }}"}, "larger than 20 files or 0.01 MB"),
    ):
        template = write("x: 1", files)
        with pytest.raises(BadInput, match=why):
            await create(str(template), place, {}, bounds=small)
        shutil.rmtree(template)
    assert left(place) == []


@pytest.mark.parametrize(
    ("copier", "why"),
    [
        ("a: [", r"no plain YAML \(line"),
        ("- a", "should be a mapping"),
        ("a: !include b.yml", "!include"),
        ("\0", "YAML"),
    ],
)
async def test_a_copier_file_that_is_none_is_told(copier: str, why: str, write: Write, place: Path) -> None:
    """Ours."""
    await refused(write(copier), place, why)


async def test_a_folder_without_a_copier_file_is_no_template(tmp_path: Path, place: Path) -> None:
    """Ours."""
    (tmp_path / "empty").mkdir()
    await refused(tmp_path / "empty", place, "no copier.yml")


async def test_the_place_must_be_free(place: Path, tmp_path: Path) -> None:
    """Issue. An empty folder is; nothing that is there is ever touched."""
    place.mkdir()
    await create("web-page", place, {"name": "a"})
    before = (place / "index.html").stat()
    for folder, why in (
        (place, "not empty"),
        (place / "index.html", "no folder"),
        (tmp_path / "no" / "where", "does not exist"),
        (Path("relative"), "absolute"),
    ):
        with pytest.raises(BadInput, match=f"^destination: .*{why}"):
            await create("web-page", folder, {"name": "b"})
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="no folder"):
        await create("web-page", link, {"name": "b"})

    assert (place / "index.html").stat() == before


async def test_two_creations_of_one_place_make_one_project(place: Path) -> None:
    """Ours. The later one is refused; neither leaves anything beside it."""
    ends = await asyncio.gather(
        *(create("web-page", place, {"name": name}) for name in ("one", "two")), return_exceptions=True
    )

    assert sorted(type(end).__name__ for end in ends) == ["BadInput", "Created"]
    assert left(place) == ["made"]


async def test_a_creation_that_is_cancelled_leaves_nothing(write: Write, place: Path, tmp_path: Path) -> None:
    """Ours. Nor does any process of it."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    creating = asyncio.create_task(
        create(str(write(f"_tasks: ['echo $$ > {fifo}; exec sleep 600']")), place, {}, trusted=True)
    )
    async with asyncio.timeout(20):
        pid = int(await asyncio.to_thread(fifo.read_text))
        creating.cancel()
        await asyncio.wait({creating})

    assert creating.cancelled()
    assert left(place) == []
    state = Path(f"/proc/{pid}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


async def test_a_git_url_is_cloned_and_its_commit_kept(write: Write, place: Path, tmp_path: Path) -> None:
    """Issue. Hooks and settings of the template's repository are not the project's."""
    template = write("name: {type: str}", {"a.txt.jinja": "{{ name }}"})
    first = repository(template)
    git(template, "tag", "v1")
    (template / "a.txt.jinja").write_text("later {{ name }}")
    git(template, "commit", "-q", "-am", "two")
    url = template.as_uri()

    made = await create(f"{url}#v1", place, {"name": "n"}, trusted=True)

    assert (made.commit, (place / "a.txt").read_text()) == (first, "n")
    answers = answers_of(place)
    assert (answers["_src_path"], answers["_commit"], answers["name"]) == (url, first, "n")
    assert not (place / ".git").exists()
    other = tmp_path / "projects" / "other"
    await create(url, other, {"name": "n"}, trusted=True)
    assert (other / "a.txt").read_text() == "later n"


async def test_a_repository_that_is_not_there_is_told_in_gits_words(place: Path, tmp_path: Path) -> None:
    """Ours."""
    await refused((tmp_path / "none.git").as_uri(), place, "cannot be cloned: fatal: ", trusted=True)


async def test_a_link_in_a_repository_is_refused_too(write: Write, place: Path) -> None:
    """Issue."""
    template = write("x: 1")
    (template / "leak").symlink_to("/etc/passwd")
    repository(template)
    await refused(template.as_uri(), place, "leak leads out", trusted=True)
