"""MCP tools, one file an area: parse, ask the orchestrator, render.

May import: orchestrator, following, artifact_files, orders, views, workflows, build_spec, git_source, report,
report_hosts, report_plan, report_projects, report_stats, report_story, report_tables, references, report_tests, model,
config, clock, errors, scopes.
Never: store, engine, hosts, idf, another front.
"""
