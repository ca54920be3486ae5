"""What a stage means: one file a kind. Each prepares a job, watches its log and judges its end.

May import: model, config, clock, errors, hosts, idf, agents, demo, templates, notify, secret_store, redact, text,
check_up. Never: store, orchestrator, a front.
"""
