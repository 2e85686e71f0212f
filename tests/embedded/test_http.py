"""The embedded server behind a real port: access control, websockets, and REST requests."""

from __future__ import annotations

import base64
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from httpx_ws import HTTPXWSException, WebSocketSession, connect_ws

from lmstudio_async.embedded import EmbeddedServer, serve
from lmstudio_async.errors import LMStudioOSError, LMStudioRuntimeError, LMStudioValueError
from lmstudio_async.testing import ModelsFolder, served
from tests.embedded.raw_client import stack
from tests.embedded.sockets import plain_socket
from tests.processes import SEARCH_PATH, HeldLoads, needs_proc, wait_gone

TOKEN = "sk-lm-abcdefgh:ABCDEFGHIJKLMNOPQRST"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("acme/tiny-GGUF/tiny-Q4_K_M.gguf", script="Hello there")
    folder.add_embedding("acme/embed-GGUF/embed-F32.gguf")
    return folder.folder


@pytest.fixture(scope="module")
def address(models: Path) -> Iterator[str]:
    with served(EmbeddedServer(models, threads=1)) as place:
        yield place


@pytest.fixture
def http(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{address}", trust_env=False, timeout=20) as client:
        yield client
        for model in client.get("/api/v1/models").json()["models"]:
            for instance in model["loaded_instances"]:
                client.post("/api/v1/models/unload", json={"instance_id": instance["id"]})


@contextmanager
def websocket(address: str, namespace: str = "llm", **options: Any) -> Iterator[WebSocketSession]:
    options.setdefault("max_message_size_bytes", 2**28)
    with (
        httpx.Client(trust_env=False, timeout=20) as client,
        connect_ws(f"http://{address}/{namespace}", client, **options) as session,
    ):
        session.send_text('{"authVersion":1,"clientIdentifier":"guest:a","clientPasskey":"b"}')
        assert session.receive_text(20) == '{"success":true}'
        yield session


def packets(session: WebSocketSession) -> Iterator[dict[str, Any]]:
    while True:
        frame = json.loads(session.receive_text(20))
        if frame["type"] != "channelSend":
            assert frame["type"] == "channelClose"
            return
        yield frame["message"]


def test_the_server_answers_the_greeting_requests(http: httpx.Client) -> None:
    answer = http.get("/lmstudio-greeting")
    assert answer.json() == {"lmstudio": True}
    assert http.get("/lms-status").json()["package"] == "lmstudio-async"


def test_a_model_is_loaded_and_answers_over_a_websocket(address: str, http: httpx.Client) -> None:
    with websocket(address) as session:
        creation = {"modelKey": "tiny", "loadConfigStack": stack()}
        session.send_text(
            json.dumps(
                {
                    "type": "channelCreate",
                    "endpoint": "loadModel",
                    "channelId": 1,
                    "creationParameter": creation,
                }
            )
        )
        assert [packet["type"] for packet in packets(session)][-1] == "success"
        creation = {
            "modelSpecifier": {"type": "query", "query": {}},
            "history": {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
            "predictionConfigStack": stack(),
        }
        session.send_text(
            json.dumps(
                {
                    "type": "channelCreate",
                    "endpoint": "predict",
                    "channelId": 2,
                    "creationParameter": creation,
                }
            )
        )
        pieces = [
            packet["fragment"]["content"] for packet in packets(session) if packet["type"] == "fragment"
        ]
        assert "".join(pieces) == "Hello there"


def open_channel(session: WebSocketSession, endpoint: str, number: int, creation: dict[str, Any]) -> None:
    message = {
        "type": "channelCreate",
        "endpoint": endpoint,
        "channelId": number,
        "creationParameter": creation,
    }
    session.send_text(json.dumps(message))


@needs_proc
def test_a_load_is_cancelled_when_the_websocket_closes(
    address: str, http: httpx.Client, held_loads: HeldLoads
) -> None:
    creation = {"modelKey": "tiny", "identifier": "mine", "loadConfigStack": stack()}
    with websocket(address) as session:
        open_channel(session, "loadModel", 1, creation)
        held_loads.get()
        held_loads.hold_no_more()
    with websocket(address) as session:
        deadline = time.monotonic() + 20
        for number in itertools.count():
            # The identifier becomes free when the load has ended; a load that goes on would keep it.
            open_channel(session, "loadModel", number, creation)
            while (frame := json.loads(session.receive_text(20)))["type"] == "channelSend":
                pass
            if frame["type"] == "channelClose":
                break
            assert time.monotonic() < deadline
        session.send_text('{"type":"rpcCall","endpoint":"listLoaded","callId":1}')
        (info,) = json.loads(session.receive_text(20))["result"]
        assert (info["identifier"], info["modelKey"]) == ("mine", "tiny")


def test_a_message_of_many_megabytes_is_accepted(address: str) -> None:
    content = base64.b64encode(os.urandom(24_000_000)).decode()
    with websocket(address, "files") as session:
        parameter = {"name": "noise.bin", "contentBase64": content}
        session.send_text(
            json.dumps(
                {"type": "rpcCall", "endpoint": "uploadFileBase64", "callId": 1, "parameter": parameter}
            )
        )
        assert json.loads(session.receive_text(20))["result"]["sizeBytes"] == 24_000_000


def test_a_binary_frame_is_ignored(address: str) -> None:
    with websocket(address) as session:
        session.send_bytes(b'{"type":"keepAlive"}')
        session.send_text('{"type":"rpcCall","endpoint":"listLoaded","callId":7}')
        assert json.loads(session.receive_text(20))["callId"] == 7


@pytest.mark.parametrize("namespace", ["nothing", "", "llm/x", "LLM"])
def test_a_namespace_that_does_not_exist_is_not_found(address: str, namespace: str) -> None:
    with pytest.raises(HTTPXWSException) as refused, websocket(address, namespace):
        pass
    assert refused.value.response.status_code == 404  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("host", "status"), [("evil.example:1234", 403), ("localhost:1234", 200), ("[::1]:1234", 200), ("", 403)]
)
def test_a_host_header_that_does_not_name_this_machine_is_refused(
    http: httpx.Client, host: str, status: int
) -> None:
    assert http.get("/lmstudio-greeting", headers={"Host": host}).status_code == status


def test_models_are_listed_with_their_instances(http: httpx.Client) -> None:
    loaded = http.post(
        "/api/v1/models/load", json={"model": "tiny", "context_length": 512, "echo_load_config": True}
    )
    answer = loaded.json()
    assert loaded.status_code == 200
    assert (answer["type"], answer["instance_id"], answer["status"]) == ("llm", "tiny", "loaded")
    assert answer["load_config"]["context_length"] == 512
    assert answer["load_time_seconds"] > 0
    by_key = {model["key"]: model for model in http.get("/api/v1/models").json()["models"]}
    tiny = by_key["tiny"]
    assert tiny["loaded_instances"] == [{"id": "tiny", "config": answer["load_config"]}]
    assert tiny["capabilities"] == {"vision": False, "trained_for_tool_use": False}
    assert tiny["quantization"] == {"name": "Q4_K_M", "bits_per_weight": 4}
    embed = by_key["text-embedding-embed"]
    assert embed["type"] == "embedding"
    assert "capabilities" not in embed
    assert http.post("/api/v1/models/unload", json={"instance_id": "tiny"}).json() == {"instance_id": "tiny"}
    assert not any(model["loaded_instances"] for model in http.get("/api/v1/models").json()["models"])


def test_an_embedding_model_is_loaded_by_the_same_request(http: httpx.Client) -> None:
    answer = http.post("/api/v1/models/load", json={"model": "text-embedding-embed"}).json()
    assert answer["type"] == "embedding"
    assert "load_config" not in answer


@pytest.mark.parametrize(
    ("body", "status", "kind", "words"),
    [
        ({"model": "missing"}, 404, "model_not_found", "missing"),
        ({"model": "tinny"}, 404, "model_not_found", "There are: tiny"),
        ({"model": "tiny", "ttl": 5, "identifier": "x"}, 400, "invalid_request", "identifier, ttl"),
        ({"model": "tiny", "context_length": "512"}, 400, "invalid_request", "context_length"),
        ({"model": "tiny", "context_length": True}, 400, "invalid_request", "context_length"),
        ({"model": "tiny", "context_length": 10**6}, 400, "invalid_request", "contextLength"),
        ({"model": "text-embedding-embed", "flash_attention": True}, 400, "invalid_request", "flashAttention"),
        ({"model": 5}, 400, "invalid_request", "model"),
        ({}, 400, "invalid_request", "model"),
        ([], 400, "invalid_request", "object"),
    ],
)  # fmt: skip
def test_an_invalid_load_request_is_refused_with_a_reason(
    http: httpx.Client, body: Any, status: int, kind: str, words: str
) -> None:
    answer = http.post("/api/v1/models/load", json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["type"] == kind
    assert words in answer.json()["error"]["message"]


def test_a_method_not_allowed_is_answered_with_the_allowed_methods(http: httpx.Client) -> None:
    answer = http.delete("/api/v1/models/load")

    assert answer.status_code == 405
    assert answer.headers["Allow"] == "POST"
    assert http.head("/api/v1/models").status_code == 200


@needs_proc
async def test_a_load_whose_client_disconnects_is_cancelled(
    address: str, http: httpx.Client, held_loads: HeldLoads
) -> None:
    body = b'{"model": "tiny"}'
    head = b"POST /api/v1/models/load HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    with plain_socket(address, head, body):
        worker = await held_loads.next()
    await wait_gone(worker)
    assert all(not model["loaded_instances"] for model in http.get("/api/v1/models").json()["models"])


def test_invalid_requests_are_refused_in_json(http: httpx.Client) -> None:
    assert http.post("/api/v1/models/load", content=b"{").status_code == 400
    assert http.post("/api/v1/models/load", content=b" " * 2_000_000).status_code == 413
    assert http.post("/api/v1/models/unload", json={"instance_id": "nobody"}).status_code == 404
    assert http.get("/api/v1/nothing").json()["error"]["type"] == "invalid_request"
    assert http.get("/api/v1/models/load").status_code == 405


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/chat/completions"), ("GET", "/llm"), ("PUT", "/api/v1/models")]
)
def test_an_unknown_path_is_answered_with_the_known_paths(http: httpx.Client, method: str, path: str) -> None:
    message = http.request(method, path).json()["error"]["message"]

    assert message.startswith(f"There is no {method} {path} here.")
    assert "GET /api/v1/models" in message
    assert "websockets" in message


def test_with_api_tokens_rest_and_websockets_need_one(models: Path) -> None:
    with served(EmbeddedServer(models, api_tokens=[TOKEN], threads=1)) as address:
        with httpx.Client(base_url=f"http://{address}", trust_env=False) as http:
            assert http.get("/lmstudio-greeting").status_code == 200
            for headers in (
                {},
                {"Authorization": "Bearer sk-lm-abcdefgh:wrongwrongwrongwrong"},
                {"Authorization": TOKEN},
            ):
                assert http.get("/api/v1/models", headers=headers).status_code == 401
            assert http.get("/api/v1/models", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        with pytest.raises(AssertionError, match="needs an API token"), websocket(address):
            pass


async def test_serving_other_machines_needs_api_tokens_and_asyncio(models: Path, anyio_backend: str) -> None:
    with pytest.raises(LMStudioValueError if anyio_backend == "asyncio" else LMStudioRuntimeError) as refused:
        await serve(EmbeddedServer(models), "0.0.0.0", 0)
    assert ("api_tokens" if anyio_backend == "asyncio" else "asyncio") in str(refused.value)


def test_a_port_in_use_raises_os_error(models: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(LMStudioOSError, match="another port"),
    ):
        anyio.run(lambda: serve(EmbeddedServer(models), port=taken.getsockname()[1]))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_and_its_workers_and_the_program_continues(
    models: Path, number: int
) -> None:
    program = f"""
import anyio
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded import serve

async def main():
    async with EmbeddedServer({str(models)!r}, threads=1) as server:
        await serve(server, port=0, ready=lambda host, port: print(port, flush=True))
    print("ended", flush=True)

anyio.run(main)
"""
    environment = {**os.environ, "PYTHONPATH": SEARCH_PATH}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20) as http:
            assert http.post("/api/v1/models/load", json={"model": "tiny"}).status_code == 200
        with websocket(f"127.0.0.1:{port}"):
            process.send_signal(number)
            assert process.stdout.readline() == "ended\n"
        assert process.wait(20) == 0
