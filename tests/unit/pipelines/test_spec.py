"""Pipeline files that load, and what each key becomes."""

from pathlib import Path

import pytest

from mcp_server.config import Defaults
from mcp_server.model import Ending, Retry, Sync
from mcp_server.pipelines.spec import load as load_file
from tests.unit.pipelines.loading import load, stages

EXAMPLES = Path(__file__).parents[3] / "examples"

SEED_PART = """\
pipeline:
  name: ccu2-full-build
  
  stages:
    - name: yocto-image
      server: yocto-builder
      command: "./build.py -ncpb -j 16 -p 16"
      workdir: /workspace/CCU_GEN2.0_SONATUS.manifest/mobis
      timeout: 3h
      
    - name: host-build
      server: ccu2-builder
      command: "./build.py --module container-manager"
      workdir: /workspace/ccu-2.0
      depends_on: []  # 립
      timeout: 30m
      
    - name: integration-test
      server: test-runner
      command: "pytest -v test_container.py"
      workdir: /workspace/snt-integration-tests
      depends_on: [host-build]  # host-build 완료 후 실행
      timeout: 1h
      
  on_failure:
    - notify: discord
    - retry: 1
    
  on_success:
    - notify: discord
    - archive: true
"""  # noqa: W293  # as people write it, blanks and all

EVERYTHING = """\
x-common: &common {server: farm, timeout: 90}
pipeline:
  name: all keys
  params: {target: esp32c3, jobs: 8, fast: false, version: 5.10}
  parallel_limit: 7
  stages:
    - name: one
      <<: *common
      command: make -j ${params.jobs} TARGET="${params.target}"
      workdir: /src/${params.target}
      env: {IDF: 5.10, ON: on, EMPTY: , OCTAL: 012, EXP: 1e3, NO: no, T: "${params.target}"}
      secrets: TOKEN
      sync: {from: local, path: "${params.target}"}
      artifacts: ["out/${params.target}/*.bin"]
      retry: {times: 2, on: [lost, timeout, 75], backoff: 10s}
      concurrency: board-${params.target}
      allow_failure: yes
    - name: two
      uses: idf.build
      with: {target: "${params.target}", clean: on}
      server: [yocto, idf]
      depends_on: one
      needs_artifacts: [one]
      when: "params.target == 'esp32c3'"
      retry: 0
on_failure: {notify: [discord, slack], retry: 2}
on_success: [{notify: discord}, {archive: true}, {notify: [slack]}]
"""


def test_seed_pipeline_loads_unchanged() -> None:
    """The seed's own pipeline, to the letter."""
    pipeline = load_file(SEED_PART, defaults=Defaults())

    assert pipeline.name == "ccu2-full-build"
    assert [stage.name for stage in pipeline.stages] == ["yocto-image", "host-build", "integration-test"]
    image, build, test = pipeline.stages
    assert (image.servers, image.command) == (("yocto-builder",), "./build.py -ncpb -j 16 -p 16")
    assert image.workdir == "/workspace/CCU_GEN2.0_SONATUS.manifest/mobis"
    assert (image.timeout_s, build.timeout_s, test.timeout_s) == (10_800, 1800, 3600)
    assert (build.depends_on, test.depends_on) == ((), ("host-build",))
    assert test.retry == Retry(times=1)
    assert pipeline.parallel_limit == 3
    assert pipeline.on_failure == Ending(notify=("discord",), retry=1)
    assert pipeline.on_success == Ending(notify=("discord",), archive=True)


def test_seed_example_is_the_seeds() -> None:
    """Seed. The example that people copy is the same text."""
    assert (EXAMPLES / "ccu2-full-build.yaml").read_text(encoding="utf-8") == SEED_PART


