"""Chat templates for tiny test models, in Jinja: real ones, shortened."""

from __future__ import annotations

__all__ = ["CHATML", "GEMMA", "HARMONY", "HERMES", "LLAMA", "MAGISTRAL", "MISTRAL", "THINKING", "XML"]

# The number of answers so far selects the script, by a marker token at the end of the prompt.
# REPLIES stands for the number of scripts after the first one.
_PROMPT = r"""
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- set answers = messages | selectattr('role', 'equalto', 'assistant') | list | length %}
    {%- if 0 < answers and answers <= REPLIES %}
        {{- '<|reply_' + answers | string + '|>' }}
    {%- endif %}
{%- endif %}"""

CHATML = (
    r"""
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endfor %}"""
    + _PROMPT
)
"""A chat template without tools."""

HERMES = (
    r"""
{%- if tools %}
    {{- '<|im_start|>system\nYou may call functions:\n<tools>' }}
    {%- for tool in tools %}
        {{- '\n' + tool | tojson }}
    {%- endfor %}
    {{- '\n</tools>\nFor each call answer with:\n' }}
    {{- '<tool_call>\n{"name": <name>, "arguments": <arguments>}\n</tool_call><|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {{- '<|im_start|>user\n<tool_response>\n' + message.content + '\n</tool_response><|im_end|>\n' }}
    {%- elif message.role == 'assistant' and message.tool_calls %}
        {{- '<|im_start|>assistant' }}
        {%- if message.content %}
            {{- '\n' + message.content }}
        {%- endif %}
        {%- for call in message.tool_calls %}
            {{- '\n<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' }}
            {%- if call.function.arguments is string %}
                {{- call.function.arguments }}
            {%- else %}
                {{- call.function.arguments | tojson }}
            {%- endif %}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}"""
    + _PROMPT
)
"""A chat template with tools, called with ``<tool_call>``."""

XML = (
    r"""
{%- if tools %}
    {{- '<|im_start|>system\nYou may call functions:\n<tools>' }}
    {%- for tool in tools %}
        {{- '\n<function>\n<name>' + tool.function.name + '</name>\n' + tool.function | tojson + '\n</function>' }}
    {%- endfor %}
    {{- '\n</tools>\nFor each call answer with:\n<tool_call>\n<function=example>\n<parameter=one>\n1\n</parameter>\n' }}
    {{- '</function>\n</tool_call><|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {{- '<|im_start|>user\n<tool_response>\n' + message.content + '\n</tool_response><|im_end|>\n' }}
    {%- elif message.role == 'assistant' and message.tool_calls %}
        {{- '<|im_start|>assistant' }}
        {%- if message.content %}
            {{- '\n' + message.content }}
        {%- endif %}
        {%- for call in message.tool_calls %}
            {{- '\n<tool_call>\n<function=' + call.function.name + '>\n' }}
            {%- for name, value in call.function.arguments.items() %}
                {{- '<parameter=' + name + '>\n' + value | string + '\n</parameter>\n' }}
            {%- endfor %}
            {{- '</function>\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}"""
    + _PROMPT
)
"""A chat template with tools, called with tags for each parameter."""

LLAMA = (
    r"""
{%- if tools %}
    {{- '<|im_start|>system\nEnvironment: ipython\nTo call a function, answer with ' }}
    {{- '{"name": function name, "parameters": dictionary of arguments}.' }}
    {%- for tool in tools %}
        {{- '\n' + tool | tojson }}
    {%- endfor %}
    {{- '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {{- '<|im_start|>ipython\n' + message.content | tojson + '<|im_end|>\n' }}
    {%- elif message.role == 'assistant' and message.tool_calls %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|im_start|>assistant\n{"name": "' + call.name + '", "parameters": ' }}
        {{- call.arguments | tojson + '}<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}"""
    + _PROMPT
)
"""A chat template with tools, called with a bare JSON object."""

MISTRAL = (
    r"""
{%- if tools %}
    {{- '[AVAILABLE_TOOLS]' + tools | tojson + '[/AVAILABLE_TOOLS]\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {{- '[TOOL_RESULTS]{"content": ' + message.content | tojson + '}[/TOOL_RESULTS]' }}
    {%- elif message.role == 'assistant' and message.tool_calls %}
        {{- '[TOOL_CALLS][' }}
        {%- for call in message.tool_calls %}
            {{- '{"name": "' + call.function.name + '", "arguments": ' + call.function.arguments | tojson }}
            {{- '}' + (', ' if not loop.last else '') }}
        {%- endfor %}
        {{- ']<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}"""
    + _PROMPT
)
"""A chat template with tools, called with a JSON list behind a mark."""

THINKING = (
    r"""
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\n' }}
    {%- if message.role == 'assistant' and message.reasoning_content %}
        {{- '<think>\n' + message.reasoning_content + '\n</think>\n\n' }}
    {%- endif %}
    {{- message.content + '<|im_end|>\n' }}
{%- endfor %}"""
    + _PROMPT
)
"""A chat template of a model that reasons in ``<think>`` before it answers."""

GEMMA = r"""
{{- bos_token }}
{%- if messages[0].role == 'system' %}
    {{- raise_exception('System role not supported') }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {{- '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\n' }}
    {{- message.content | trim + '<end_of_turn>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<start_of_turn>model\n' }}
{%- endif %}"""
"""A chat template that refuses system messages, and requires user and assistant messages to alternate."""

HARMONY = r"""
{{- '<|start|>system<|message|>You are ChatGPT.\n# Valid channels: analysis, commentary, final.<|end|>' }}
{%- if tools %}
    {{- '<|start|>developer<|message|># Tools\nnamespace functions {' }}
    {%- for tool in tools %}
        {{- '\ntype ' + tool.function.name + ' = (_: ' + tool.function.parameters | tojson + ') => any;' }}
    {%- endfor %}
    {{- '\n}<|end|>' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {{- '<|start|>assistant<|channel|>final<|message|>' + message.content + '<|end|>' }}
    {%- else %}
        {{- '<|start|>' + message.role + '<|message|>' + message.content + '<|end|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start|>assistant' }}
{%- endif %}"""
"""A chat template of a model that reasons in one channel and answers in another."""

MAGISTRAL = r"""
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\n' }}
    {%- if message.role == 'assistant' and message.reasoning_content %}
        {{- '[THINK]' + message.reasoning_content + '[/THINK]' }}
    {%- endif %}
    {{- message.content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}"""
"""A chat template of a model that reasons between other tags than ``<think>``."""
