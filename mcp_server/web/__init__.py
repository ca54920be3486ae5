"""The service: REST, events and the page, over the orchestrator that every front uses.

May import: model, config, clock, errors, compared, file_links, heaps, loading, logs, build_spec, durations, record,
references, report, project_file, tokens, orchestrator, workflows, views, orders, text, bot_result, build_statistics,
artifact_files, report_plan, server, build_trends, crew, expected, following, process_log, scopes, log_masking.
Never: store, engine, hosts, cli.
"""
