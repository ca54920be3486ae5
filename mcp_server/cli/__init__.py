"""The command line: parse, ask the orchestrator, render.

May import: orchestrator, orders, views, machines, workflows, report, report_figures, report_hosts, report_parts,
report_plan, report_projects, report_stats, report_story, plans, device_plans, workflow_plans, pipelines, logs, model,
config, clock, errors, durations, record, secret_store, tokens, web.serve, build_statistics, build_trends, demo, idf,
loading, expected, compared, report_tables, backup.
Never: store, engine, hosts, server, tools.
"""
