"""The embedded default: a small firmware, a host-simulated ESP-IDF, and the diff that mends the firmware.

May import: model, config, clock, errors, idf. Never: store, engine, orchestrator, a front.
"""
