"""Numbers of other libraries, such as numpy's, as values of all parameters that are numbers."""

from __future__ import annotations

import json
import numbers
from collections.abc import Awaitable, Callable
from contextlib import suppress
from fractions import Fraction
from typing import Any

import anyio
import pytest

import lmstudio_sync
from lmstudio_async import (
    AsyncClient,
    EmbeddedServer,
    LMStudioConfigError,
    LMStudioServerError,
    LMStudioValueError,
)
from lmstudio_async._tools import result_text
from lmstudio_async.embedded import ServerLimits
from tests.scripted_server import ScriptedServer, loaded_llm

Both = tuple[AsyncClient, ScriptedServer]


class Whole:
    """A whole number as numpy has them: no ``int``, but with an ``__index__``."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __index__(self) -> int:
        return self._value

    def __eq__(self, other: object) -> bool:
        return self._value == other

    def __hash__(self) -> int:
        return hash(self._value)


class Duration(Whole):
    """A value that is registered as `numbers.Integral`, as numpy does with durations, although it is no number."""

    __index__: Any = None


numbers.Integral.register(Duration)

HALF = Fraction(1, 2)


async def heard(both: Both, send: Callable[[AsyncClient], Awaitable[object]]) -> dict[str, Any]:
    """Let the client send a request, and return the message that the server receives."""
    client, server = both

    async def run() -> None:
        with suppress(LMStudioServerError):
            await send(client)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            message = await server.next_message()
            if "channelId" in message:
                await server.fail(message, "heard")
            else:
                tasks.cancel_scope.cancel()
    return message


def fields_of(config: dict[str, Any]) -> dict[str, Any]:
    return {field["key"]: field["value"] for field in config["fields"]}


async def test_a_load_takes_numbers_of_other_libraries(both: Both) -> None:
    config: Any = {
        "context_length": Whole(4096),
        "seed": Whole(7),
        "gpu": {"ratio": HALF, "main_gpu": Whole(1), "disabled_gpus": [Whole(0)]},
        "llama_k_cache_quantization_type": "f16",
        "extra": {"llm.load.future": [Whole(1), HALF]},
    }
    ttl: Any = Whole(60)
    message = await heard(
        both, lambda client: client.llm.load_new_instance("qwen3-4b", ttl=ttl, config=config)
    )

    assert message["creationParameter"]["ttlMs"] == 60_000
    fields = fields_of(message["creationParameter"]["loadConfigStack"]["layers"][0]["config"])
    assert fields["llm.load.contextLength"] == 4096
    assert fields["llm.load.seed"] == {"checked": True, "value": 7}
    assert fields["llm.load.llama.acceleration.offloadRatio"] == 0.5
    assert fields["load.gpuSplitConfig"]["priority"] == [1]
    assert fields["load.gpuSplitConfig"]["disabledGpus"] == [0]
    assert fields["llm.load.future"] == [1, 0.5]


async def test_a_prediction_takes_numbers_of_other_libraries(both: Both) -> None:
    config: Any = {"max_tokens": Whole(50), "temperature": HALF, "raw": {"llm.prediction.future": Whole(1)}}
    tool_call = {"id": "t1", "name": "add", "arguments": {"a": Whole(1), "b": HALF}}
    chat: Any = [
        {"role": "user", "content": "1 + 0.5?"},
        {"role": "assistant", "content": [{"type": "toolCallRequest", "toolCallRequest": tool_call}]},
        {"role": "tool", "content": "1.5", "tool_call_id": "t1"},
    ]
    llm = await loaded_llm(*both)
    message = await heard(both, lambda _: llm.respond(chat, config=config))

    fields = fields_of(message["creationParameter"]["predictionConfigStack"]["layers"][0]["config"])
    assert fields["llm.prediction.maxPredictedTokens"] == {"checked": True, "value": 50}
    assert fields["llm.prediction.temperature"] == 0.5
    assert fields["llm.prediction.future"] == 1
    (part,) = message["creationParameter"]["history"]["messages"][1]["content"]
    assert part["toolCallRequest"]["arguments"] == {"a": 1, "b": 0.5}


@pytest.mark.parametrize(
    ("send", "parameter"),
    [
        (lambda client: client.repository.search_models(limit=Whole(5)), {"opts": {"limit": 5}}),
        (lambda client: client.system.start_http_server(Whole(1234)), {"port": 1234}),
        (lambda client: client.call("system", "future", {"n": Whole(1), "x": [HALF]}), {"n": 1, "x": [0.5]}),
    ],
)
async def test_a_call_takes_numbers_of_other_libraries(both: Both, send: Any, parameter: Any) -> None:
    assert (await heard(both, send))["parameter"] == parameter


def test_timeouts_may_be_numbers_of_other_libraries() -> None:
    timeout: Any = Whole(300)
    AsyncClient(timeout=timeout)
    before = lmstudio_sync.get_sync_api_timeout()
    try:
        lmstudio_sync.set_sync_api_timeout(timeout)
        assert lmstudio_sync.get_sync_api_timeout() == 300
    finally:
        lmstudio_sync.set_sync_api_timeout(before)


def test_the_embedded_server_takes_numbers_of_other_libraries() -> None:
    whole: Any = Whole(8)
    half: Any = HALF
    limits = ServerLimits(connections=whole, unread_seconds=half)
    assert (type(limits.connections), limits.connections) == (int, 8)
    assert (type(limits.unread_seconds), limits.unread_seconds) == (float, 0.5)
    EmbeddedServer(threads=whole, jit_ttl=half, limits=limits)


@pytest.mark.parametrize("value", [True, Duration(60), "60", 1j])
async def test_a_value_that_is_no_number_is_refused_everywhere(both: Both, value: Any) -> None:
    client, _ = both
    for refused in (
        lambda: AsyncClient(timeout=value),
        lambda: client.llm.load_new_instance_stream("qwen3-4b", ttl=value),
        lambda: client.llm.load_new_instance_stream("qwen3-4b", config={"context_length": value}),
        lambda: ServerLimits(connections=value),
        lambda: ServerLimits(unread_seconds=value),
        lambda: EmbeddedServer(threads=value),
        lambda: EmbeddedServer(jit_ttl=value),
    ):
        with pytest.raises((LMStudioValueError, LMStudioConfigError)):
            refused()


def test_a_tool_result_is_encoded_as_by_json_dumps() -> None:
    given = {1: "tea", 2.5: "cake", False: 1, None: 2, "sets": [1], float("inf"): 0}
    assert result_text(given) == json.dumps(given)
    assert result_text({Whole(3): [Whole(4), HALF]}) == '{"3": [4, 0.5]}'
    with pytest.raises(TypeError, match="keys"):
        result_text({(1, 2): 3})