def test_every_key_loads() -> None:
    """Ours. Values keep their spelling: 5.10, 012, 1e3, no and on are texts where text is wanted."""
    pipeline = load(EVERYTHING)

    one, two = pipeline.stages
    assert pipeline.params == {"target": "esp32c3", "jobs": "8", "fast": "false", "version": "5.10"}
    assert pipeline.parallel_limit == 7
    assert one.command == 'make -j ${PARAMS_jobs} TARGET="${PARAMS_target}"'
    assert one.env == {
        **{"IDF": "5.10", "ON": "on", "EMPTY": "", "OCTAL": "012", "EXP": "1e3", "NO": "no", "T": "esp32c3"},
        **{"PARAMS_target": "esp32c3", "PARAMS_jobs": "8", "PARAMS_fast": "false", "PARAMS_version": "5.10"},
    }
    assert (one.servers, one.timeout_s, one.workdir) == (("farm",), 90, "/src/esp32c3")
    assert one.sync == Sync(source="local", path="esp32c3")
    assert (one.secrets, one.artifacts, one.group) == (("TOKEN",), ("out/esp32c3/*.bin",), "board-esp32c3")
    assert one.retry == Retry(times=2, on=("lost", "timeout", "75"), backoff_s=10)
    assert one.allow_failure
    assert (two.uses, two.with_, two.env) == ("idf.build", {"target": "esp32c3", "clean": True}, {})
    assert (two.servers, two.depends_on, two.needs_artifacts) == (("yocto", "idf"), ("one",), ("one",))
    assert (two.skip, two.retry) == ("", Retry(times=0))
    assert pipeline.on_failure == Ending(notify=("discord", "slack"), retry=2)
    assert pipeline.on_success == Ending(notify=("discord", "slack"), archive=True)


def test_defaults_come_from_the_configuration() -> None:
    """Issue. What a stage does not say, `defaults` of config.yaml says."""
    text = "pipeline: {stages: [{name: a, command: x}]}"
    pipeline = load_file(text, name="ci/nightly.yaml", defaults=Defaults(timeout=5.0, retry=4, parallel_limit=9))

    stage = pipeline.stages[0]
    assert (stage.timeout_s, stage.retry, stage.servers) == (5, Retry(times=4), ("local",))
    assert pipeline.parallel_limit == 9
    assert pipeline.name == "nightly"


def test_timeout_zero_is_none_and_not_the_default() -> None:
    """Ours."""
    assert stages("  - {name: a, command: x, timeout: 0}")["a"].timeout_s == 0


def test_pipeline_file_is_the_same_as_bytes_and_with_a_byte_order_mark() -> None:
    """Ours. Windows' editors write one."""
    text = "pipeline: {name: é, stages: [{name: a, command: x}]}"

    assert load(text) == load(text.encode()) == load("\ufeff".encode() + text.encode())


@pytest.mark.parametrize("when", ["params.fast", "false", "params.target != 'esp32c3'"])
def test_stage_whose_when_is_false_is_skipped_with_the_reason(when: str) -> None:
    """Issue."""
    text = f"pipeline: {{params: {{target: esp32c3, fast: false}}, stages: [{{name: a, command: x, when: {when!r}}}]}}"

    assert load(text.replace('"', "'") if '"' not in repr(when) else text).stages[0].skip == f"when: {when} is false"


def test_skipped_stage_blocks_nobody_but_who_needs_its_artifacts() -> None:
    """Issue. And those that need theirs; each says why."""
    found = stages(
        "  - {name: a, command: x, when: 'false', artifacts: [o]}\n"
        "  - {name: b, command: x, depends_on: a}\n"
        "  - {name: d, command: x, needs_artifacts: c}\n"
        "  - {name: c, command: x, needs_artifacts: a, artifacts: o}\n"
    )

    assert found["b"].skip == ""
    assert found["c"].skip == "needs the artifacts of 'a', which is skipped"
    assert found["d"].skip == "needs the artifacts of 'c', which is skipped"
    assert found["c"].depends_on == ("a",)


def test_thousand_stages_load_in_a_third_of_a_second() -> None:
    """Issue. 1,000 stages take at most 0.3 s of our own time in all; reading them is the greater part."""
    text = "pipeline:\n  stages:\n" + "".join(
        f'    - name: s{number}\n      command: "true"\n      depends_on: [s{max(0, number - 1)}]\n'
        for number in range(1, 1001)
    ).replace("[s0]", "[]")
    pipeline = load(text)

    assert len(pipeline.stages) == 1000
    assert pipeline.stages[-1].depends_on == ("s999",)
