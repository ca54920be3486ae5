"""Code agents behind one port, and the one that needs no model: `patch` applies given diffs.

May import: model, config, clock, errors, hosts, redact, text. Never: store, engine, orchestrator, a front.
"""
