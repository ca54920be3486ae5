"""What is remembered: projects, builds, stages, events, leases, artifacts. Only orchestrator and engine use it.

May import: model, config, clock, errors, build_statistics, build_trends.
Never: hosts, idf, agents, demo, engine, orchestrator, a front.
"""
