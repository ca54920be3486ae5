"""The table of rules: each knows the line it was written from, and no reader before it takes that line away."""

import pytest

from mcp_server.idf.diagnostics import Hints, diagnose, render
from mcp_server.idf.diagnostics.finding import Rank, Rule
from mcp_server.idf.diagnostics.rules import RULES, hot, match


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.seen[:50])
def test_a_rule_knows_the_line_it_was_written_from(rule: Rule) -> None:
    """Ours: `seen` passes the cheap test for lines, then meets this rule and no earlier one."""
    assert hot().search(rule.seen.encode())
    matched = match(rule.seen)
    assert matched is not None and matched[0] is rule


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.rank <= Rank.STATED], ids=lambda rule: rule.seen[:50])
def test_the_line_reaches_the_report(rule: Rule) -> None:
    """Ours: whichever reader takes it, its words are told."""
    report = render(diagnose(f"{rule.seen}\n", 2, hints=Hints()))

    words = [
        word for word in rule.seen.replace("`", "'").split() if len(word) > 5 and "/" not in word and ":" not in word
    ]
    assert sum(word in report for word in words) * 2 >= len(words), report
