"""Speculative decoding: a prediction names a draft model, and the server restarts the engine with it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import anyio
import pytest

import lmstudio_async as lms
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded._engine._engine import Engine
from lmstudio_async.embedded._engine._engine_spec import EngineSpec
from lmstudio_async.testing import ModelsFolder
from tests.embedded.engines import nothing_left_behind
from tests.embedded.raw_client import Json, RawClient, Refused, connected, query, stack, text_of
from tests.embedded.raw_predictions import ENDLESS, ask, begin, checked, first_fragment

COUNT = "one two three four five six seven eight nine ten eleven twelve"
WORDS = "on and on and so "
DRAFT = "speculativeDecoding."
#: A text that is longer than the context; each piece is a different token.
STORY = [f" w{number}" for number in range(1200)]
UNSUPPORTED = "generic.engineDoesNotSupportFeature"
LOADED_DRAFT = "llm.load.llama.speculativeDecoding."
DRAFTED = {DRAFT + "draftModel": "helper", "temperature": 0}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("acme/tiny-GGUF/tiny-Q8_0.gguf", script=COUNT)
    folder.add_llm("acme/helper-GGUF/helper-Q8_0.gguf", script=COUNT)
    folder.add_llm("acme/other-helper-GGUF/other-helper-Q8_0.gguf", script=COUNT)
    folder.add_llm("acme/stranger-GGUF/stranger-Q8_0.gguf", script=COUNT.upper())
    # This model has the right vocabulary, but the engine cannot load it.
    folder.add_llm("acme/unloadable-GGUF/unloadable-Q8_0.gguf", script=COUNT, architecture="unheard-of")
    folder.add_llm("acme/endless-GGUF/endless-Q8_0.gguf", script=WORDS, endless=True, context_length=ENDLESS)
    folder.add_llm("acme/chatty-GGUF/chatty-Q8_0.gguf", script=WORDS, endless=True)
    folder.add_llm("acme/story-GGUF/story-Q8_0.gguf", script=STORY)
    folder.add_llm("acme/story-helper-GGUF/story-helper-Q8_0.gguf", script=STORY)
    folder.add_llm("acme/dice-GGUF/dice-Q8_0.gguf", script=None, endless=True)
    folder.add_embedding("acme/embed-GGUF/embed-F32.gguf")
    return folder.folder


def engine_of(server: EmbeddedServer) -> Engine:
    (instance,) = server._state.instances.loaded("llm")
    return instance.engine


def drafts(packets: list[Json]) -> Json:
    """Return the stats about drafts."""
    return {name: value for name, value in packets[-1]["stats"].items() if "raft" in name}


async def waits(client: RawClient, key: str, count: int) -> None:
    """Wait until this many requests to an instance are queued."""
    with anyio.fail_after(20):
        while True:
            parameter = {"specifier": query(key), "throwIfNotFound": True}
            state = await client.call("getInstanceProcessingState", parameter)
            if state["queued"] == count:
                return


# -- effects of a draft model


async def test_a_prediction_with_a_draft_model_has_the_same_text_and_stats_of_drafts(
    client: RawClient,
) -> None:
    without = await ask(client, "tiny", {"temperature": 0})
    packets = await ask(client, "tiny", DRAFTED)
    assert text_of(packets) == text_of(without) == COUNT
    assert drafts(without) == {}
    found = drafts(packets)
    assert found.pop("usedDraftModelKey") == "helper"
    assert (
        found["totalDraftTokensCount"]
        == found["acceptedDraftTokensCount"] + found["rejectedDraftTokensCount"]
    )
    assert found["acceptedDraftTokensCount"] > 0
    assert found["ignoredDraftTokensCount"] == 0
    flags = [packet["fragment"]["containsDrafted"] for packet in packets if packet["type"] == "fragment"]
    assert flags.count(True) == found["acceptedDraftTokensCount"]
    assert not flags[0]


async def test_drafts_are_counted_in_a_whole_answer_that_is_longer_than_the_context(
    client: RawClient,
) -> None:
    config = {**DRAFTED, DRAFT + "draftModel": "story-helper", "contextOverflowPolicy": "rollingWindow"}
    packets = await ask(client, "story", config)
    assert text_of(packets) == "".join(STORY)
    assert packets[-1]["stats"]["stopReason"] == "eosFound"
    found = drafts(packets)
    flags = [packet["fragment"]["containsDrafted"] for packet in packets if packet["type"] == "fragment"]
    assert flags.count(True) == found["acceptedDraftTokensCount"] > len(STORY) // 2


async def test_the_draft_model_stays_loaded_until_a_prediction_names_none(
    server: EmbeddedServer, client: RawClient
) -> None:
    await ask(client, "tiny", DRAFTED)
    pid = engine_of(server).pid
    assert drafts(await ask(client, "tiny", DRAFTED))["usedDraftModelKey"] == "helper"
    assert engine_of(server).pid == pid
    assert drafts(await ask(client, "tiny")) == {}
    assert engine_of(server).spec.draft_model_path is None
    found = drafts(await ask(client, "tiny", {**DRAFTED, DRAFT + "draftModel": "other-helper"}))
    assert found["usedDraftModelKey"] == "other-helper"
    (info,) = await client.call("listLoaded")
    assert info["identifier"] == "tiny"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (16, 0, 0.75)),
        ({"numDraftTokensExact": 3}, (3, 0, 0.0)),
        ({"maxTokensToDraft": 5, "minDraftLengthToConsider": 2}, (5, 2, 0.75)),
        ({"minContinueDraftingProbability": 0.5}, (16, 0, 0.5)),
    ],
)
async def test_the_settings_of_a_prediction_reach_the_draft_model(
    server: EmbeddedServer, client: RawClient, settings: Json, expected: tuple[Any, ...]
) -> None:
    config = {**DRAFTED, **{DRAFT + name: value for name, value in settings.items()}}
    assert text_of(await ask(client, "tiny", config)) == COUNT
    spec = engine_of(server).spec
    found = (spec.draft_max_tokens, spec.draft_min_tokens, spec.draft_min_probability)
    assert found == pytest.approx(expected)


async def test_an_uncertain_draft_model_proposes_nothing_at_a_minimum_probability_of_one(
    client: RawClient,
) -> None:
    base = {"temperature": 0, "maxPredictedTokens": checked(20), DRAFT + "draftModel": "dice"}
    sure = drafts(await ask(client, "dice", {**base, DRAFT + "minContinueDraftingProbability": 1}))
    assert (sure["usedDraftModelKey"], sure["totalDraftTokensCount"]) == ("dice", 0)
    any_guess = drafts(await ask(client, "dice", {**base, DRAFT + "minContinueDraftingProbability": 0}))
    assert any_guess["totalDraftTokensCount"] > 0


async def test_a_draft_model_can_be_preloaded(server: EmbeddedServer, client: RawClient) -> None:
    await client.load("tiny", loadConfigStack=stack({"llm.load.contextLength": 512}))
    await client.call("preloadDraftModel", {"specifier": query("tiny"), "draftModelKey": "helper"})
    pid = engine_of(server).pid
    assert drafts(await ask(client, "tiny", DRAFTED))["acceptedDraftTokensCount"] > 0
    assert engine_of(server).pid == pid


async def test_a_draft_model_of_the_load_config_is_used_by_predictions_that_name_none(
    server: EmbeddedServer, client: RawClient
) -> None:
    config = {
        LOADED_DRAFT + "draftModel": "helper",
        LOADED_DRAFT + "draftMaxTokens": 4,
        "llm.load.contextLength": 512,
    }
    await client.load("tiny", loadConfigStack=stack(config))
    pid = engine_of(server).pid
    assert drafts(await ask(client, "tiny"))["usedDraftModelKey"] == "helper"
    assert drafts(await ask(client, "tiny", DRAFTED))["usedDraftModelKey"] == "helper"
    assert engine_of(server).pid == pid
    exactly = {"temperature": 0, DRAFT + "numDraftTokensExact": 2}
    assert drafts(await ask(client, "tiny", exactly))["usedDraftModelKey"] == "helper"
    assert engine_of(server).spec.draft_max_tokens == 2
    await ask(client, "tiny")
    assert engine_of(server).spec.draft_max_tokens == 4


async def test_a_draft_model_works_through_the_client(models: Path) -> None:
    async with lms.AsyncClient(EmbeddedServer(models, threads=1)) as client:
        model = await client.llm.load_new_instance("tiny")
        await model.preload_draft_model("helper")
        answer = await model.respond("hi", config={"draft_model": "helper", "temperature": 0})
        assert answer.content == COUNT
        assert answer.stats.used_draft_model_key == "helper"
        assert (answer.stats.accepted_draft_tokens_count or 0) > 0


# -- order of predictions that need different engines


async def test_a_prediction_with_another_draft_model_waits_for_the_running_ones(client: RawClient) -> None:
    running = await begin(client, "endless")
    await first_fragment(client, running)
    waiting = await begin(
        client, "endless", {DRAFT + "draftModel": "chatty", "maxPredictedTokens": checked(20)}
    )
    await waits(client, "endless", 1)
    behind = await begin(client, "endless", {"maxPredictedTokens": checked(2)})
    await waits(client, "endless", 2)
    parameter = {"specifier": query("endless"), "throwIfNotFound": True}
    assert (await client.call("getInstanceProcessingState", parameter))["status"] == "generating"
    await client.cancel(running)
    assert (await client.packets(running))[-1]["stats"]["stopReason"] == "userStopped"
    assert drafts(await client.packets(waiting))["usedDraftModelKey"] == "chatty"
    assert drafts(await client.packets(behind)) == {}


async def test_a_waiting_prediction_can_be_cancelled(server: EmbeddedServer, client: RawClient) -> None:
    running = await begin(client, "endless")
    await first_fragment(client, running)
    pid = engine_of(server).pid
    waiting = await begin(client, "endless", {DRAFT + "draftModel": "chatty"})
    await waits(client, "endless", 1)
    await client.cancel(waiting)
    packets = await client.packets(waiting)
    assert (text_of(packets), packets[-1]["stats"]["stopReason"]) == ("", "userStopped")
    await waits(client, "endless", 0)
    # The predictions that were queued behind it do not have to wait any more.
    assert text_of(await ask(client, "endless", {"maxPredictedTokens": checked(1)}))
    assert engine_of(server).pid == pid
    await client.cancel(running)
    await client.packets(running)


async def test_many_predictions_that_need_different_engines_are_all_answered(client: RawClient) -> None:
    await ask(client, "tiny")
    channels = [await begin(client, "tiny", {} if number % 3 else DRAFTED) for number in range(9)]
    for number, channel in enumerate(channels):
        packets = await client.packets(channel)
        assert text_of(packets) == COUNT
        assert bool(drafts(packets)) is (number % 3 == 0)


async def test_a_prediction_can_have_its_own_number_of_threads(
    server: EmbeddedServer, client: RawClient
) -> None:
    assert text_of(await ask(client, "tiny", {"llama.cpuThreads": 2})) == COUNT
    assert engine_of(server).spec.threads == 2
    assert text_of(await ask(client, "tiny", {"llama.cpuThreads": 1})) == COUNT
    assert engine_of(server).spec.threads == 1


async def test_an_instance_whose_file_is_gone_refuses_a_restart_and_stays_loaded(tmp_path: Path) -> None:
    folder = ModelsFolder(tmp_path)
    path = folder.add_llm("tiny", script="Hello there")
    async with EmbeddedServer(tmp_path, threads=1) as server, lms.AsyncClient(server) as client:
        llm = await client.llm.model("tiny")
        path.unlink()
        with pytest.raises(lms.LMStudioServerError, match=r"(?s)tiny.*cannot be read .*stays loaded"):
            await llm.respond("Go", config={"cpu_threads": 2})
        assert (await llm.respond("Go")).content == "Hello there"


async def test_counting_tokens_does_not_restart_the_engine(server: EmbeddedServer, client: RawClient) -> None:
    await ask(client, "tiny", DRAFTED)
    pid = engine_of(server).pid
    counted = await client.call("countTokens", {"specifier": query("tiny"), "inputString": "abc"})
    assert counted["tokenCount"] == 3
    parameter = {
        "specifier": query("tiny"),
        "history": {"messages": []},
        "predictionConfigStack": stack(),
        "opts": {},
    }
    assert await client.call("applyPromptTemplate", parameter)
    assert engine_of(server).pid == pid


# -- failures


@pytest.mark.parametrize(
    ("key", "words", "code"),
    [
        ("nobody", 'the draft model "nobody"', "generic.pathNotFound"),
        ("embed", "embed", "generic.domainMismatch"),
        ("stranger", r'"stranger" cannot draft for "tiny": its vocabulary is another one', UNSUPPORTED),
        ("unloadable", "draft model.*unheard-of", None),
    ],
)
async def test_a_draft_model_that_cannot_draft_is_refused_and_the_model_stays_usable(
    client: RawClient, key: str, words: str, code: str | None
) -> None:
    await client.load("tiny", loadConfigStack=stack({"llm.load.contextLength": 512}))
    with pytest.raises(Refused, match=words) as refused:
        await ask(client, "tiny", {DRAFT + "draftModel": key})
    assert refused.value.code == code
    with pytest.raises(Refused, match=words):
        await client.call("preloadDraftModel", {"specifier": query("tiny"), "draftModelKey": key})
    assert text_of(await ask(client, "tiny")) == COUNT


@pytest.mark.parametrize(
    ("key", "words"),
    [("nobody", "draft model"), ("stranger", "vocabulary"), ("embed", "embed")],
)
async def test_a_model_is_not_loaded_with_a_draft_model_that_cannot_draft(
    client: RawClient, key: str, words: str
) -> None:
    with pytest.raises(Refused, match=words):
        await client.load("tiny", loadConfigStack=stack({LOADED_DRAFT + "draftModel": key}))
    assert await client.call("listLoaded") == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"maxTokensToDraft": 5}, "no meaning without a draft model"),
        ({"numDraftTokensExact": 3}, "no meaning without a draft model"),
        (
            {"draftModel": "helper", "minDraftLengthToConsider": 20},
            "at most the number of tokens to draft, 16",
        ),
        ({"draftModel": "helper", "numDraftTokensExact": 3, "maxTokensToDraft": 5}, "leaves no choice"),
        ({"draftModel": "helper", "numReuseTokens": 5}, "numReuseTokens"),
    ],
)
async def test_contradictory_draft_settings_are_refused(
    client: RawClient, settings: Json, words: str
) -> None:
    with pytest.raises(Refused, match=words):
        await ask(client, "tiny", {DRAFT + name: value for name, value in settings.items()})


@pytest.mark.parametrize("path", ["first", "draft"])
async def test_a_crash_is_noticed_before_and_after_a_restart_of_the_engine(
    server: EmbeddedServer, client: RawClient, path: str
) -> None:
    await ask(client, "tiny", DRAFTED if path == "draft" else {})
    (instance,) = server._state.instances.loaded()
    with anyio.fail_after(20):
        os.kill(instance.engine.pid, signal.SIGKILL)
        await instance.gone.wait()
    assert await client.call("listLoaded") == []
    assert text_of(await ask(client, "tiny")) == COUNT


@pytest.fixture
def held_start(monkeypatch: pytest.MonkeyPatch) -> anyio.Event:
    """Keep engines with a draft model from becoming ready; the event is set once such an engine is being started."""
    starting = anyio.Event()
    start = Engine.start

    async def begin_and_wait(spec: EngineSpec, *more: Any) -> Engine:
        engine = await start(spec, *more)
        if spec.draft_model_path is None:
            return engine
        starting.set()
        try:
            await anyio.sleep_forever()
        finally:
            await engine.aclose()
        raise AssertionError

    monkeypatch.setattr(Engine, "start", begin_and_wait)
    return starting


async def test_a_model_can_be_unloaded_while_its_engine_restarts(
    server: EmbeddedServer, client: RawClient, held_start: anyio.Event
) -> None:
    with nothing_left_behind():
        channel = await begin(client, "tiny", DRAFTED)
        await held_start.wait()
        async with connected(server) as other:
            counting = {"specifier": query("tiny"), "inputString": "abc"}
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_check_refused, other, counting)
                await waits(client, "tiny", 2)
                await client.call("unloadModel", {"identifier": "tiny"})
        packets = await client.packets(channel)
        assert packets[-1]["stats"]["stopReason"] == "modelUnloaded"


async def _check_refused(client: RawClient, counting: Json) -> None:
    with pytest.raises(Refused) as refused:
        await client.call("countTokens", counting)
    assert refused.value.code == "generic.specificModelUnloaded"


async def test_a_prediction_is_cancelled_at_once_while_the_engine_restarts(
    client: RawClient, held_start: anyio.Event
) -> None:
    channel = await begin(client, "tiny", DRAFTED)
    await held_start.wait()
    await client.cancel(channel)
    assert (await client.packets(channel))[-1]["stats"]["stopReason"] == "userStopped"
    # The server abandons the start of that engine, however long it would take.
    assert text_of(await ask(client, "tiny")) == COUNT


async def test_a_server_that_stops_while_an_engine_restarts_leaves_no_worker(
    models: Path, held_start: anyio.Event
) -> None:
    with nothing_left_behind():
        async with EmbeddedServer(models, threads=1) as server, connected(server) as client:
            await begin(client, "tiny", DRAFTED)
            await held_start.wait()


async def test_a_model_whose_engine_cannot_be_restarted_is_unloaded_with_an_error(
    server: EmbeddedServer, client: RawClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ask(client, "tiny")
    (instance,) = server._state.instances.loaded()
    monkeypatch.setattr("lmstudio_async.embedded._engine._worker_process.sys.executable", "/nowhere/python")
    with pytest.raises(Refused, match="could not be started again"):
        await ask(client, "tiny", DRAFTED)
    with anyio.fail_after(20):
        await instance.gone.wait()
    assert await client.call("listLoaded") == []
