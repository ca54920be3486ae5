"""The worker: takes open builds, walks their stage graphs, runs the fix loop.

`signals` and `start` are all that a front needs of it.

May import: model, config, clock, errors, store, hosts, idf, agents, demo, pipelines, notify, templates, secret_store.
Never: orchestrator, a front.
"""
