"""The command line: parse, ask the orchestrator, render.

May import: orchestrator, report, plans, logs, model, config, clock, errors, durations, demo, idf.
Never: store, engine, hosts, server, tools.
"""
