"""Known faults of the official package, and for each of the 22 a test which shows that this package does not have it.

The tests have the number of the fault in their names. Tests in other files are in `ELSEWHERE`, which is checked.
"""

from __future__ import annotations

import ast
import gc
import re
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import lmstudio_sync
from lmstudio_async import (
    AsyncClient,
    AsyncLLM,
    EmbeddedServer,
    LMStudioAuthenticationError,
    LMStudioCancelledError,
    LMStudioChannelClosedError,
    LMStudioConfigError,
    LMStudioServerError,
    LMStudioUnreachableError,
)
from lmstudio_async.testing import served
from tests.chat.shapes import Shelf
from tests.scripted_server import INSTANCE, MODEL, ScriptedServer, list_nothing, loaded_llm

Both = tuple[AsyncClient, ScriptedServer]

FAULTS = {
    1: "an operation that is cancelled or left goes on on the server",
    2: "a lost connection is lost for good",
    3: "a message of an unknown type ends the connection",
    4: "a call to an endpoint that the server does not know waits for ever",
    5: "the default client does not send its token",
    6: "the documented environment variable for the token is not read",
    7: "tools run at once although the limit forbids it",
    8: "the client runs on asyncio only",
    9: "a handle silently drives another instance that took its identifier",
    10: "the TTL can be set and never read",
    11: "the convenience functions report no progress of a load",
    12: "a misspelt setting is ignored",
    13: "False switches a setting on",
    14: "any setting of the GPU overwrites the user's split",
    15: "one odd value of a newer server breaks whole features",
    16: "a channel that closes early has no error of its own",
    17: "a client that is dropped stays for ever, and a closed one raises unrelated errors",
    18: "a client needs `with`, and a default client that failed stays broken",
    19: "the client connects five times before it is used",
    20: "the two packages are one text, written twice",
    21: "a schema refers to definitions that are not sent with it",
    22: "half of the tests need LM Studio",
}

#: Tests in other files, by the number of the fault.
ELSEWHERE = {
    1: ["test_ways_out.py::test_breaking_out_of_the_loop_cancels_the_load"],
    2: ["test_session.py::test_the_next_use_after_a_loss_makes_a_new_connection"],
    6: ["lifecycle/test_errors.py::test_token_argument_overrides_lm_api_token_and_lmstudio_api_token"],
    7: ["tools/test_running_tools.py::test_no_more_tools_run_at_once_than_the_limit_allows"],
    9: ["lifecycle/test_unloading.py::test_a_handle_never_drives_another_instance_with_its_identifier"],
    10: ["lifecycle/test_ttl.py::test_the_ttl_is_read_back_as_it_was_set"],
    11: ["documented/test_loading.py::test_model_and_the_convenience_functions_report_progress_too"],
    14: ["config/test_writing.py::test_a_gpu_ratio_alone_sends_no_gpu_split"],
    17: [
        "sync/test_calls.py::test_a_client_that_is_dropped_warns_and_closes",
        "sync/test_calls.py::test_a_closed_client_raises_connection_closed_error",
    ],
    18: [
        "sync/test_calls.py::test_a_client_can_be_closed_without_a_with_block",
        "sync/test_processes.py::test_a_client_that_could_not_connect_is_not_kept",
    ],
    19: ["test_session.py::test_nothing_is_connected_before_first_use"],
    20: ["sync/test_generate.py::test_the_committed_modules_are_up_to_date"],
    21: ["tools/test_definitions.py::test_enums_reach_the_tool_as_enums"],
}

TOKEN = "sk-lm-abcdefgh:ABCDEFGHIJKLMNOPQRST"


