"""The page at `/`: files of ours as they are, without a build step and without anything from elsewhere.

May import: model.
Never: store, engine, hosts, cli.
"""
