"""How people write a build's number."""

import pytest

from mcp_server import references
from mcp_server.errors import BadInput


@pytest.mark.parametrize("text", [42, "42", "#42", " 42 ", "0042", "0" * 5000 + "42"])
def test_a_number_is_read_as_people_write_it(text: int | str) -> None:
    """Ours. Leading zeros once brought an internal error."""
    assert references.build_number(text) == 42


@pytest.mark.parametrize(
    "text", [0, -1, True, "", "0", "#", "x", "4 2", "9" * 19, "0" * 30 + "9" * 30, "1" * 5000, "٠٠٠"]
)
def test_what_is_no_number_is_refused_in_one_sentence(text: int | str) -> None:
    """Ours."""
    with pytest.raises(BadInput, match="is neither a build number such as 42 nor a task's UUID"):
        references.build_number(text)
