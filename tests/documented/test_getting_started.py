"""The pages on the first steps: the server's address, the API token, and the timeout."""

from __future__ import annotations

import pytest

from lmstudio_async._client_limits import ClientLimits
from lmstudio_async._transport import _discovery as discovery
from tests.documented.conftest import Models


@pytest.fixture(autouse=True)
def long_greeting_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A longer limit for the greeting of a server, so that a stall of the machine does not exceed it."""
    monkeypatch.setattr(discovery, "DEFAULT_LIMITS", ClientLimits(greeting_seconds=60))


def test_the_address_of_the_default_client_is_configured(models: Models, server: str, loaded: str) -> None:
    import lmstudio_sync as lms

    SERVER_API_HOST = server  # noqa: N806 - as documented

    # This must be the *first* convenience API interaction (otherwise the SDK
    # implicitly creates a client that accesses the default server API host)
    lms.configure_default_client(SERVER_API_HOST)

    assert lms.get_default_client().api_host == server
    models.check_answer(lms.llm().respond("What is the meaning of life?", config={"maxTokens": 50}).content)


def test_a_client_takes_the_address_of_the_server(server: str) -> None:
    import lmstudio_sync as lms

    SERVER_API_HOST = server  # noqa: N806 - as documented

    with lms.Client(SERVER_API_HOST) as client:
        assert client.list_downloaded_models()


async def test_an_async_client_takes_the_address_of_the_server(server: str) -> None:
    import lmstudio_async as lms

    SERVER_API_HOST = server  # noqa: N806 - as documented

    async with lms.AsyncClient(SERVER_API_HOST) as client:
        assert await client.list_downloaded_models()


def test_is_valid_api_host_tells_whether_a_server_runs(
    server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import lmstudio_sync as lms

    if lms.Client.is_valid_api_host(server):
        print(f"An LM Studio API server instance is running at {server}")
    else:
        print(f"No LM Studio API server instance found at {server}")

    assert capsys.readouterr().out.startswith("An LM Studio API server")
    assert not lms.Client.is_valid_api_host("127.0.0.1:1")


async def test_is_valid_api_host_tells_whether_a_server_runs_in_async_form(server: str) -> None:
    import lmstudio_async as lms

    assert await lms.AsyncClient.is_valid_api_host(server)
    assert not await lms.AsyncClient.is_valid_api_host("127.0.0.1:1")


def test_an_api_token_is_an_argument_or_an_environment_variable(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lmstudio_sync as lms

    token = "sk-lm-abcdefgh:ABCDEFGHIJKLMNOPQRST"
    lms.configure_default_client(api_token=token)
    assert lms.list_downloaded_models()
    with lms.Client(api_token=token) as client:
        assert client.list_downloaded_models()

    monkeypatch.setenv("LM_API_TOKEN", "not a token")
    with pytest.raises(lms.LMStudioValueError), lms.Client() as client:
        client.list_downloaded_models()


def test_the_timeout_of_blocking_calls_is_configured() -> None:
    import lmstudio_sync as lms

    before = lms.get_sync_api_timeout()
    try:
        lms.set_sync_api_timeout(120)
        assert lms.get_sync_api_timeout() == 120
        assert lms.list_downloaded_models()
        lms.set_sync_api_timeout(None)
        assert lms.list_downloaded_models()
    finally:
        lms.set_sync_api_timeout(before)
