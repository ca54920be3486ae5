"""Says which worker runs which open build next: one port, `Local` for a home of its own.

May import: store, turns, clock, errors. Never: hosts, idf, orchestrator, a front.
"""
