"""The service: REST, events and the page, over the orchestrator that every front uses.

May import: model, config, clock, errors, build_spec, durations, record, references, report, project_file, tokens,
orchestrator, workflows, views, orders, text. Never: store, engine, hosts, another front.
"""
