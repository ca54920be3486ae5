"""The store and what lies beside it as one file, and back: on the same database, or on another kind of one.

May import: model, config, clock, errors, store, engine.start.
Never: hosts, idf, orchestrator, a front.
"""
