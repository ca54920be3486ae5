"""How a database of an older schema becomes one of this: one file a schema, run by Alembic in one transaction.

May import: store.tables.
Never: anything else of ours.
"""
