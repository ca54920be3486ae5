"""The worker: takes open builds, walks their stage graphs, runs the fix loop.

`signals` and `start` are all that a front needs of it.

May import: model, config, places, clock, errors, heaps, loading, store, hosts, idf, coverage, agents, demo, pipelines,
notify, templates, secret_store, text, bot_result, build_spec, orders, plans, workflow_plans, device_plans, moved,
project_plans, project_file, check_up, turns, process_log, log_masking.
Never: orchestrator, a front.
"""
