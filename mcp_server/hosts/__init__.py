"""Runs detached jobs on this machine or over SSH.

May import: model, config, clock, errors. Never: store, engine, orchestrator, a front.
"""