def names_in(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    return {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


def test_there_is_a_test_for_each_fault() -> None:
    here = {int(found[1]) for name in names_in(Path(__file__)) if (found := re.match(r"test_(\d+)_", name))}
    assert here | ELSEWHERE.keys() == FAULTS.keys() == set(range(1, 23))
    for places in ELSEWHERE.values():
        for place in places:
            file, _, name = place.partition("::")
            assert name in names_in(Path(__file__).parent / file), place


# -- 1: cancelling


async def break_out(llm: AsyncLLM) -> None:
    with pytest.warns(ResourceWarning, match="dropped half-way"):  # noqa: PT031
        async for _ in llm.respond_stream("Hi"):
            break
        gc.collect()


async def leave_the_block(llm: AsyncLLM) -> None:
    async with llm.complete_stream("Hi") as stream:
        await anext(stream)


async def run_out_of_time(llm: AsyncLLM) -> None:
    with anyio.move_on_after(3600) as scope:
        await llm.respond("Hi", on_first_token=scope.cancel)
    assert scope.cancelled_caught


async def raise_in_the_loop(llm: AsyncLLM) -> None:
    with pytest.raises(KeyError):
        async with llm.respond_stream("Hi") as stream:
            async for _ in stream:
                raise KeyError


@pytest.mark.parametrize("leave", [break_out, leave_the_block, run_out_of_time, raise_in_the_loop])
async def test_1_leaving_a_prediction_cancels_it_on_the_server(
    both: Both, leave: Callable[[AsyncLLM], Coroutine[Any, Any, None]]
) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leave, llm)
            channel = await server.next_message()
            await server.packet(channel, type="fragment", fragment={"content": "Hi"})
            assert (await server.next_message())["message"] == {"type": "cancel"}
            await server.packet(channel, type="success", stats={"stopReason": "userStopped"})


async def test_1_the_result_of_a_prediction_that_was_left_raises_cancelled_error(both: Both) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    stream = llm.respond_stream("Hi")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.start)
        channel = await server.next_message()
        tasks.start_soon(stream.aclose)
        await server.next_message()
        await server.packet(channel, type="success", stats={"stopReason": "userStopped"})

    # The official client raises the loop's own GeneratorExit, which no `except Exception` catches.
    with pytest.raises(LMStudioCancelledError):
        stream.result()


async def test_3_a_message_of_an_unknown_type_does_not_end_the_connection(both: Both) -> None:
    client, server = both
    await list_nothing(client, server)
    await server.say(type="keepAliveAck")
    await server.say(type="signalUpdate", subscribeId=7, patches=[])
    await server.say(type="somethingOfTheFuture", payload={"a": [1]})

    await list_nothing(client, server)
    assert server.connections == 1


async def test_4_a_call_to_an_unknown_endpoint_raises_an_error_at_once(tmp_path: Path) -> None:
    async with AsyncClient(EmbeddedServer(tmp_path)) as client:
        with anyio.fail_after(10), pytest.raises(LMStudioServerError, match="brewCoffee"):
            await client.call("system", "brewCoffee")
        assert await client.llm.list_loaded() == []


@pytest.fixture
def new_default_client() -> Iterator[None]:
    """Let the default client be created anew."""
    lmstudio_sync.close_default_client()
    yield
    lmstudio_sync.close_default_client()


@pytest.mark.usefixtures("new_default_client")
def test_5_the_default_client_uses_the_token_that_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(EmbeddedServer(tmp_path, api_tokens=[TOKEN], threads=1)) as address:
        with pytest.raises(LMStudioAuthenticationError), lmstudio_sync.Client(address) as guest:
            guest.list_loaded_models()

        monkeypatch.setenv("LMSTUDIO_HOST", address)
        lmstudio_sync.configure_default_client(api_token=TOKEN)
        assert lmstudio_sync.list_loaded_models() == []


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_8_a_client_runs_on_trio_as_on_asyncio(tmp_path: Path, backend: str) -> None:
    async def main() -> list[Any]:
        async with AsyncClient(EmbeddedServer(tmp_path)) as client:
            return list(await client.list_downloaded_models())

    assert anyio.run(main, backend=backend) == []


@pytest.mark.parametrize("typo", ["temprature", "maxTokns", "raw_tool"])
async def test_12_a_misspelt_setting_is_refused(both: Both, typo: str) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    with pytest.raises(LMStudioConfigError, match="Did you mean"):
        await llm.respond("Hi", config={typo: 1})  # type: ignore[arg-type]


