"""What went wrong between us and a server of the Messages API: one sentence that says what to do, and never a key."""

from urllib.parse import urlsplit

from mcp_server.text import one_line

_SAID_BYTES = 300


def sentence(error: Exception, *, base_url: str, model: str, key: str) -> str:
    """`error` is one of the SDK's or of its HTTP library; anything else is named by its class."""
    import anthropic  # noqa: PLC0415  # 0.9 s, and absent where no model is used

    server = urlsplit(base_url).netloc or base_url
    text = _said(error)
    match error:
        case anthropic.APITimeoutError():
            found = f"{server} did not answer in time: try again, or use another agent"
        case anthropic.APIConnectionError():
            found = f"{server} cannot be reached: is the address right, and the network up? ({_cause(error)})"
        case anthropic.APIStatusError():
            found = _of_status(error.status_code, error.type, server, model, text)
        case anthropic.APIResponseValidationError():
            found = f"{server} does not speak the Messages API: check the address"
        case _:
            found = f"the connection to {server} broke off ({type(error).__name__}: {text}): try again"
    return found.replace(key, "***") if key else found


def passes(error: Exception) -> bool:
    """Whether the same request may well succeed in a moment: an answer that broke off, or a server with no room."""
    import anthropic  # noqa: PLC0415
    import httpx2  # noqa: PLC0415

    if isinstance(error, anthropic.APIStatusError):  # in the middle of an answer its status is 200
        return error.status_code == 200 and error.type in ("overloaded_error", "api_error", "rate_limit_error")
    return isinstance(error, httpx2.TransportError)


def _of_status(status: int, kind: str | None, server: str, model: str, text: str) -> str:
    if status in (401, 403) or kind in ("authentication_error", "permission_error"):
        return f"{server} refused the key ({text}): set a valid one, or use another agent"
    if status == 402 or "credit balance" in text:
        return f"{server}: the account is out of credit: {text}"
    if status == 404:
        return f"{server} knows no model {one_line(model, 100)} ({text}): set `model` to one that it has"
    if status == 413:
        return f"{server}: the request is too large: give the agent a smaller task"
    if status == 429 or kind == "rate_limit_error":
        return f"{server} allows no more requests now ({text}): wait, or use another agent"
    if status == 529 or kind == "overloaded_error":
        return f"{server} is overloaded: try again in a few minutes, or use another agent"
    if status >= 500 or kind == "api_error":
        return f"{server} has a fault of its own ({status}: {text}): try again, or use another agent"
    return f"{server} refused the request ({status}): {text}"


def _said(error: Exception) -> str:
    """The server's own words, without the SDK's frame around them."""
    return one_line(getattr(error, "api_message", None) or str(error) or "no reason given", _SAID_BYTES)


def _cause(error: Exception) -> str:
    return one_line(error.__cause__ or error, _SAID_BYTES)
