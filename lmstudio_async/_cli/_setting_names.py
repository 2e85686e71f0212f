"""Settings in the messages of servers, which have the names of the protocol: the names that a user types."""

from __future__ import annotations

import re

__all__ = ["is_about_a_setting", "with_setting_names"]

#: The last part of a protocol name, where the name that the user types is not the same in snake_case.
_NAMES = {
    "argumentsOverride": "llama_cpp_arguments_override",
    "budgetTokens": "reasoning_budget",
    "cacheQuantization": "mlx_kv_cache_quantization",
    "diskCache": "mlx_disk_cache",
    "gpuSplitConfig": "gpu",
    "kCacheQuantizationType": "llama_k_cache_quantization_type",
    "kvCacheQuantization": "mlx_kv_cache_quantization",
    "maxPredictedTokens": "max_tokens",
    "numCpuExpertLayersRatio": "gpu.num_cpu_expert_layers_ratio",
    "numParallelSessions": "max_parallel_predictions",
    "offloadRatio": "gpu.ratio",
    "parsing": "reasoning_parsing",
    "tools": "raw_tools",
    "useFp16ForKVCache": "use_fp16_for_kv_cache",
    "vCacheQuantizationType": "llama_v_cache_quantization_type",
}
#: Members of ``speculativeDecoding``, which have other names in the configs of loads and of predictions.
_DRAFTING = {"draftModel": "draft_model"}
_OPTIONS = {"context_length": "--context", "gpu.ratio": "--gpu"}

_KEY = re.compile(r"\b(llm\.load|embedding\.load|llm\.prediction|load)\.((?:\w+\.)*)(\w+)")
_PLAIN = re.compile(
    r"(?<![\w.])(?:contextLength|evalBatchSize|numParallelSessions|ropeFrequency(?:Base|Scale)|keepModelInMemory|draftModel|"
    r"draftMaxTokens|[kv]CacheQuantizationType)(?!\w)"
)


def with_setting_names(message: str) -> str:
    """Return a message with the names of settings that a user types, and with the option for a setting."""
    named = _KEY.sub(_typed, message)
    # Further settings, which a message about one of these names in short.
    return message if named == message else _PLAIN.sub(lambda found: _short(found[0]), named)


def is_about_a_setting(title: str) -> bool:
    """Return whether the title of a server's error refuses the value of a setting."""
    return _KEY.match(title) is not None


def _typed(found: re.Match[str]) -> str:
    place, parents, last = found.groups()
    if parents == "gpuSplitConfig.":
        name = "gpu"
    elif "speculativeDecoding" in parents:
        name = f"speculative_{_snake(last)}" if place == "llm.load" else _prediction_drafting(last)
    else:
        name = _short(last)
    return f"{name} ({_OPTIONS[name]})" if name in _OPTIONS else name


def _prediction_drafting(last: str) -> str:
    return _DRAFTING.get(last) or f"speculative_decoding_{_snake(last)}"


def _short(last: str) -> str:
    if last.startswith("draft"):
        return f"speculative_{_snake(last)}"
    return _NAMES.get(last) or _snake(last)


def _snake(name: str) -> str:
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return parted.lower()
