"""What tests ran of a project's sources, from the reports that coverage tools leave: lcov, Cobertura, gcov.

May import: model. Never: store, engine, hosts, a front.
"""

from mcp_server.coverage.book import Coverage, Covered, FileCoverage
from mcp_server.coverage.reports import read_reports

__all__ = ["Coverage", "Covered", "FileCoverage", "read_reports"]
