"""The server that the official clients talk to, from its start to its end."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path

import lmstudio
import pytest

from tests.official.serving import served, wait_for_exit, watches_processes


@watches_processes
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_and_its_workers_despite_a_client(
    models: Path, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    with served(models) as server, lmstudio.Client(server.address) as client:
        client.llm.load_new_instance("tiny")
        client.embedding.load_new_instance("text-embedding-embed")
        workers = server.workers()
        assert len(workers) >= 2
        server.send_signal(number)
        assert server.wait() == 0
        wait_for_exit(workers)
        assert server.complaints() == ""
    # The official package logs only this event when its server ends.
    assert {json.loads(message)["event"] for message in caplog.messages} == {
        "Websocket failed, terminating session."
    }
    caplog.clear()


def test_an_unknown_endpoint_raises_an_error_instead_of_waiting_for_ever(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with served(models) as server, lmstudio.Client(server.address) as client:
        with pytest.raises(lmstudio.LMStudioServerError, match="noSuchEndpoint"):
            client.llm.remote_call("noSuchEndpoint")
        assert client.llm.list_loaded() == []
        # Both logs contain the error, which shows that the empty logs of all other tests are meaningful.
        assert "noSuchEndpoint" in server.complaints()
    (warning,) = caplog.messages
    assert "SDK communication warning" in warning
    caplog.clear()


def test_a_default_port_is_found_without_a_host(models: Path) -> None:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 41343)) == 0:
            pytest.skip("another server is at the first of LM Studio's ports")
    with served(models, "--port", "41343"), lmstudio.Client() as client:
        assert client.api_host == "127.0.0.1:41343"
        assert client.llm.list_loaded() == []
