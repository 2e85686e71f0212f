"""Predictions of the embedded server: the stream, the end, and the prompt of the model."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

import lmstudio_async as lms
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded._engine._engine import Engine
from lmstudio_async.embedded._prediction._template_messages import messages_of
from lmstudio_async.embedded._timing import ServerTiming
from lmstudio_async.testing import ModelsFolder
from tests.embedded.raw_client import Json, RawClient, Refused, connected, query, stack, text_of
from tests.embedded.raw_predictions import (
    ENDLESS,
    PREFIX,
    STATS_MEMBERS,
    ask,
    begin,
    checked,
    first_fragment,
    message,
    user,
)
from tests.processes import go_on, needs_proc, stop


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("acme/tiny-GGUF/tiny-Q8_0.gguf", script="Hello there my friend")
    folder.add_llm("acme/talker-GGUF/talker-Q8_0.gguf", script="on and on and so ", endless=True)
    folder.add_llm(
        "acme/endless-GGUF/endless-Q8_0.gguf", script="on and on ", endless=True, context_length=ENDLESS
    )
    folder.add_llm("acme/unicode-GGUF/unicode-Q8_0.gguf", script=["Gr", "üße", " 🦙", " fin"])
    return folder.folder


# -- the stream


async def test_an_answer_is_streamed_and_ends_with_its_stats_and_configs(client: RawClient) -> None:
    packets = await ask(client, "tiny")
    assert text_of(packets) == "Hello there my friend"
    success = packets[-1]
    assert set(success) == {"type", "stats", "modelInfo", "loadModelConfig", "predictionConfig"}
    stats = success["stats"]
    assert set(stats) == STATS_MEMBERS
    assert stats["stopReason"] == "eosFound"
    assert all(type(stats[name]) is int for name in STATS_MEMBERS if name.endswith("Count"))
    assert stats["promptTokensCount"] + stats["predictedTokensCount"] == stats["totalTokensCount"]
    assert 0 < stats["timeToFirstTokenSec"] <= stats["totalTimeSec"]
    assert success["modelInfo"]["lastUsedTime"] is None
    assert {"key": "llm.load.contextLength", "value": 512} in success["loadModelConfig"]["fields"]
    assert {"key": "llm.prediction.temperature", "value": 0.8} in success["predictionConfig"]["fields"]
    (info,) = await client.call("listLoaded")
    assert info["lastUsedTime"] is not None


async def test_every_fragment_has_all_members(client: RawClient) -> None:
    fragments = [packet["fragment"] for packet in await ask(client, "tiny") if packet["type"] == "fragment"]
    assert fragments[0] == {
        "content": "Hello", "tokensCount": 1, "containsDrafted": False, "reasoningType": "none", "isStructural": False
    }  # fmt: skip
    assert [fragment["content"] for fragment in fragments] == ["Hello", " there", " my", " friend"]


async def test_prompt_processing_progress_goes_from_zero_to_one_before_the_text(client: RawClient) -> None:
    for _ in range(2):  # the second time most of it is in the engine's cache
        packets = await ask(client, "talker", {"maxPredictedTokens": checked(2)}, user("hi " * 130))
        kinds = [packet["type"] for packet in packets]
        count = kinds.index("fragment")
        assert set(kinds[:count]) == {"promptProcessingProgress"}
        progress = [packet["progress"] for packet in packets[:count]]
        assert progress == sorted(progress)
        assert (progress[0], progress[-1]) == (0, 1)
        total = packets[-1]["stats"]["promptTokensCount"]
        details = packets[count - 1]["details"]
        assert details["totalPromptTokenCount"] == details["processedPromptTokenCount"] == total
        assert details["unprocessedPromptTokenCount"] == 0


async def test_multibyte_characters_are_streamed_whole(client: RawClient) -> None:
    assert text_of(await ask(client, "unicode")) == "Grüße 🦙 fin"


async def test_many_answers_at_once_are_all_complete(client: RawClient) -> None:
    channels = [await begin(client, "tiny") for _ in range(8)]
    for channel in channels:
        assert text_of(await client.packets(channel)) == "Hello there my friend"


@needs_proc
async def test_the_server_repeats_the_progress_while_the_engine_is_silent(models: Path) -> None:
    timing = ServerTiming(progress_seconds=0.03)
    async with EmbeddedServer(models, threads=1, _timing=timing) as server, connected(server) as raw:
        await raw.load("tiny")
        (instance,) = server._state.instances.loaded()
        await stop(instance.engine.pid)
        try:
            channel = await begin(raw, "tiny")
            packets = [await raw.packet(channel) for _ in range(3)]
        finally:
            go_on(instance.engine.pid)
        assert [packet and packet["progress"] for packet in packets] == [0, 0, 0]
        assert text_of(await raw.packets(channel)) == "Hello there my friend"


# -- the end


@pytest.mark.parametrize(
    ("config", "text", "reason"),
    [
        ({"maxPredictedTokens": checked(2)}, "Hello there", "maxPredictedTokensReached"),
        ({"stopStrings": ["my fr"]}, "Hello there ", "stopStringFound"),
        ({"stopStrings": [], "maxPredictedTokens": {"checked": False, "value": 1}}, "Hello there my friend", "eosFound"),
    ],
)  # fmt: skip
async def test_an_answer_ends_at_the_limit_or_stop_string_of_the_config(
    client: RawClient, config: Json, text: str, reason: str
) -> None:
    packets = await ask(client, "tiny", config)
    assert text_of(packets) == text
    assert packets[-1]["stats"]["stopReason"] == reason
    assert packets[-1]["stats"].get("stopString") == ("my fr" if reason == "stopStringFound" else None)


async def test_an_answer_ends_at_the_end_of_the_context(client: RawClient) -> None:
    packets = await ask(client, "talker")
    assert packets[-1]["stats"]["stopReason"] == "contextLengthReached"
    assert packets[-1]["stats"]["totalTokensCount"] in (512, 513)


async def test_a_cancelled_answer_succeeds_with_its_partial_text(client: RawClient) -> None:
    channel = await begin(client, "endless")
    await first_fragment(client, channel)
    await client.cancel(channel)
    packets = await client.packets(channel)
    assert packets[-1]["type"] == "success"
    assert packets[-1]["stats"]["stopReason"] == "userStopped"
    assert packets[-1]["stats"]["predictedTokensCount"] >= 1
    assert set(packets[-1]["stats"]) == STATS_MEMBERS
    state = await client.call(
        "getInstanceProcessingState", {"specifier": query("endless"), "throwIfNotFound": True}
    )
    assert state["status"] == "idle"


async def test_a_cancel_right_after_the_request_ends_the_answer(client: RawClient) -> None:
    channel = await begin(client, "endless")
    await client.cancel(channel)
    assert (await client.packets(channel))[-1]["stats"]["stopReason"] == "userStopped"


async def test_an_instance_is_busy_while_it_answers(client: RawClient) -> None:
    channel = await begin(client, "endless")
    await first_fragment(client, channel)
    state = await client.call("getInstanceProcessingState", {"specifier": query(), "throwIfNotFound": True})
    await client.cancel(channel)
    await client.packets(channel)
    assert state == {"status": "generating", "queued": 0}


async def test_unloading_ends_the_answer_with_model_unloaded(
    server: EmbeddedServer, client: RawClient
) -> None:
    channel = await begin(client, "endless")
    await first_fragment(client, channel)
    async with connected(server) as other:
        await other.call("unloadModel", {"identifier": "endless"})
    packets = await client.packets(channel)
    assert packets[-1]["stats"]["stopReason"] == "modelUnloaded"


async def test_a_crash_of_the_engine_is_an_error_and_disturbs_no_other_instance(
    server: EmbeddedServer, client: RawClient
) -> None:
    await client.load("tiny")
    channel = await begin(client, "endless")
    await first_fragment(client, channel)
    endless = next(each for each in server._state.instances.loaded() if each.identifier == "endless")
    os.kill(endless.engine.pid, signal.SIGKILL)
    with pytest.raises(Refused, match="crashed"):
        await client.packets(channel)
    assert text_of(await ask(client, "tiny")) == "Hello there my friend"
    assert [info["identifier"] for info in await client.call("listLoaded")] == ["tiny"]


async def test_an_answer_ends_when_its_client_disconnects(server: EmbeddedServer, client: RawClient) -> None:
    async with connected(server) as other:
        channel = await begin(other, "endless", {})
        await first_fragment(other, channel)
    with anyio.fail_after(20):
        while (
            await client.call("getInstanceProcessingState", {"specifier": query(), "throwIfNotFound": True})
        )["status"] != "idle":
            pass


# -- messages


async def test_a_chat_reaches_the_model_unchanged(client: RawClient) -> None:
    await client.load("tiny")
    history = {
        "messages": [message("system", "Be brief."), user("hi"), message("assistant", "ho"), user("again")]
    }
    parameter = {
        "specifier": query("tiny"),
        "history": history,
        "predictionConfigStack": {"layers": []},
        "opts": {},
    }
    formatted = (await client.call("applyPromptTemplate", parameter))["formatted"]
    assert formatted == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
        "<|im_start|>assistant\nho<|im_end|>\n<|im_start|>user\nagain<|im_end|>\n<|im_start|>assistant\n"
    )


async def test_an_assistant_message_at_the_end_is_continued(client: RawClient) -> None:
    await client.load("tiny")
    history = {"messages": [user("hi"), message("assistant", "Well, ")]}
    parameter = {
        "specifier": query("tiny"),
        "history": history,
        "predictionConfigStack": {"layers": []},
        "opts": {},
    }
    formatted = (await client.call("applyPromptTemplate", parameter))["formatted"]
    assert formatted.endswith("<|im_start|>assistant\nWell, ")
    assert text_of(await ask(client, "tiny", {}, user("hi"), message("assistant", "Well, "))).startswith(
        "Hello"
    )


async def test_a_system_prompt_in_the_config_comes_before_the_messages(client: RawClient) -> None:
    await client.load("tiny")
    parameter = {
        "specifier": query("tiny"),
        "history": {"messages": [user("hi")]},
        "predictionConfigStack": stack({PREFIX + "systemPrompt": "Be kind."}),
        "opts": {},
    }
    formatted = (await client.call("applyPromptTemplate", parameter))["formatted"]
    assert formatted.startswith("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n")


async def test_a_manual_prompt_template_is_used_instead_of_the_models(client: RawClient) -> None:
    await client.load("tiny")
    manual = {
        "beforeSystem": "S:", "afterSystem": "|", "beforeUser": "U:", "afterUser": "|", "beforeAssistant": "A:",
        "afterAssistant": "|",
    }  # fmt: skip
    template = {"type": "manual", "manualPromptTemplate": manual, "stopStrings": [" my"]}
    config = {"promptTemplate": template}
    parameter = {
        "specifier": query("tiny"),
        "history": {"messages": [user("hi")]},
        "predictionConfigStack": stack({PREFIX + "promptTemplate": template}),
        "opts": {},
    }
    assert (await client.call("applyPromptTemplate", parameter))["formatted"] == "U:hi|A:"
    assert text_of(await ask(client, "tiny", config)) == "Hello there"


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([{"role": "user"}], "content"),
        ([{"role": "wizard", "content": []}], "wizard"),
        ([{"role": "user", "content": [{"type": "hologram"}]}], "part"),
        ([{"role": "tool", "content": [{"type": "text", "text": "3"}]}], "tool"),
        ([5], "message"),
    ],
)
async def test_an_invalid_history_is_refused_with_a_reason(
    client: RawClient, messages: Any, words: str
) -> None:
    with pytest.raises(Refused, match=words):
        await ask(client, "tiny", history={"messages": messages})
    with pytest.raises(Refused, match="messages"):
        await ask(client, "tiny", history={"messages": 5})


async def test_a_long_history_of_one_client_does_not_delay_another_client(
    server: EmbeddedServer, client: RawClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    turns = [user("hi") if turn % 2 == 0 else message("assistant", "ho") for turn in range(701)]

    def convert(history: Json, *arguments: Any, **options: Any) -> list[dict[str, Any]]:
        assert len(history["messages"]) == 1 or answered.wait(30)
        return messages_of(history, *arguments, **options)

    monkeypatch.setattr("lmstudio_async.embedded._handlers._llm_handlers.messages_of", convert)
    async with connected(server) as other:
        channel = await begin(client, "tiny", {"contextOverflowPolicy": "rollingWindow"}, *turns)
        await anyio.wait_all_tasks_blocked()
        assert text_of(await ask(other, "tiny")) == "Hello there my friend"
        answered.set()
        assert text_of(await client.packets(channel)) == "Hello there my friend"


async def test_prompt_of_millions_of_characters_is_counted_in_pieces(
    client: RawClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    tokenize = Engine.tokenize

    async def noted(engine: Engine, text: str, *, add_special: bool) -> list[int]:
        counted.append(len(text))
        return await tokenize(engine, text, add_special=add_special)

    monkeypatch.setattr(Engine, "tokenize", noted)
    with pytest.raises(Refused, match=r"The prompt has 20000\d\d tokens"):
        await ask(client, "tiny", {}, user("x" * 2_000_000))
    # The server stops counting beyond the context, because reading all tokens would block the event loop for seconds.
    assert 0 < sum(counted) < 300_000


async def test_invalid_tool_definitions_are_refused_with_a_reason(client: RawClient) -> None:
    await client.load("tiny")
    parameter = {
        "specifier": query("tiny"),
        "history": {"messages": [user("hi")]},
        "predictionConfigStack": stack(),
        "opts": {"toolDefinitions": [{"type": "function"}]},
    }
    with pytest.raises(Refused, match="function"):
        await client.call("applyPromptTemplate", parameter)


async def test_a_specifier_of_an_unknown_kind_is_refused(client: RawClient) -> None:
    with pytest.raises(Refused, match="(?i)specifier|query"):
        await ask(client, "tiny", modelSpecifier={"type": "crystal ball"})


@pytest.mark.parametrize(("text", "words"), [("", "is empty"), ("half \ud83d", "half a character")])
async def test_empty_or_invalid_raw_text_is_refused_with_a_reason(
    client: RawClient, text: str, words: str
) -> None:
    await client.load("tiny")
    creation = {"modelSpecifier": query("tiny"), "rawPrompt": text, "predictionConfigStack": stack()}
    with pytest.raises(Refused, match=words):
        await client.packets(await client.open("completeRawText", creation))


async def test_raw_text_is_completed_without_a_template(server: EmbeddedServer, client: RawClient) -> None:
    await client.load("tiny")
    creation = {"modelSpecifier": query("tiny"), "rawPrompt": "Say ", "predictionConfigStack": stack()}
    async with connected(server, "diagnostics") as watcher:
        logs = await watcher.open("streamLogs")
        await watcher.silence()
        packets = await client.packets(await client.open("completeRawText", creation))
        assert text_of(packets) == "Hello there my friend"
        log = (await watcher.packet(logs))["log"]  # type: ignore[index]
        assert log["data"] == {
            "type": "llm.prediction.input",
            "input": "Say ",
            "modelPath": "acme/tiny-GGUF/tiny-Q8_0.gguf",
            "modelIdentifier": "tiny",
        }
        output = (await watcher.packet(logs))["log"]["data"]  # type: ignore[index]
        assert (output["output"], output["stats"]["stopReason"]) == ("Hello there my friend", "eosFound")


async def test_a_client_that_formats_the_prompt_itself_gets_it_unchanged(client: RawClient) -> None:
    await client.load("tiny")
    template = {
        "type": "jinja",
        "jinjaPromptTemplate": {"template": "{{ anything }}", "bosToken": ""},
        "stopStrings": [],
    }
    formatting = {
        "layerName": "completeModeFormatting",
        "config": {"fields": [{"key": PREFIX + "promptTemplate", "value": template}]},
    }
    parameter = {
        "specifier": query("tiny"),
        "history": {"messages": [user("Once upon")]},
        "predictionConfigStack": stack({}, formatting),
        "opts": {},
    }
    assert (await client.call("applyPromptTemplate", parameter))["formatted"] == "Once upon"
    packets = await ask(client, "tiny", {}, user("Once upon"), predictionConfigStack=stack({}, formatting))
    assert packets[-1]["stats"]["promptTokensCount"] == len("Once upon")


async def test_omit_bos_token_removes_the_bos_token(client: RawClient, models: Path) -> None:
    ModelsFolder(models).add_llm(
        "acme/marked-GGUF/marked-Q8_0.gguf", metadata={"tokenizer.ggml.add_bos_token": True}
    )
    await client.load("marked")
    for omit, begins in ((False, True), (True, False)):
        parameter = {
            "specifier": query("marked"),
            "history": {"messages": [user("hi")]},
            "predictionConfigStack": stack(),
            "opts": {"omitBosToken": omit},
        }
        formatted = (await client.call("applyPromptTemplate", parameter))["formatted"]
        assert formatted.startswith("<|endoftext|>") is begins


async def test_completing_a_formatted_prompt_gives_the_engine_one_bos(
    server: EmbeddedServer, models: Path
) -> None:
    ModelsFolder(models).add_llm(
        "acme/marked-GGUF/marked-Q8_0.gguf", metadata={"tokenizer.ggml.add_bos_token": True}
    )
    async with lms.AsyncClient(server) as client:
        llm = await client.llm.load_new_instance("marked")
        answer = await llm.respond("hi")
        prompt = await llm.apply_prompt_template("hi")
        assert prompt.startswith("<|endoftext|>")
        for text in (prompt, prompt.removeprefix("<|endoftext|>")):
            completion = await llm.complete(text)
            assert completion.stats.prompt_tokens_count == answer.stats.prompt_tokens_count


async def test_an_image_for_a_model_without_vision_is_an_error(
    server: EmbeddedServer, client: RawClient
) -> None:
    async with connected(server, "files") as files:
        file = await files.call("uploadFileBase64", {"name": "cat.png", "contentBase64": "iVBORw0KGgo="})
        for identifier in (file["identifier"], "base64:iVBORw0KGgo="):
            part = {
                "type": "file",
                "name": "cat.png",
                "identifier": identifier,
                "sizeBytes": 8,
                "fileType": "image",
            }
            with pytest.raises(Refused, match="cannot see images"):
                await ask(client, "tiny", {}, message("user", "What is this?", part))
        part = {"type": "file", "name": "cat.png", "identifier": "other", "sizeBytes": 8, "fileType": "image"}
        with pytest.raises(Refused, match="no file"):
            await ask(client, "tiny", {}, message("user", "What is this?", part))
