"""The variable of a chat template that turns reasoning on and off, under any of its names."""

from __future__ import annotations

from pathlib import Path

import pytest

import lmstudio_async as lms
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded._templates._thinking_switch import thinking_switch
from lmstudio_async.testing import CHATML, ModelsFolder

#: Family -> the beginning of a template with the switch of the family; it prints "yes", "no" or nothing.
SWITCHES = {
    "qwen": "{{ 'no' if enable_thinking is defined and enable_thinking is false else 'yes' }}",
    "laguna": "{% set enable_thinking = enable_thinking | default(false) %}{{ 'yes' if enable_thinking else 'no' }}",
    "granite": "{% if tools %}{% elif thinking %}yes{% else %}no{% endif %}",
    "deepseek": "{% if not thinking is defined %}{% set thinking = false %}{% endif %}{{ 'yes' if thinking else 'no' }}",
    "kimi": "{%- if thinking is undefined -%}{%- set thinking = true -%}{%- endif -%}{{ 'yes' if thinking else 'no' }}",
    "minimax": '{% if thinking_mode is defined and thinking_mode == "disabled" %}no'
    "{% elif thinking_mode == 'enabled' %}yes{% endif %}",
    "cohere": "{% set reasoning = reasoning if reasoning is not undefined else true %}{{ 'yes' if reasoning else 'no' }}",
    "seed": "{% if not thinking_budget is defined %}{% set thinking_budget = -1 %}{% endif %}"
    "{{ 'no' if thinking_budget == 0 else 'yes' }}",
    "hunyuan": "{% if not reasoning_effort is defined %}{% set reasoning_effort = 'no_think' %}{% endif %}"
    "{{ 'yes' if reasoning_effort == 'high' else 'no' }}",
}

#: Templates that contain the name of a switch, but no switch.
NO_SWITCHES = {
    "set": "{% set thinking = messages[0].thinking %}{{ thinking }}",
    "in a namespace": "{% set ns = namespace(enable_thinking=true) %}{{ ns.enable_thinking }}",
    "of a message": "{{ messages[0].thinking or messages[0]['thinking'] or messages[0].reasoning }}",
    "in a text": "{{ 'Say what you are thinking, and show your reasoning: it\\'s thinking' }} thinking, reasoning",
    "in a comment": "{# enable_thinking: set by {{ thinking }} #}",
    "of a macro": "{% macro show(thinking, reasoning) %}{{ thinking }}{{ reasoning }}{% endmacro %}",
    "of a loop": "{% for reasoning in [] %}{{ reasoning }}{% endfor %}",
    "other levels": "{% if reasoning_effort is not defined %}{% set reasoning_effort = 'medium' %}{% endif %}",
    "other modes": "{{ 1 if thinking_mode == 'deep' else 2 }}",
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    for family, switch in SWITCHES.items():
        folder.add_llm(family, chat_template=switch + CHATML)
    folder.add_llm("plain", chat_template=CHATML)
    return folder.folder


@pytest.mark.parametrize("family", SWITCHES)
async def test_enable_thinking_sets_the_switch_of_the_template(
    shared_server: EmbeddedServer, family: str
) -> None:
    async with lms.AsyncClient(shared_server) as client:
        llm = await client.llm.model(family)
        for is_on, word in ((True, "yes"), (False, "no")):
            prompt = await llm.apply_prompt_template("Go", config={"enable_thinking": is_on})
            assert prompt.startswith(word)
            assert str(await llm.respond("Go", config={"enable_thinking": is_on})) == "Hello there"


async def test_thinking_cannot_be_turned_off_without_a_switch(shared_server: EmbeddedServer) -> None:
    async with lms.AsyncClient(shared_server) as client:
        llm = await client.llm.model("plain")
        with pytest.raises(lms.LMStudioUnsupportedFeatureError, match="no switch for thinking"):
            await llm.respond("Go", config={"enable_thinking": False})


@pytest.mark.parametrize("template", NO_SWITCHES.values(), ids=NO_SWITCHES)
def test_the_name_of_a_switch_alone_is_no_switch(template: str) -> None:
    assert thinking_switch(template + CHATML) is None


@pytest.mark.parametrize(
    "piece", ["{%", "{{", "{#", "{% '\\", "{{ ''' \"", "{% macro a(", "{% set thinking = "]
)
def test_search_for_a_switch_does_not_begin_anew_at_each_mark(piece: str) -> None:
    # A search that begins anew at each mark would take minutes.
    assert thinking_switch(piece * 200_000) is None
