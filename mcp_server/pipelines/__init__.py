"""What a pipeline file says: read, checked and worked out as a graph of stages, before anything starts.

`spec.load` reads a file; `graph` has what a scheduler asks of the stages, `render` what a person sees of them.

May import: model, config, errors. Never: store, hosts, engine, orchestrator, a front.
"""
