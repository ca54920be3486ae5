"""What the service listens on."""

import socket

from mcp_server.web.serve import DEAF_S, _listen


def test_an_answer_goes_out_at_once() -> None:
    """Issue: fast answers. Without it each body waits 40 ms for the acknowledgement of its head."""
    with _listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # nor is it kept for ever where nobody takes it
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1000 * DEAF_S
