"""build-orchestrator: builds, runs and mends firmware and answers with a verdict instead of a log.

The rooms and what each may import are in their own `__init__.py`; a test holds them to it.
"""

__version__ = "0.1.0"
