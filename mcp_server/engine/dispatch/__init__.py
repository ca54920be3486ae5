"""Says which worker runs which open build next: one port, `Local` for a home of its own, `Team` for several workers.

May import: store, config, turns, places, clock, errors. Never: hosts, idf, orchestrator, a front.
"""