async def test_13_false_switches_a_setting_off(both: Both) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    config: Any = {
        "max_tokens": False,
        "topPSampling": False,
        "repeat_penalty": False,
        "min_p_sampling": False,
    }
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: llm.respond("Hi", config=config))
        channel = await server.next_message()
        await server.packet(channel, type="success", stats={"stopReason": "eosFound"})

    (layer,) = channel["creationParameter"]["predictionConfigStack"]["layers"]
    assert len(layer["config"]["fields"]) == len(config)
    for field in layer["config"]["fields"]:
        assert field["value"]["checked"] is False
        assert field["value"]["value"] is not False


async def test_15_models_of_unknown_types_do_not_break_a_list(both: Both) -> None:
    client, server = both
    answers: list[Any] = []

    async def ask() -> None:
        answers.append(await client.list_downloaded_models())

    odd = [
        MODEL | {"modelKey": "odd-format", "format": "pte"},
        MODEL | {"modelKey": "painter", "type": "imageGen"},
        MODEL | {"modelKey": "drafter", "type": "drafter"},
    ]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await server.answer(await server.next_message(), [*odd, MODEL])

    keys = [model.model_key for model in answers[0]]
    assert {"odd-format", "qwen3-4b"} <= set(keys)
    assert [model.info.format for model in answers[0] if model.model_key == "odd-format"] == ["pte"]


async def test_15_an_unknown_setting_does_not_break_a_prediction(both: Both) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    stream = llm.respond_stream("Hi")
    split = {"strategy": "tensor", "disabledGpus": [], "priority": [], "customRatio": []}
    config = {"fields": [{"key": "load.gpuSplitConfig", "value": split}]}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.wait_for_result)
        channel = await server.next_message()
        await server.packet(channel, type="fragment", fragment={"content": "Hello"})
        await server.packet(
            channel,
            type="success",
            stats={"stopReason": "boredom"},
            modelInfo=INSTANCE,
            loadModelConfig=config,
            predictionConfig={"fields": []},
        )

    result = stream.result()
    assert (result.content, result.stats.stop_reason) == ("Hello", "boredom")


async def test_16_a_prediction_that_ends_without_a_result_raises_channel_closed_error(both: Both) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    async with anyio.create_task_group() as tasks:

        async def respond() -> None:
            with pytest.raises(LMStudioChannelClosedError, match="without a result"):
                await llm.respond("Hi")

        tasks.start_soon(respond)
        channel = await server.next_message()
        await server.packet(channel, type="fragment", fragment={"content": "Hi"})
        await server.close(channel)


@pytest.mark.usefixtures("new_default_client")
def test_18_a_default_client_of_a_wrong_host_can_be_closed_and_made_anew(tmp_path: Path) -> None:
    lmstudio_sync.configure_default_client("127.0.0.1:1")
    with pytest.raises(LMStudioUnreachableError):
        lmstudio_sync.list_loaded_models()
    lmstudio_sync.close_default_client()

    with served(EmbeddedServer(tmp_path, threads=1)) as address:
        lmstudio_sync.configure_default_client(address)
        assert lmstudio_sync.list_loaded_models() == []


async def test_21_the_definitions_that_a_schema_refers_to_are_sent_with_it(both: Both) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    stream = llm.respond_stream("Hi", response_format=Shelf)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.wait_for_result)
        channel = await server.next_message()
        await server.packet(channel, type="fragment", fragment={"content": '{"books": [], "color": "green"}'})
        await server.packet(channel, type="success", stats={"stopReason": "eosFound"})

    (layer,) = channel["creationParameter"]["predictionConfigStack"]["layers"]
    (field,) = layer["config"]["fields"]
    schema = field["value"]["jsonSchema"]
    assert schema["properties"]["books"]["items"] == {"$ref": "#/$defs/Book"}
    assert schema["$defs"].keys() == {"Book", "Author"}
    assert schema["properties"]["color"]["enum"] == ["red", "green"]
    # The parsed result has the enum member, not its value.
    assert stream.result().parsed.color.name == "GREEN"


async def test_22_a_server_for_tests_comes_with_the_package(tmp_path: Path) -> None:
    # Most tests here use this server, and the tests of the official package pass on it as well (tox -e official).
    async with EmbeddedServer(tmp_path) as server, AsyncClient(server) as client:
        assert await client.llm.list_loaded() == []
