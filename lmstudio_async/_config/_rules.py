"""Tables that map the settings of configs to wire keys, and the spellings of their names.

A *rule* is the wire keys that a setting's value is written to, and the members that complete a partial value.
Reading, writing and validation use these tables, and a test compares them with the config classes and typed dicts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from lmstudio_async._printable import short_repr
from lmstudio_async._wire._kv import KEYS, Kind
from lmstudio_async.errors import LMStudioConfigError

__all__ = [
    "EMBEDDING_LOAD",
    "GPU",
    "GPU_SPLIT",
    "LLM_LOAD",
    "PREDICTION",
    "SPLIT_STRATEGIES",
    "Rules",
    "camel",
    "spell",
    "spell_value",
]

Rules: TypeAlias = Mapping[str, tuple[tuple[str, ...], Mapping[str, Any]]]

GPU_SPLIT = "load.gpuSplitConfig"

SPLIT_STRATEGIES = {"evenly": "evenly", "favorMainGpu": "priorityOrder", "tensor": "tensor"}
"""Split strategy -> its name on the wire."""

GPU = {
    "ratio": "acceleration.offloadRatio",
    "num_cpu_expert_layers_ratio": "llm.load.numCpuExpertLayersRatio",
    "main_gpu": "priority",
    "split_strategy": "strategy",
    "disabled_gpus": "disabledGpus",
}
"""Setting of ``gpu`` -> the key, end of a key, or member of :data:`GPU_SPLIT`, that it is written to."""


def _completion(key: str) -> Mapping[str, Any]:
    kind, default = KEYS[key]
    if kind[0] != "object":
        return {}
    if "enabled" in kind[1]:
        # Setting details of something that can be switched on switches it on.
        return {**default, "enabled": True}
    return {name: default[name] for name in ("stopStrings",) if name in kind[1]}


def _rules(prefix: str, names: Mapping[str, str | tuple[str, ...]]) -> Rules:
    rules = {}
    for name, tails in names.items():
        # A tail that is a whole key of the table gets no prefix.
        keys = tuple(
            tail if tail in KEYS else prefix + tail
            for tail in ((tails,) if isinstance(tails, str) else tails)
        )
        rules[name] = (keys, _completion(keys[0]))
    return rules


LLM_LOAD = _rules(
    "llm.load.",
    {
        "context_length": "contextLength",
        "auto_fit": ("llama.autoFit", "mlx.autoFit", "yuzu.autoFit"),
        "max_parallel_predictions": "numParallelSessions",
        "use_unified_kv_cache": "useUnifiedKvCache",
        "gpu_strict_vram_cap": "load.gpuStrictVramCap",
        "offload_kv_cache_to_gpu": "offloadKVCacheToGpu",
        "eval_batch_size": "llama.evalBatchSize",
        "physical_batch_size": "llama.physicalBatchSize",
        "flash_attention": "llama.flashAttention",
        "context_checkpoints": "llama.contextCheckpoints",
        "keep_model_in_memory": "llama.keepModelInMemory",
        "try_mmap": "llama.tryMmap",
        "try_direct_io": "llama.tryDirectIO",
        "seed": "seed",
        "num_experts": "numExperts",
        "use_fp16_for_kv_cache": "llama.useFp16ForKVCache",
        "llama_k_cache_quantization_type": "llama.kCacheQuantizationType",
        "llama_v_cache_quantization_type": "llama.vCacheQuantizationType",
        "rope_frequency_base": "llama.ropeFrequencyBase",
        "rope_frequency_scale": "llama.ropeFrequencyScale",
        "prompt_template": "promptTemplate",
        "reasoning_budget_message": "llama.reasoningBudgetMessage",
        "speculative_draft_mtp": "llama.speculativeDecoding.draftMtp",
        "speculative_draft_simple": "llama.speculativeDecoding.draftSimple",
        "speculative_draft_model": "llama.speculativeDecoding.draftModel",
        "speculative_draft_max_tokens": "llama.speculativeDecoding.draftMaxTokens",
        "speculative_draft_min_tokens": "llama.speculativeDecoding.draftMinTokens",
        "speculative_draft_min_continue_probability": (
            "llama.speculativeDecoding.draftMinContinueProbability"
        ),
        "llama_cpp_arguments_override": "llama.argumentsOverride",
        "mlx_disk_cache": "mlx.diskCache",
        "mlx_kv_cache_quantization": "mlx.kvCacheQuantization",
    },
)

EMBEDDING_LOAD = _rules(
    "embedding.load.",
    {
        "context_length": "contextLength",
        "rope_frequency_base": "llama.ropeFrequencyBase",
        "rope_frequency_scale": "llama.ropeFrequencyScale",
        "keep_model_in_memory": "llama.keepModelInMemory",
        "try_mmap": "llama.tryMmap",
    },
)

PREDICTION = _rules(
    "llm.prediction.",
    {
        "max_tokens": "maxPredictedTokens",
        "temperature": "temperature",
        "stop_strings": "stopStrings",
        "context_overflow_policy": "contextOverflowPolicy",
        "structured": "structured",
        "top_k_sampling": "topKSampling",
        "top_p_sampling": "topPSampling",
        "min_p_sampling": "minPSampling",
        "repeat_penalty": "repeatPenalty",
        "presence_penalty": "llama.presencePenalty",
        "xtc_probability": "llama.xtcProbability",
        "xtc_threshold": "llama.xtcThreshold",
        "log_probs": "logProbs",
        "cpu_threads": "llama.cpuThreads",
        "enable_thinking": "reasoning.enableThinking",
        "reasoning_budget": "reasoning.budgetTokens",
        "reasoning_parsing": "reasoning.parsing",
        "raw_tools": "tools",
        "tool_choice": "toolChoice",
        "tool_naming": "toolNaming",
        "tool_call_stop_strings": "toolCallStopStrings",
        "prompt_template": "promptTemplate",
        "draft_model": "speculativeDecoding.draftModel",
        "speculative_decoding_num_draft_tokens_exact": "speculativeDecoding.numDraftTokensExact",
        "speculative_decoding_min_draft_length_to_consider": "speculativeDecoding.minDraftLengthToConsider",
        "speculative_decoding_min_continue_drafting_probability": (
            "speculativeDecoding.minContinueDraftingProbability"
        ),
        "user_max_image_dimension_pixels": "vision.userMaxImageDimensionPixels",
        "ignore_model_preferred_max_image_dimension": "vision.ignoreModelPreferredMaxImageDimension",
    },
)

_IRREGULAR = {
    "offload_kv_cache_to_gpu": "offloadKVCacheToGpu",
    "try_direct_io": "tryDirectIO",
    "use_fp16_for_kv_cache": "useFp16ForKVCache",
}

# Hints for settings that exist, but in another config.
_ELSEWHERE: tuple[tuple[Iterable[str], str], ...] = (
    (GPU, "it belongs in 'gpu', in the config that a model is loaded with"),
    (PREDICTION, "it belongs to the config of a prediction"),
    ((*LLM_LOAD, "gpu"), "it belongs to the config that an LLM is loaded with"),
)


def camel(name: str) -> str:
    """Return a setting's other spelling: ``contextLength`` for ``context_length``."""
    if name in _IRREGULAR:
        return _IRREGULAR[name]
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def spell(given: Mapping[Any, Any], names: Iterable[str], title: str, place: str = "") -> dict[str, Any]:
    """Return the settings that are given and not ``None``, by their snake_case names.

    :raises LMStudioConfigError: a name is unknown, or given in both spellings.
    """
    known = {spelling: name for name in names for spelling in (name, camel(name))}
    seen: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    for key, value in given.items():
        name = known.get(key) if isinstance(key, str) else None
        if name is None:
            raise LMStudioConfigError(_unknown(key, known, title, place))
        if name in seen:
            both = f"'{place}{seen[name]}' and '{place}{key}'"
            raise LMStudioConfigError(f"{both} in the {title} are one setting in two spellings. Give one.")
        seen[name] = key
        if value is not None:
            settings[name] = value
    return settings


