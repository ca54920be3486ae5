"""MCP tools, one file an area: parse, ask the orchestrator, render.

May import: orchestrator, report, model, config, clock, errors. Never: store, engine, hosts, idf, another front.
"""
