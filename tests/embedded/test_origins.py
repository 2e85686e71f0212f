"""Origins of web pages that may use the embedded server, and the CORS headers of its responses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.errors import LMStudioValueError
from lmstudio_async.testing import served
from tests.embedded.sockets import plain_socket, upgrade

PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
    "Access-Control-Request-Private-Network": "true",
}


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    allowed = ["https://Chat.example:443/", "obsidian://vault"]
    with (
        served(
            EmbeddedServer(tmp_path_factory.mktemp("models"), threads=1, allowed_origins=allowed)
        ) as address,
        httpx.Client(base_url=f"http://{address}", trust_env=False, timeout=20) as client,
    ):
        yield client


def upgrade_status(http: httpx.Client, origin: str) -> int:
    request = upgrade("llm").replace(b"Connection:", f"Origin: {origin}\r\nConnection:".encode())
    with plain_socket(f"127.0.0.1:{http.base_url.port}", request) as connection:
        return int(connection.recv(12).split()[1])


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://127.0.0.1.evil.example",
        "http://localhost:80.evil.example",
        "http://localhost@evil.example",
        "ftp://localhost",
        "chrome-extension://abcdefgh",
        "app://obsidian",
        "https://chat.example.evil.example",
        "http://chat.example",
        "blob:http://localhost",
        "null",
    ],
)
def test_an_origin_that_is_not_allowed_is_refused(http: httpx.Client, origin: str) -> None:
    for answer in (
        http.get("/lmstudio-greeting", headers={"Origin": origin}),
        http.options("/api/v1/models", headers={"Origin": origin, **PREFLIGHT}),
    ):
        assert answer.status_code == 403
        assert not any(name.startswith("access-control-") for name in answer.headers)
    assert upgrade_status(http, origin) == 403


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost:3000",
        "http://127.0.0.1:8080",
        "http://[::1]",
        "https://app.localhost",
        "https://chat.example",
        "obsidian://vault",
    ],
)
def test_an_allowed_origin_is_served_with_cors_headers(http: httpx.Client, origin: str) -> None:
    for path, status in (("/lmstudio-greeting", 200), ("/api/v1/nothing", 404)):
        answer = http.get(path, headers={"Origin": origin})
        assert answer.status_code == status
        assert answer.headers["Access-Control-Allow-Origin"] == origin
        assert answer.headers["Vary"] == "Origin"
    assert upgrade_status(http, origin) == 101


def test_a_preflight_of_an_allowed_origin_is_answered(http: httpx.Client) -> None:
    origin = {"Origin": "https://chat.example"}
    answer = http.options("/api/v1/models/load", headers={**origin, **PREFLIGHT})

    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == "https://chat.example"
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert answer.headers["Access-Control-Allow-Headers"] == "Authorization, Content-Type"
    assert answer.headers["Access-Control-Allow-Private-Network"] == "true"
    assert http.options("/api/v1/models/load", headers=origin).status_code == 405


def test_a_request_without_origin_gets_no_cors_headers(http: httpx.Client) -> None:
    answer = http.get("/lmstudio-greeting")

    assert "Access-Control-Allow-Origin" not in answer.headers
    assert answer.headers["Vary"] == "Origin"


@pytest.mark.parametrize(
    "origin", ["*", "chat.example", "https://", "https://a/b", "https://a:port", "null", "", 5]
)
def test_an_invalid_allowed_origin_raises_value_error(origin: Any) -> None:
    with pytest.raises(LMStudioValueError, match=r"https://chat\.example"):
        EmbeddedServer(allowed_origins=[origin])
    with pytest.raises(LMStudioValueError, match="list"):
        EmbeddedServer(allowed_origins="https://chat.example")
