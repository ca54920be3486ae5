"""The API's page: every operation, nothing from elsewhere, nothing that could be a script."""

from pathlib import Path

from tests.support.web_service import web_service


async def test_the_page_tells_every_operation_and_loads_nothing(home: Path) -> None:
    """Issue: /api/docs is enough to write a bot."""
    async with web_service() as service:
        answer = await service.ask("GET", "/api/docs")
        spec = (await service.ask("GET", "/api/openapi.json")).json()

    page = answer.text
    for path, item in spec["paths"].items():
        for method in item:
            assert f"<b>{method.upper()}</b> <code>{path}</code>" in page
    assert "<script" not in page and "src=" not in page and "url(" not in page
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "one of pending, running, success, failed, cancelled" in page
    assert "&quot;prompt&quot;: &quot;Create a coming soon page" in page
    assert "answers 202 <code>{task_id, status}</code>" in page
    assert "http://localhost:8000/api/builds" in page


async def test_an_address_in_the_host_header_stays_text(home: Path) -> None:
    """Issue: XSS."""
    async with web_service() as service:
        answer = await service.ask("GET", "/api/docs", host="<script>alert(1)</script>")
    assert "<script" not in answer.text
