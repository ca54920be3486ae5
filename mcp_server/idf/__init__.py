"""What ESP-IDF is to the rest: installations, projects, the commands of a build, what it left, and the doctor's checks.

May import: model, config, clock, errors, hosts.base, hosts.console. Never: store, engine, orchestrator, a front.
"""