def _unknown(key: Any, known: Mapping[str, str], title: str, place: str) -> str:
    if not isinstance(key, str):
        return f"The keys of the {title} are strings, not {short_repr(key)}."
    message = f"The {title} has no '{place}{key}'"
    wanted = key.replace("_", "").lower()
    plain = {name.replace("_", "").lower(): name for name in known.values()}
    for settings, where in () if wanted in plain else _ELSEWHERE:
        if any(wanted == name.replace("_", "") for name in settings):
            return f"{message}: {where}."
    import difflib  # only errors need it

    close = difflib.get_close_matches(wanted, plain, n=1) or [
        name for name in plain if len(wanted) > 1 and name.startswith(wanted)
    ]
    if close:
        name = plain[close[0]]
        # Suggest the spelling that the user writes.
        spelling = name if key.islower() else camel(name)
        return f"{message}. Did you mean '{place}{spelling}'?"
    return f"{message}. It has: {', '.join(sorted(set(known.values())))}."


def spell_value(kind: Kind, value: Any, title: str, place: str) -> Any:
    """Return the value with the members of its objects in the wire's spelling, which ``kind`` defines."""
    if kind[0] == "list" and isinstance(value, list | tuple):
        return [spell_value(kind[1], item, title, f"{place}[{index}]") for index, item in enumerate(value)]
    if kind[0] != "object" or not isinstance(value, Mapping):
        return value
    wire = {_snake(name): name for name in kind[1]}
    members = spell(value, wire, title, f"{place}.")
    return {
        wire[name]: spell_value(kind[1][wire[name]], item, title, f"{place}.{wire[name]}")
        for name, item in members.items()
    }


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
