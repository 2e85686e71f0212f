"""Prompt templates of a prediction config, which replace the chat template of the model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import lmstudio_async as lms
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.testing import CHATML, HERMES, ModelsFolder, tool_call
from tests.embedded.raw_client import Json, RawClient, Refused, connected, query, stack, text_of
from tests.embedded.raw_predictions import PREFIX, ask, message, user

SHOUTING = "{% for message in messages %}{{ message.content | upper }}! {% endfor %}>"
ADD = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
}
MANUAL = {
    "beforeSystem": "S:", "afterSystem": "|", "beforeUser": "U:", "afterUser": "|", "beforeAssistant": "A:",
    "afterAssistant": "|",
}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("acme/tiny-GGUF/tiny-Q8_0.gguf", script="Hello there my friend")
    folder.add_llm("acme/caller-GGUF/caller-Q8_0.gguf", script=tool_call("add", a=1), chat_template=CHATML)
    folder.add_llm("acme/base-GGUF/base-Q8_0.gguf", script="Hello there", chat_template=None)
    return folder.folder


def jinja(template: str, *stop_strings: str) -> Json:
    return {"type": "jinja", "jinjaPromptTemplate": {"template": template}, "stopStrings": [*stop_strings]}


def manual(**words: str) -> Json:
    return {"type": "manual", "manualPromptTemplate": {**MANUAL, **words}, "stopStrings": []}


async def formatted(client: RawClient, key: str, template: Json | None, *messages: Json) -> str:
    """Return the prompt that ``applyPromptTemplate`` makes from a chat."""
    parameter = {
        "specifier": query(key),
        "history": {"messages": list(messages) or [user("hi")]},
        "predictionConfigStack": stack({} if template is None else {PREFIX + "promptTemplate": template}),
        "opts": {},
    }
    text: str = (await client.call("applyPromptTemplate", parameter))["formatted"]
    return text


async def inputs(server: EmbeddedServer, client: RawClient, key: str, *configs: dict[str, Any]) -> list[str]:
    """Ask the model with each of these configs, and return the prompts that it receives."""
    async with connected(server, "diagnostics") as watcher:
        logs = await watcher.open("streamLogs")
        await watcher.silence()
        found = []
        for config in configs:
            assert text_of(await ask(client, key, config)).startswith("Hello")
            packet = await watcher.packet(logs)
            while packet is not None and packet["log"]["data"]["type"] != "llm.prediction.input":
                packet = await watcher.packet(logs)
            assert packet is not None
            found.append(packet["log"]["data"]["input"])
        return found


async def test_a_jinja_template_of_the_prediction_formats_the_prompt(
    server: EmbeddedServer, client: RawClient
) -> None:
    shouted = {"promptTemplate": jinja(SHOUTING)}
    first, second, third = await inputs(server, client, "tiny", shouted, {}, shouted)
    assert first == third == "HI! >"
    assert second.startswith("<|im_start|>user\nhi")


async def test_a_template_is_applied_without_a_prediction_too(client: RawClient) -> None:
    await client.load("tiny")
    chat = [message("system", "rules"), user("hi")]
    assert await formatted(client, "tiny", jinja(SHOUTING), *chat) == "RULES! HI! >"
    assert await formatted(client, "tiny", manual(), *chat) == "S:rules|U:hi|A:"
    assert (await formatted(client, "tiny", None, *chat)).startswith("<|im_start|>system\nrules")


async def test_a_base_model_accepts_a_template(client: RawClient) -> None:
    await client.load("base")
    assert await formatted(client, "base", jinja(SHOUTING)) == "HI! >"


async def test_the_stop_strings_of_a_template_end_the_answer(client: RawClient) -> None:
    packets = await ask(client, "tiny", {"promptTemplate": jinja(SHOUTING, " my")})
    assert text_of(packets) == "Hello there"
    assert packets[-1]["stats"]["stopReason"] == "stopStringFound"


async def test_a_template_of_the_prediction_can_add_support_for_tools(client: RawClient) -> None:
    tools = {"tools": {"type": "toolArray", "tools": [ADD]}}
    template = jinja(HERMES.replace("REPLIES", "0"))
    packets = await ask(client, "caller", {**tools, "promptTemplate": template})
    end = next(packet for packet in packets if packet["type"] == "toolCallGenerationEnd")
    assert end["toolCallRequest"]["arguments"] == {"a": 1}


async def test_the_own_template_of_a_model_does_not_restart_the_engine(
    server: EmbeddedServer, client: RawClient
) -> None:
    await ask(client, "tiny")
    (instance,) = server._state.instances.loaded()
    pid = instance.engine.pid
    assert text_of(await ask(client, "tiny", {"promptTemplate": jinja(CHATML.replace("REPLIES", "0"))}))
    assert instance.engine.pid == pid


@pytest.mark.parametrize("template", ["{% for", "{{ nobody.knows.this() }}"])
async def test_an_invalid_template_is_refused_and_the_model_stays_usable(
    client: RawClient, template: str
) -> None:
    await client.load("tiny")
    with pytest.raises(Refused):
        await ask(client, "tiny", {"promptTemplate": jinja(template)})
    with pytest.raises(Refused):
        await formatted(client, "tiny", jinja(template))
    assert text_of(await ask(client, "tiny")) == "Hello there my friend"


async def test_a_template_works_through_the_client(models: Path) -> None:
    async with lms.AsyncClient(EmbeddedServer(models, threads=1)) as client:
        model = await client.llm.load_new_instance("tiny")
        config: Any = {"prompt_template": jinja(SHOUTING)}
        assert await model.apply_prompt_template("hi") != "HI! >"
        assert (await model.respond("hi", config=config)).content == "Hello there my friend"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% sorcery %}", "Unknown statement: sorcery"),
        (SHOUTING.replace("upper", "sorcery"), "Unknown (built-in) filter 'sorcery' for type String"),
    ],
)
async def test_load_error_for_a_template_that_the_engine_cannot_parse_names_prompt_template(
    tmp_path: Path, template: str, reason: str
) -> None:
    models = ModelsFolder(tmp_path / "models")
    models.add_llm("odd", script="Hello there", chat_template=template)
    async with lms.AsyncClient(EmbeddedServer(models.folder, threads=1)) as client:
        with pytest.raises(lms.LMStudioServerError, match=re.escape(reason)) as caught:
            await client.llm.load_new_instance("odd")
        assert "prompt_template" in str(caught.value)
        config: Any = {"prompt_template": {"type": "jinja", "jinja_prompt_template": {"template": CHATML}}}
        model = await client.llm.load_new_instance("odd", config=config)
        assert (await model.respond("Hi")).content == "Hello there"
