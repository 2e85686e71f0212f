"""The output formats of model families: reasoning, answers and tool calls, for each chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs

__all__ = ["FAMILIES", "Calls", "Family", "ToolCall"]

ToolCall = tuple[str, Mapping[str, Any]]


@attrs.frozen
class Calls:
    """The form of tool calls.

    :param one: form of a call, with ``NAME``, and ``ARGUMENTS`` in JSON or ``PARAMETERS``; ``NUMBER`` counts from 0,
        and ``NEXT`` from 1.
    :param before: text before the first call.
    :param between: text between two calls; None if the family makes no more than one in an answer.
    :param after: text after the last call.
    :param parameter: form of an argument, with ``KEY``, ``VALUE`` and ``TYPE``; texts are without quotes.
    :param quote: quotation mark around a text.
    :param comma: text between two arguments.
    """

    one: str
    before: str = ""
    between: str | None = "\n"
    after: str = ""
    parameter: str = ""
    quote: str = ""
    comma: str = ""

    def write(self, *calls: ToolCall) -> str:
        """Return calls in the form of the family."""
        texts = []
        for number, (name, arguments) in enumerate(calls):
            text = (
                self.one.replace("NAME", name).replace("NUMBER", str(number)).replace("NEXT", str(number + 1))
            )
            text = text.replace("ARGUMENTS", json.dumps(arguments))
            texts.append(text.replace("PARAMETERS", self.comma.join(map(self._parameter, arguments.items()))))
        return self.before + (self.between or "").join(texts) + self.after

    def _parameter(self, argument: tuple[str, Any]) -> str:
        key, value = argument
        is_text = isinstance(value, str)
        text = self.quote + value + self.quote if is_text else json.dumps(value)
        text = self.parameter.replace("KEY", key).replace("VALUE", text)
        return text.replace("TYPE", "string" if is_text else "number").replace("IS_TEXT", json.dumps(is_text))


@attrs.frozen
class Family:
    """The output format of a model.

    :param calls: form of tool calls; None if the template does not support tools, so that the server describes a form.
    :param thought: ``THOUGHT`` and the marks around it, as they stand before an answer or a call; None if the family
        does not reason, or its template has no form for it.
    :param answer: ``ANSWER`` and the marks around it.
    :param marks: more control tokens, beside those in the template.
    :param thought_is_block: True if the template takes the reasoning of an old answer as a block of the content.
    """

    calls: Calls | None
    thought: str | None = None
    answer: str = "ANSWER"
    marks: str = ""
    thought_is_block: bool = False

    def write(self, answer: str = "", *calls: ToolCall, thought: str | None = None) -> str:
        """Return a whole answer.

        :param answer: text of the answer; empty if there are only calls.
        :param calls: tool calls.
        :param thought: reasoning; None for none.
        """
        text = "" if thought is None or self.thought is None else self.thought.replace("THOUGHT", thought)
        if answer:
            text += self.answer.replace("ANSWER", answer)
        if calls:
            text += (self.calls or DEFAULT).write(*calls)
        return text


JSON_CALL = '{"name": "NAME", "arguments": ARGUMENTS}'
DEFAULT = Calls(f"[TOOL_REQUEST]{JSON_CALL}[END_TOOL_REQUEST]")
HERMES = Calls(f"<tool_call>\n{JSON_CALL}\n</tool_call>")
LLAMA = Calls('{"name": "NAME", "parameters": ARGUMENTS}', between=None)
XML = Calls(
    "<tool_call>\n<function=NAME>\nPARAMETERS</function>\n</tool_call>",
    parameter="<parameter=KEY>\nVALUE\n</parameter>\n",
)
GLM_LINES = Calls(
    "<tool_call>NAME\nPARAMETERS</tool_call>",
    parameter="<arg_key>KEY</arg_key>\n<arg_value>VALUE</arg_value>\n",
)
GLM = Calls(
    "<tool_call>NAMEPARAMETERS</tool_call>",
    between="",
    parameter="<arg_key>KEY</arg_key><arg_value>VALUE</arg_value>",
)
COHERE = Calls(
    '    {"tool_call_id": "NUMBER", "tool_name": "NAME", "parameters": ARGUMENTS}',
    before="<|START_ACTION|>[\n",
    between=",\n",
    after="\n]<|END_ACTION|>",
)
KIMI_K2 = Calls(
    "<|tool_call_begin|>functions.NAME:NUMBER<|tool_call_argument_begin|>ARGUMENTS<|tool_call_end|>",
    before="<|tool_calls_section_begin|>",
    between="",
    after="<|tool_calls_section_end|>",
)
PYTHON = Calls(
    "NAME(PARAMETERS)",
    before="<|tool_call_start|>[",
    between=", ",
    after="]<|tool_call_end|>",
    parameter="KEY=VALUE",
    quote='"',
    comma=", ",
)
MISTRAL = Calls("[TOOL_CALLS]NAME[ARGS]ARGUMENTS", between="")
DSML = Calls(
    '<｜DSML｜invoke name="NAME">\nPARAMETERS</｜DSML｜invoke>\n',
    before="\n\n<｜DSML｜tool_calls>\n",
    between="",
    after="</｜DSML｜tool_calls>",
    parameter='<｜DSML｜parameter name="KEY" string="IS_TEXT">VALUE</｜DSML｜parameter>\n',
)
DSML_3 = attrs.evolve(DSML, before="\n\n<｜DSML｜function_calls>\n", after="</｜DSML｜function_calls>")
DEEPSEEK_R1 = Calls(
    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\nARGUMENTS\n```<｜tool▁call▁end｜>",
    before="<｜tool▁calls▁begin｜>",
    after="<｜tool▁calls▁end｜>",
)
GEMMA = Calls(
    "<|tool_call>call:NAME{PARAMETERS}<tool_call|>",
    between="",
    parameter="KEY:VALUE",
    quote='<|"|>',
    comma=",",
)
APRIEL = Calls(JSON_CALL, before="<tool_calls>[", between=", ", after="]</tool_calls>")
FUNCTIONARY = Calls("<function=NAME>ARGUMENTS</function>", between="")

#: Reasoning between the usual tags: in lines of its own, or not.
THINK = "<think>THOUGHT</think>"
THINK_LINES = "<think>\nTHOUGHT\n</think>\n\n"
THINK_LINE = "<think>\nTHOUGHT\n</think>\n"

#: Chat template -> the output format of its models.
FAMILIES: Mapping[str, Family] = {
    "Apertus-8B-Instruct": Family(
        Calls('{"NAME": ARGUMENTS}', "<|tools_prefix|>[", ", ", "]<|tools_suffix|>"),
        "<|inner_prefix|>THOUGHT<|inner_suffix|>",
    ),
    "Apriel-1.6-15b-Thinker-fixed": Family(
        APRIEL, "Here are my reasoning steps:\nTHOUGHT\n[BEGIN FINAL RESPONSE]\n"
    ),
    "Bielik-11B-v3.0-Instruct": Family(HERMES, THINK_LINE),
    "ByteDance-Seed-OSS": Family(
        Calls(
            "<seed:tool_call>\n<function=NAME>\nPARAMETERS</function>\n</seed:tool_call>",
            parameter="<parameter=KEY>VALUE</parameter>\n",
        ),
        "<seed:think>THOUGHT</seed:think>\n",
    ),
    "Cohere2MoE": Family(
        COHERE, "<|START_THINKING|>THOUGHT<|END_THINKING|>", "<|START_TEXT|>ANSWER<|END_TEXT|>"
    ),
    "CohereForAI-c4ai-command-r-plus-tool_use": Family(
        Calls(
            '    {\n        "tool_name": "NAME",\n        "parameters": ARGUMENTS\n    }',
            "Action:\n```json\n[\n",
            ",\n",
            "\n]```",
        )
    ),
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use": Family(
        COHERE, "<|START_THINKING|>THOUGHT<|END_THINKING|>", "<|START_RESPONSE|>ANSWER<|END_RESPONSE|>"
    ),
    "GLM-4.6": Family(GLM_LINES, "\n<think>THOUGHT</think>\n"),
    "GLM-4.7-Flash": Family(GLM, THINK),
    "GigaChat3-10B-A1.8B": Family(
        Calls(f"<|message_sep|>\n\nfunction call<|role_sep|>\n{JSON_CALL}", between=None)
    ),
    "GigaChat3.1-10B-A1.8B": Family(Calls(f"<|function_call|>{JSON_CALL}", between=None)),
    "HuggingFaceTB-SmolLM3-3B": Family(None, THINK_LINE),
    "Kimi-K2-Instruct": Family(KIMI_K2),
    "Kimi-K2-Thinking": Family(KIMI_K2, THINK),
    "Kimi-K3": Family(
        Calls(
            '<|open|>call tool="NAME" index="NEXT"<|sep|>PARAMETERS<|close|>call<|sep|>',
            "<|open|>tools<|sep|>",
            "",
            "<|close|>tools<|sep|><|close|>message<|sep|>",
            '<|open|>argument key="KEY" type="TYPE"<|sep|>VALUE<|close|>argument<|sep|>',
        ),
        "<|open|>think<|sep|>THOUGHT<|close|>think<|sep|>",
        "<|open|>response<|sep|>ANSWER<|close|>response<|sep|>",
    ),
    "LFM2-8B-A1B": Family(PYTHON),
    "LFM2.5-8B-A1B": Family(PYTHON, THINK),
    "LFM2.5-Instruct": Family(PYTHON, THINK),
    "MiMo-VL": Family(HERMES, THINK_LINE),
    "MiniMax-M1": Family(Calls(JSON_CALL, "<tool_calls>\n", "\n", "\n</tool_calls>")),
    "MiniMax-M2": Family(
        Calls(
            '<invoke name="NAME">\nPARAMETERS</invoke>',
            "<minimax:tool_call>\n",
            "\n",
            "\n</minimax:tool_call>",
            '<parameter name="KEY">VALUE</parameter>\n',
        ),
        THINK_LINES,
    ),
    "MiniMax-M3": Family(
        Calls(
            ']<]minimax[>[<invoke name="NAME">PARAMETERS]<]minimax[>[</invoke>\n',
            "]<]minimax[>[<tool_call>\n",
            "",
            "]<]minimax[>[</tool_call>",
            "]<]minimax[>[<KEY>VALUE]<]minimax[>[</KEY>",
        ),
        "<mm:think>THOUGHT</mm:think>",
    ),
    "Mistral-Small-3.2-24B-Instruct-2506": Family(
        Calls("[TOOL_CALLS]NAME[CALL_ID]callNEXT[ARGS]ARGUMENTS", between="")
    ),
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": Family(XML, THINK_LINE),
    "NVIDIA-Nemotron-Nano-v2": Family(Calls(JSON_CALL, "<TOOLCALL>[", ", ", "]</TOOLCALL>"), THINK_LINES),
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use": Family(HERMES),
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": Family(HERMES),
    "Qwen-QwQ-32B": Family(HERMES, THINK_LINES),
    "Qwen-Qwen2.5-7B-Instruct": Family(HERMES),
    "Qwen-Qwen3-0.6B": Family(HERMES, THINK_LINES),
    "Qwen3-Coder": Family(XML),
    "Qwen3.5-4B": Family(XML, THINK_LINES),
    "Reka-Edge": Family(attrs.evolve(HERMES, between=""), THINK_LINES),
    "Spark2.5": Family(GLM, THINK),
    "StepFun3.5-Flash": Family(attrs.evolve(XML, between=""), THINK_LINE),
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": Family(None, THINK_LINES),
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": Family(None, THINK_LINES),
    "deepseek-ai-DeepSeek-V3.1": Family(None, THINK),
    "deepseek-ai-DeepSeek-V3.2": Family(DSML_3, THINK),
    "deepseek-ai-DeepSeek-V4": Family(DSML, THINK),
    "deepseek-ai-DeepSeek-V4-Flash-0731": Family(DSML, THINK),
    "fireworks-ai-llama-3-firefunction-v2": Family(None),
    "google-gemma-2-2b-it": Family(None),
    "google-gemma-4-31B-it": Family(GEMMA, "<|channel>thought\nTHOUGHT\n<channel|>"),
    "google-gemma-4-31B-it-interleaved": Family(GEMMA, "<|channel>thought\nTHOUGHT<channel|>"),
    "ibm-granite-granite-3.3-2B-Instruct": Family(Calls(JSON_CALL, "<|tool_call|>[", ", ", "]")),
    "ibm-granite-granite-4.0": Family(HERMES),
    "ibm-granite-granite-4.1": Family(HERMES),
    "inclusionai-ling-3.0-flash": Family(
        attrs.evolve(GLM_LINES, parameter="<arg_key>KEY</arg_key>\n<arg_value>VALUE</arg_value>"), THINK
    ),
    "llama-cpp-deepseek-r1": Family(DEEPSEEK_R1, THINK_LINES),
    "llama-cpp-rwkv-world": Family(None, THINK),
    "meetkai-functionary-medium-v3.1": Family(FUNCTIONARY),
    "meetkai-functionary-medium-v3.2": Family(Calls("NAME\nARGUMENTS", between=">>>"), answer="all\nANSWER"),
    "meta-llama-Llama-3.1-8B-Instruct": Family(LLAMA),
    "meta-llama-Llama-3.2-3B-Instruct": Family(LLAMA),
    "meta-llama-Llama-3.3-70B-Instruct": Family(LLAMA),
    "microsoft-Phi-3.5-mini-instruct": Family(None),
    "mistralai-Ministral-3-14B-Reasoning-2512": Family(
        MISTRAL, "[THINK]THOUGHT[/THINK]", thought_is_block=True
    ),
    "mistralai-Mistral-Nemo-Instruct-2407": Family(
        Calls(
            '{"name": "NAME", "arguments": ARGUMENTS, "id": "call0000NEXT"}',
            "[TOOL_CALLS][",
            ", ",
            "]",
        )
    ),
    "moonshotai-Kimi-K2": Family(KIMI_K2),
    "muse-glimmer": Family(
        Calls(
            ' to=NAME<|message|><atem:function_calls>\n<atem:invoke name="NAME">\nPARAMETERS</atem:invoke>\n'
            "</atem:function_calls>",
            between="<|eom|><|start|>assistant",
            parameter='<atem:parameter name="KEY">VALUE</atem:parameter>\n',
        ),
        " to=self<|message|>THOUGHT<|eom|><|start|>assistant",
        " to=user<|message|>ANSWER",
    ),
    "openai-gpt-oss-120b": Family(
        Calls(" to=functions.NAME<|channel|>commentary json<|message|>ARGUMENTS", between=None),
        "<|channel|>analysis<|message|>THOUGHT<|end|><|start|>assistant",
        "<|channel|>final<|message|>ANSWER",
    ),
    "openbmb-MiniCPM5-1B": Family(
        Calls('<function name="NAME">PARAMETERS</function>', parameter='<param name="KEY">VALUE</param>'),
        THINK_LINES,
    ),
    "poolside-Laguna-S-2.1": Family(GLM, THINK),
    "poolside-Laguna-XS-2.1": Family(GLM_LINES, THINK_LINE),
    "poolside-Laguna-XS.2": Family(GLM_LINES, THINK_LINE),
    "tencent-Hy3": Family(
        Calls(
            "<tool_call:opensource>NAME<tool_sep:opensource>\nPARAMETERS</tool_call:opensource>",
            "<tool_calls:opensource>\n",
            "\n",
            "\n</tool_calls:opensource>",
            "<arg_key:opensource>KEY</arg_key:opensource>\n<arg_value:opensource>VALUE</arg_value:opensource>\n",
        ),
        "<think:opensource>THOUGHT</think:opensource>",
    ),
    "unsloth-Apriel-1.5": Family(APRIEL),
    "unsloth-mistral-Devstral-Small-2507": Family(MISTRAL),
    "upstage-Solar-Open-100B": Family(
        Calls(
            "<|tool_call:begin|>callNEXT<|tool_call:name|>NAME<|tool_call:args|>ARGUMENTS<|tool_call:end|>",
            "<|tool_calls|>",
            "",
        ),
        "<|think|>THOUGHT<|end|><|begin|>assistant",
        "<|content|>ANSWER",
        # With this token the engine does not treat <|end|> as the end of the answer.
        marks="<|flush|>",
    ),
}
