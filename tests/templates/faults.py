"""What fails still, and the cases of a test: one that is listed here and passes fails, so that the list shrinks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

__all__ = ["ENGINE_FAULTS", "KNOWN_FAULTS", "case"]

Faults = Mapping[str, tuple[str, str]]

_LEAKS = (
    "Thoughts and the marks around an answer come as text: without tools, the engine's parser is not asked."
)
_UNKNOWN = "Thoughts in marks that the engine does not know, with tools or without, come as text."
_GLUED = "An old thought is in the content of the next prompt, in marks that the template does not know."
_LOST = "With tools offered, an answer that the engine's parser cannot follow is taken for a broken call."
_PLAIN = "words+tools dict+tools json+tools code+tools list+tools markup+tools"

#: Template -> cases that fail, and why.
KNOWN_FAULTS: Faults = {
    "Apertus-8B-Instruct": (f"words dict {_PLAIN} call calls next", _UNKNOWN),
    "Apriel-1.6-15b-Thinker-fixed": ("words dict", _LEAKS),
    "Cohere2MoE": ("next", _GLUED),
    "CohereForAI-c4ai-command-r-plus-tool_use": (_PLAIN, _LOST),
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use": ("next", _GLUED),
    "HuggingFaceTB-SmolLM3-3B": ("next", _GLUED),
    "Kimi-K2-Thinking": ("next", _GLUED),
    "Kimi-K3": ("words dict next", _LEAKS),
    "LFM2.5-Instruct": ("next", _GLUED),
    "MiMo-VL": ("next", _GLUED),
    "MiniMax-M3": ("words dict", _LEAKS),
    "Spark2.5": ("next", _GLUED),
    "deepseek-ai-DeepSeek-V3.2": ("next", _GLUED),
    "deepseek-ai-DeepSeek-V4": ("next", _GLUED),
    "deepseek-ai-DeepSeek-V4-Flash-0731": ("next", _GLUED),
    "google-gemma-4-31B-it": ("next", _GLUED),
    "google-gemma-4-31B-it-interleaved": ("next", _GLUED),
    "meetkai-functionary-medium-v3.2": ("words dict", _LEAKS),
    "meta-llama-Llama-3.1-8B-Instruct": ("dict+tools json+tools code+tools list+tools", _LOST),
    "meta-llama-Llama-3.2-3B-Instruct": ("dict+tools json+tools code+tools list+tools", _LOST),
    "meta-llama-Llama-3.3-70B-Instruct": ("dict+tools json+tools code+tools list+tools", _LOST),
    "mistralai-Ministral-3-14B-Reasoning-2512": ("next", _GLUED),
    "muse-glimmer": ("words dict next", _LEAKS),
    "openai-gpt-oss-120b": ("next", _GLUED),
    "poolside-Laguna-S-2.1": ("next", _GLUED),
    "tencent-Hy3": (f"words dict {_PLAIN} call calls next", _UNKNOWN),
    "upstage-Solar-Open-100B": (f"words dict {_PLAIN} call calls next", _UNKNOWN),
}

_ONE_CALL = "The engine's parser for this template knows no second call."
#: The same, where the engine's own parser or grammar stands in the way.
ENGINE_FAULTS: Faults = {
    "GigaChat3-10B-A1.8B": ("call", "The engine drops the mark before a call if it is a control token."),
    "MiniMax-M1": ("calls", _ONE_CALL),
    "MiniMax-M2": ("calls", _ONE_CALL),
    "google-gemma-4-31B-it": (
        "call calls",
        'The engine ends the answer after a call with "Invalid diff".',
    ),
    "google-gemma-4-31B-it-interleaved": (
        "call calls",
        'The engine ends the answer after a call with "Invalid diff".',
    ),
    "ibm-granite-granite-3.3-2B-Instruct": (
        "call calls",
        "Only the words of the template say how to call, which the engine does not read.",
    ),
    "llama-cpp-deepseek-r1": (
        "call calls",
        "The engine's parser gives up on a call in the form of the template.",
    ),
    "meetkai-functionary-medium-v3.2": ("calls", _ONE_CALL),
}


def case(template: str, name: str, *values: Any) -> Any:
    """Make a parameter set: a template, the name of the case, and more values.

    All cases of a template run in one process, so that its model is loaded once.
    """
    marks: list[Any] = [pytest.mark.xdist_group(template)]
    for faults in (KNOWN_FAULTS, ENGINE_FAULTS):
        names, reason = faults.get(template, ("", ""))
        if name in names.split():
            marks.append(pytest.mark.xfail(strict=True, reason=reason))
    return pytest.param(template, *values, id=f"{template}-{name}", marks=marks)
