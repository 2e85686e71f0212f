"""Loading, finding and unloading models, in raw frames."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.testing import ModelsFolder
from tests.embedded.raw_client import (
    INFO_MEMBERS,
    INSTANCE_MEMBERS,
    RawClient,
    Refused,
    connected,
    query,
    stack,
)
from tests.processes import HeldLoads, is_running, needs_proc, worker_pids, workers


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("acme/tiny-GGUF/tiny-Q4_K_M.gguf", script="Hello there my friend")
    folder.add_llm("acme/other-GGUF/other-Q8_0.gguf", script="Something else")
    folder.add_llm("acme/twins-GGUF/twins-Q4_K_M.gguf", script="four bits")
    folder.add_llm("acme/twins-GGUF/twins-Q8_0.gguf", script="eight bits")
    folder.add_embedding("acme/embed-GGUF/embed-F32.gguf")
    folder.add_broken("acme/broken-GGUF/broken-Q8_0.gguf", "truncated")
    return folder.folder


# -- loading


async def test_a_load_sends_the_model_its_progress_and_the_instance(client: RawClient) -> None:
    channel = await client.open("loadModel", {"modelKey": "tiny", "loadConfigStack": stack()})
    packets = await client.packets(channel)
    assert packets[0]["type"] == "resolved"
    assert set(packets[0]) == {"type", "info"}  # no "ambiguous": null
    assert set(packets[0]["info"]) == INFO_MEMBERS
    progress = [packet["progress"] for packet in packets[1:-1]]
    assert progress == sorted(progress)
    assert (progress[0], progress[-1]) == (0, 1)
    assert packets[-1]["type"] == "success"
    info = packets[-1]["info"]
    assert set(info) == INSTANCE_MEMBERS
    assert (info["identifier"], info["ttlMs"], info["lastUsedTime"]) == ("tiny", None, None)
    assert await client.call("listLoaded") == [info]


async def test_a_second_load_of_a_key_gets_a_number(client: RawClient) -> None:
    identifiers = [(await client.load("tiny"))["identifier"] for _ in range(3)]
    assert identifiers == ["tiny", "tiny:2", "tiny:3"]


async def test_an_identifier_in_use_is_refused_in_one_line_without_a_code(client: RawClient) -> None:
    await client.load("tiny", "mine")
    with pytest.raises(Refused, match="already exists") as refused:
        await client.load("tiny", "mine")
    assert set(refused.value.error) == {"title", "rootTitle", "stack"}


@pytest.mark.parametrize(
    ("key", "code"),
    [("missing", "generic.pathNotFound"), ("text-embedding-embed", "generic.domainMismatch")],
)
async def test_a_key_of_no_language_model_is_refused_with_its_code(
    client: RawClient, key: str, code: str
) -> None:
    with pytest.raises(Refused) as refused:
        await client.load(key)
    assert refused.value.code == code


async def test_an_ambiguous_key_names_the_others(client: RawClient) -> None:
    channel = await client.open("loadModel", {"modelKey": "twins", "loadConfigStack": stack()})
    packets = await client.packets(channel)
    assert packets[0]["ambiguous"] == ["twins@q4_k_m", "twins@q8_0"]


async def test_a_broken_model_is_refused_with_a_reason(client: RawClient) -> None:
    with pytest.raises(Refused) as refused:
        await client.load("broken")
    assert refused.value.error["title"]
    assert await client.call("listLoaded") == []


async def test_the_load_config_of_an_instance_can_be_read(client: RawClient) -> None:
    info = await client.load("tiny", loadConfigStack=stack({"llm.load.contextLength": 512}))
    assert info["contextLength"] == 512
    config = await client.call("getLoadConfig", {"specifier": query("tiny")})
    assert {"key": "llm.load.contextLength", "value": 512} in config["fields"]
    for specifier in (
        query("tiny"),
        query(),
        {"type": "instanceReference", "instanceReference": info["instanceReference"]},
    ):
        found = await client.call("getModelInfo", {"specifier": specifier, "throwIfNotFound": True})
        assert found["identifier"] == "tiny"


async def test_an_unknown_config_key_is_refused_by_name(client: RawClient) -> None:
    with pytest.raises(Refused, match=r"llm\.load\.nonsense"):
        await client.load("tiny", loadConfigStack=stack({"llm.load.nonsense": 1}))


async def test_throw_if_not_found_chooses_between_an_error_and_no_result(client: RawClient) -> None:
    with pytest.raises(Refused) as refused:
        await client.call("getModelInfo", {"specifier": query("nobody"), "throwIfNotFound": True})
    assert refused.value.code == "generic.noModelMatchingQuery"
    assert refused.value.error["displayData"]["query"] == {"identifier": "nobody", "domain": "llm"}
    await client.send(
        {"type": "rpcCall", "endpoint": "getModelInfo", "callId": 99,
         "parameter": {"specifier": query("nobody"), "throwIfNotFound": False}}
    )  # fmt: skip
    assert await client.next() == {"type": "rpcResult", "callId": 99}


async def test_an_unloaded_instance_is_gone_with_its_process(
    server: EmbeddedServer, client: RawClient
) -> None:
    info = await client.load("tiny", "mine")
    (pid,) = worker_pids(server)
    await client.send(
        {"type": "rpcCall", "endpoint": "unloadModel", "callId": 50, "parameter": {"identifier": "mine"}}
    )
    assert await client.next() == {"type": "rpcResult", "callId": 50}
    assert not is_running(pid)
    assert await client.call("listLoaded") == []
    with pytest.raises(Refused, match="Model is unloaded") as refused:
        await client.call(
            "tokenize",
            {
                "specifier": {"type": "instanceReference", "instanceReference": info["instanceReference"]},
                "inputString": "x",
            },
        )
    assert refused.value.code == "generic.specificModelUnloaded"
    with pytest.raises(Refused):
        await client.call("unloadModel", {"identifier": "mine"})


async def test_get_or_load_loads_once_and_then_finds_the_instance(client: RawClient) -> None:
    creation = {"identifier": "tiny", "loadConfigStack": stack()}
    packets = await client.packets(await client.open("getOrLoad", creation))
    assert packets[0]["type"] == "startLoading"
    assert packets[0]["identifier"] == "tiny"
    assert {packet["type"] for packet in packets[1:-1]} == {"loadProgress"}
    assert packets[-1]["type"] == "loadSuccess"
    assert packets[-1]["info"]["ttlMs"] == 3_600_000
    again = await client.packets(await client.open("getOrLoad", creation))
    assert again == [{"type": "alreadyLoaded", "info": packets[-1]["info"]}]


async def test_a_just_in_time_load_replaces_the_previous_one(client: RawClient) -> None:
    explicit = await client.load("tiny", "stays")
    for key in ("tiny", "other"):
        packets = await client.packets(
            await client.open("getOrLoad", {"identifier": f"acme/{key}-GGUF", "loadConfigStack": stack()})
        )
    # The explicitly loaded instance was used for the first key, so the second load had none to unload.
    assert [packet["type"] for packet in packets if packet["type"] == "unloadingOtherJITModel"] == []
    packets = await client.packets(
        await client.open("getOrLoad", {"identifier": "twins@q8_0", "loadConfigStack": stack()})
    )
    (evicted,) = (packet["info"] for packet in packets if packet["type"] == "unloadingOtherJITModel")
    assert evicted["modelKey"] == "other"
    assert [info["identifier"] for info in await client.call("listLoaded")] == ["stays", "twins@q8_0"]
    assert explicit["identifier"] == "stays"


async def test_jit_ttl_of_the_server_is_the_ttl_of_just_in_time_loads(models: Path) -> None:
    for jit_ttl, expected in ((2.5, 2500), (None, None)):
        async with EmbeddedServer(models, threads=1, jit_ttl=jit_ttl) as server, connected(server) as raw:
            packets = await raw.packets(
                await raw.open("getOrLoad", {"identifier": "tiny", "loadConfigStack": stack()})
            )
            assert packets[-1]["info"]["ttlMs"] == expected


@needs_proc
async def test_a_cancelled_load_ends_with_an_error_and_leaves_no_process(
    client: RawClient, held_loads: HeldLoads
) -> None:
    channel = await client.open(
        "loadModel", {"modelKey": "tiny", "identifier": "mine", "loadConfigStack": stack()}
    )
    await held_loads.next()
    held_loads.hold_no_more()
    await client.cancel(channel)
    with pytest.raises(Refused, match="cancelled"):
        await client.packets(channel)
    assert workers() == set()
    assert await client.call("listLoaded") == []
    assert (await client.load("tiny", "mine"))["identifier"] == "mine"


@needs_proc
async def test_a_cancel_sent_right_after_the_load_cancels_it(
    client: RawClient, held_loads: HeldLoads
) -> None:
    channel = await client.open("loadModel", {"modelKey": "tiny", "loadConfigStack": stack()})
    await client.cancel(channel)
    with pytest.raises(Refused, match="cancelled"):
        await client.packets(channel)
    assert await client.call("listLoaded") == []


@needs_proc
async def test_a_load_ends_with_its_connection(
    server: EmbeddedServer, client: RawClient, held_loads: HeldLoads
) -> None:
    async with connected(server) as other:
        await other.open("loadModel", {"modelKey": "tiny", "identifier": "lost", "loadConfigStack": stack()})
        await held_loads.next()
        held_loads.hold_no_more()
    # The identifier becomes free when the load has ended; until then an attempt is refused.
    with anyio.fail_after(20):
        while True:
            try:
                info = await client.load("tiny", "lost")
            except Refused:
                continue
            break
    assert await client.call("listLoaded") == [info]


async def test_processing_state_is_idle_without_requests(client: RawClient) -> None:
    await client.load("tiny")
    state = await client.call(
        "getInstanceProcessingState", {"specifier": query("tiny"), "throwIfNotFound": True}
    )
    assert state == {"status": "idle", "queued": 0}


async def test_the_memory_estimate_of_a_load_depends_on_its_context(client: RawClient) -> None:
    estimates = [
        await client.call(
            "estimateModelUsage",
            {
                "modelKey": "tiny",
                "deviceIdentifier": None,
                "loadConfigStack": stack({"llm.load.contextLength": length}),
            },
        )
        for length in (512, 1024)
    ]
    one, two = (estimate["memory"] for estimate in estimates)
    assert one["modelBytes"] > 0
    assert two["contextBytes"] == 2 * one["contextBytes"] == 1024 * 2 * 32 * 2
    assert two["totalBytes"] == two["modelBytes"] + two["contextBytes"]
    assert estimates[0]["passesGuardrails"] is True


async def test_an_estimate_is_refused_with_the_error_of_the_load(server: EmbeddedServer) -> None:
    config = stack({"llm.load.llama.speculativeDecoding.draftModel": "tiny"})
    request = {"modelKey": "text-embedding-embed", "deviceIdentifier": None, "loadConfigStack": config}
    async with connected(server, "embedding") as raw:
        with pytest.raises(Refused, match="not a setting for a model of type 'embedding'") as load:
            await raw.load("text-embedding-embed", loadConfigStack=config)
        with pytest.raises(Refused) as estimate:
            await raw.call("estimateModelUsage", request)
    assert estimate.value.error["title"] == load.value.error["title"]
