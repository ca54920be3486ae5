"""The seed's config.yaml, as its user wrote it."""

SEED = """\
servers:
  yocto-builder:
    host: 192.168.1.101
    user: build
    workdir: /workspace/CCU_GEN2.0_SONATUS.manifest
    
  ccu2-builder:
    host: 192.168.1.102
    user: build
    workdir: /workspace/ccu-2.0
    
  test-runner:
    host: 192.168.1.103
    user: test
    workdir: /workspace/snt-integration-tests

notifications:
  discord:
    enabled: true
    target: jaylee_59200
    
  telegram:
    enabled: true
    chat_id: 514675395

defaults:
  timeout: 2h
  retry: 1
  parallel_limit: 3
"""  # noqa: W293  # as people write it, blanks and all
