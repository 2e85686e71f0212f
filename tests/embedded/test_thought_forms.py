"""Reasoning in the form of the chat template: separated from the answer, and passed back to the template."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lmstudio_async import AsyncClient, AsyncLLM, Chat
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded._templates._reasoning_tags import SAMPLE, ThoughtForm, read_thought_form
from lmstudio_async.testing import ModelsFolder

ENDING = """\
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
#: A template with reasoning tags of its own, which no list contains. It renders the reasoning of old answers.
MADE_UP = (
    """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\n' }}
    {%- if message.reasoning_content %}{{ '<hmm:one>' + message.reasoning_content + '</hmm:one>' }}{% endif %}
    {{- message.content + '<|im_end|>\n' }}
{%- endfor %}"""
    + ENDING
)
#: The same template, but the prompt opens the reasoning.
OPENED = MADE_UP.replace("assistant\n' }}", "assistant\n<hmm:one>' }}")
#: A template with the usual tags; each old answer has empty reasoning, as in Kimi K2.
EMPTIED = (
    """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\n' }}
    {%- if message.role == 'assistant' %}
        {{- '<think>' + (message.reasoning_content if loop.last and message.reasoning_content else '') + '</think>' }}
    {%- endif %}
    {{- message.content + '<|im_end|>\n' }}
{%- endfor %}"""
    + ENDING
)
#: A template without reasoning and tools.
PLAIN = (
    """\
{%- for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endfor %}"""
    + ENDING
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    usual = ["<thi", "nk>", "Secret", "</think>", "Open"]
    own = ["<hmm:", "one>", "Secret", "</hmm:one>", "Open"]
    for name, script, template in (
        ("made-up", own, MADE_UP),
        ("opened", own[2:], OPENED),
        ("emptied", usual, EMPTIED),
        ("plain", usual, PLAIN),
    ):
        folder.add_llm(f"acme/{name}-GGUF/{name}-Q8_0.gguf", script=script, chat_template=template)
    return folder.folder


@pytest.fixture
async def client(shared_server: EmbeddedServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(shared_server) as client:
        yield client


async def second_prompt(llm: AsyncLLM) -> str:
    """Return the part of the second prompt that renders the first answer, which has reasoning."""
    chat = Chat()
    chat.add_user_message("Go")
    chat.append(await llm.respond(chat))
    chat.add_user_message("More")
    options: Any = {"omit_bos_token": True}
    prompt = await llm.apply_prompt_template(chat, options)
    return prompt.partition("Go<|im_end|>\n<|im_start|>assistant\n")[2].partition("<|im_end|>")[0]


@pytest.mark.parametrize("key", ["made-up", "opened"])
async def test_reasoning_in_tags_of_the_template_is_separated(client: AsyncClient, key: str) -> None:
    llm = await client.llm.model(key)
    result = await llm.respond("Go")
    assert (result.reasoning_content, result.content) == ("Secret", "<hmm:one>Secret</hmm:one>Open")
    assert str(result) == "Open"


async def test_stop_string_in_reasoning_does_not_end_the_answer(client: AsyncClient) -> None:
    result = await (await client.llm.model("made-up")).respond("Go", config={"stop_strings": ["ecr"]})
    assert (result.reasoning_content, str(result)) == ("Secret", "Open")


@pytest.mark.parametrize(
    ("key", "placed"),
    [
        ("made-up", "<hmm:one>Secret</hmm:one>Open"),
        ("opened", "<hmm:one>Secret</hmm:one>Open"),
        ("emptied", "<think></think>Open"),
        ("plain", "Open"),
    ],
)
async def test_template_renders_the_reasoning_of_an_old_answer(
    client: AsyncClient, key: str, placed: str
) -> None:
    assert await second_prompt(await client.llm.model(key)) == placed


async def test_next_answer_has_the_prompt_of_apply_prompt_template(client: AsyncClient) -> None:
    llm = await client.llm.model("emptied")
    chat = Chat()
    chat.add_user_message("Go")
    chat.append(await llm.respond(chat))
    chat.add_user_message("More")
    result = await llm.respond(chat)
    prompt = await llm.apply_prompt_template(chat)
    assert result.stats.prompt_tokens_count == await llm.count_tokens(prompt)


async def test_reasoning_stays_text_in_the_prompt_if_parsing_is_disabled(client: AsyncClient) -> None:
    llm = await client.llm.model("plain")
    parsing: Any = {
        "reasoning_parsing": {"enabled": False, "start_string": "<think>", "end_string": "</think>"}
    }
    chat = Chat()
    chat.add_user_message("Go")
    chat.append(await llm.respond(chat, config=parsing))
    chat.add_user_message("More")
    prompt = await llm.apply_prompt_template(chat, config=parsing)
    assert "<think>Secret</think>Open" in prompt


async def test_unfinished_reasoning_is_rendered_as_reasoning(client: AsyncClient) -> None:
    llm = await client.llm.model("made-up")
    chat = Chat()
    chat.add_user_message("Go")
    chat.append(await llm.respond(chat, config={"max_tokens": 3}))
    chat.add_user_message("More")
    assert "<hmm:one>Secret</hmm:one><|im_end|>" in await llm.apply_prompt_template(chat)


async def test_tags_of_a_user_and_of_an_answer_to_continue_stay_unchanged(client: AsyncClient) -> None:
    llm = await client.llm.model("plain")
    chat = Chat()
    chat.add_user_message("<think>a</think>b")
    chat.add_assistant_response("<think>c</think>d")
    prompt = await llm.apply_prompt_template(chat)
    assert "<think>a</think>b<|im_end|>" in prompt
    assert "<think>c</think>d" in prompt


async def test_tag_within_an_old_answer_stays_unchanged(client: AsyncClient) -> None:
    llm = await client.llm.model("plain")
    chat = Chat()
    chat.add_assistant_response("Models write <think>so</think>.")
    chat.add_user_message("More")
    assert "Models write <think>so</think>.<|im_end|>" in await llm.apply_prompt_template(chat)


ANSWER, THOUGHT = SAMPLE[1]["content"], SAMPLE[1]["reasoning_content"]


@pytest.mark.parametrize(
    ("prompt", "answered", "form"),
    [
        ("<a>", f"<a>{ANSWER}", ThoughtForm()),
        ("<a>", f"<a>{ANSWER}<end>", ThoughtForm()),
        ("<a>\n", f"<a>\n<t>\n{THOUGHT}\n</t>\n\n{ANSWER}", ThoughtForm(("<t>", "</t>"))),
        ("<a><t>\n", f"<a><t>\n{THOUGHT}</t>{ANSWER}", ThoughtForm(("<t>", "</t>"))),
        # The prompt of a model that need not think has empty reasoning.
        ("<a><t></t>", f"<a><t>{THOUGHT}</t>{ANSWER}", ThoughtForm(("<t>", "</t>"))),
        ("<|a|>[T]", f"<|a|>[T]{THOUGHT}[/T]{ANSWER}", ThoughtForm(("[T]", "[/T]"))),
        # Channels, a mark before the answer, reasoning between words.
        ("<a>", f"<a><ch>think<msg>{THOUGHT}<end><ch>final<msg>{ANSWER}", ThoughtForm(needs_parser=True)),
        ("<a><t>", f"<a><t>{THOUGHT}</t><answer>{ANSWER}", ThoughtForm(needs_parser=True)),
        (">>>", f">>>all\n{ANSWER}", ThoughtForm(needs_parser=True)),
        ("<a>\nMy steps:\n", f"<a>\nMy steps:\n{THOUGHT}\n[FINAL]\n{ANSWER}", ThoughtForm(needs_parser=True)),
        # Templates that render an answer to continue in another way than a new answer.
        ("<a>\n", f"<end>{ANSWER}", ThoughtForm()),
        ("<a>", "", ThoughtForm()),
    ],
)
def test_form_is_read_from_a_sample(prompt: str, answered: str, form: ThoughtForm) -> None:
    assert read_thought_form(prompt, answered) == form
