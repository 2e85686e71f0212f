"""Conversion of a load config of the wire to an `EngineSpec`, and back to the config that is in effect.

The server applies every key or rejects it with a reason. There are two exceptions. A key in ``_UNSUPPORTED`` is
accepted with a value that turns the setting off. ``llm.load.mlx.autoFit`` and ``llm.load.yuzu.autoFit`` are accepted
with any value, because clients send the keys of other engines together with the key of the engine that they mean.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import attrs

from lmstudio_async._protocol._errors import server_error, unsupported_feature
from lmstudio_async._wire._kv import KEYS, check, checked, default
from lmstudio_async.embedded._catalog._catalog import CatalogEntry
from lmstudio_async.embedded._catalog._rope import CannotExtend
from lmstudio_async.embedded._engine._engine_spec import EngineSpec, default_threads
from lmstudio_async.embedded._versions import engine_version
from lmstudio_async.errors import LMStudioServerError

__all__ = ["MOST_THREADS", "LoadPlan", "draft_model_key", "may_lock_all_memory", "plan_load"]

_DEFAULT_CONTEXT = 4096
# The engine checks for cancellation only between two batches, and a bigger batch takes seconds on a CPU.
_DEFAULT_BATCH = 256
# Texts that an embedding model processes in parallel.
_EMBEDDING_SESSIONS = 4
_MOST = 2**31 - 1
# The engine's own limit.
MOST_THREADS = 512

# Settings that this server does not support, with the reason. A value that turns the setting off is accepted (see
# `_has_effect`), because clients send whole configs.
_UNSUPPORTED = {
    "llm.load.autoFitMinContextLength": "this server does not fit the context to the memory; set contextLength",
    "llm.load.llama.autoFit": "this server applies settings exactly as they are given, and fits none of them to the "
    "memory; set contextLength and the GPU offload ratio instead",
    "llm.load.numExperts": "the engine always uses the model's own number of experts",
    "llm.load.numCpuExpertLayersRatio": "the engine cannot place experts apart from their layers; use the GPU "
    "offload ratio",
    "llm.load.llama.speculativeDecoding.draftMtp": "drafting is only done by a draft model; set draftModel",
    "llm.load.llama.speculativeDecoding.draftDflashSidecar": "drafting is only done by a draft model; set draftModel",
    "llm.load.llama.speculativeDecoding.draftDsparkSidecar": "drafting is only done by a draft model; set draftModel",
    "llm.load.llama.speculativeDecoding.draftMtpSidecar": "drafting is only done by a draft model; set draftModel",
    "llm.load.llama.argumentsOverride": "this server takes no arguments of the llama.cpp command line",
    "llm.load.mlx.diskCache": "this is a setting of the MLX engine, and this model runs on llama.cpp",
    "llm.load.mlx.kvCacheQuantization": "this is a setting of the MLX engine; for llama.cpp there are "
    "kCacheQuantizationType and vCacheQuantizationType",
    "llm.load.vllm.gpuMemoryUtilization": "this is a setting of the vLLM engine, and this model runs on llama.cpp",
    "llm.load.vllm.reasoningParser": "this is a setting of the vLLM engine, and this model runs on llama.cpp",
    "llm.load.vllm.toolCallParser": "this is a setting of the vLLM engine, and this model runs on llama.cpp",
    "load.gpuStrictVramCap": "the engine has no limit for the memory of a GPU",
    "envVars": "this server sets no environment variables for its engine; set them for the server itself, and name "
    "them in LMSTUDIO_WORKER_ENV",
}

_SHARED = frozenset({"load.gpuSplitConfig", "load.gpuStrictVramCap", "envVars"})
_DRAFT = "llm.load.llama.speculativeDecoding."


@attrs.frozen(kw_only=True)
class LoadPlan:
    """Settings for the load of one model."""

    spec: EngineSpec
    model_bytes: int
    gpu_split: Mapping[str, Any] | None = None
    asks_for_gpu: bool = False
    """Whether the request has a setting for a GPU, and does not switch it off."""
    draft_key: str | None = None
    reasoning_message: str = ""
    """Text that ends the reasoning of the model when its reasoning budget is used up."""

    def effective(self, *, gpu: bool, context_length: int | None = None) -> dict[str, Any]:
        """Return the load config in effect, by wire key. It is the response to ``getLoadConfig``.

        :param context_length: the context length that the engine reports, which may differ from the requested one.
        :param gpu: whether the engine has a GPU. Without one all layers are on the CPU, even if the request says
            otherwise.
        """
        spec = self.spec
        prefix = f"{spec.kind}.load."
        threads = spec.threads or default_threads()
        values: dict[str, Any] = {
            "contextLength": context_length or spec.context_length,
            "seed": _checkbox(spec.seed, -1),
            "llama.acceleration.offloadRatio": spec.gpu_ratio if gpu else "off",
            "llama.evalBatchSize": spec.eval_batch_size,
            "llama.ropeFrequencyBase": _checkbox(spec.rope_frequency_base, 0),
            "llama.ropeFrequencyScale": _checkbox(spec.rope_frequency_scale, 0),
            "llama.keepModelInMemory": spec.mlock and _can_lock(self.model_bytes),
            "llama.tryMmap": spec.mmap,
        }
        if spec.kind == "llm":
            values |= {
                "offloadKVCacheToGpu": spec.offload_kv_cache and gpu,
                "numParallelSessions": spec.parallel_sessions,
                "useUnifiedKvCache": spec.unified_kv_cache,
                "llama.autoFit": False,
                "llama.cpuThreadPoolSize": threads,
                "llama.physicalBatchSize": spec.physical_batch_size or spec.eval_batch_size,
                "llama.useFp16ForKVCache": (spec.k_cache_type, spec.v_cache_type) == ("f16", "f16"),
                "llama.tryDirectIO": spec.direct_io,
                "llama.kCacheQuantizationType": {"checked": True, "value": spec.k_cache_type},
                "llama.vCacheQuantizationType": {"checked": True, "value": spec.v_cache_type},
            }
            # The engine resolves "auto" for each model and device, and does not report the result.
            if spec.flash_attention != "auto":
                values["llama.flashAttention"] = spec.flash_attention == "on"
            if spec.context_checkpoints is not None:
                values["llama.contextCheckpoints"] = spec.context_checkpoints
            if self.reasoning_message:
                values["llama.reasoningBudgetMessage"] = self.reasoning_message
            if spec.chat_template is not None:
                values["promptTemplate"] = {
                    "type": "jinja",
                    "jinjaPromptTemplate": {"template": spec.chat_template},
                }
            if self.draft_key is not None:
                values |= {
                    "llama.speculativeDecoding.draftSimple": True,
                    "llama.speculativeDecoding.draftModel": self.draft_key,
                    "llama.speculativeDecoding.draftMaxTokens": spec.draft_max_tokens,
                    "llama.speculativeDecoding.draftMinTokens": spec.draft_min_tokens,
                    "llama.speculativeDecoding.draftMinContinueProbability": spec.draft_min_probability,
                }
        effective = {prefix + name: value for name, value in values.items()}
        if gpu and self.gpu_split is not None:
            effective["load.gpuSplitConfig"] = dict(self.gpu_split)
        return effective


def draft_model_key(values: Mapping[str, Any]) -> str | None:
    """Return the key of the draft model in the load config, or None if it has none."""
    key = values.get(_DRAFT + "draftModel")
    if not isinstance(key, str) or not key or values.get(_DRAFT + "draftSimple") is False:
        return None
    return key


def plan_load(
    entry: CatalogEntry,
    values: Mapping[str, Any],
    *,
    draft: CatalogEntry | None = None,
    threads: int | None = None,
) -> LoadPlan:
    """Make the load plan of a model.

    :param values: the load config by wire key, its layers collapsed.
    :param draft: the model with the key that :func:`draft_model_key` returns.
    :param threads: threads of the engine if the config has no value for them; ``None`` is the engine's default.
    :raises LMStudioServerError: a key has an invalid value.
    :raises LMStudioUnsupportedFeatureError: a key is unknown, or requests a feature that this server does not have.
    """
    for key, value in values.items():
        if reason := check(key, value):
            raise server_error(reason)
        _refuse_unsupported(entry.type, key, value)
    given = _Given(entry.type, values)
    fields: dict[str, Any] = {
        "context_length": _context_length(given, entry),
        "gpu_ratio": given.get("llama.acceleration.offloadRatio", "max"),
        "seed": _seed(given),
        "threads": threads,
        **_rope(given, entry),
        **_batches(given, entry),
        **_memory(given),
    }
    split = values.get("load.gpuSplitConfig")
    if split is not None:
        fields |= _split(split)
    if entry.type == "llm":
        fields |= _llm_only(given, threads)
        fields |= _drafting(values, draft)
        fields["projector_path"] = entry.projector
    else:
        fields |= {"pooling": entry.pooling, "vector_length": entry.vector_length}
    spec = EngineSpec(model_path=entry.file, kind=entry.type, block_count=entry.block_count or None, **fields)
    if reason := spec.unsupported_reason():
        raise server_error(f"The model cannot be loaded like this: {reason}.")
    return LoadPlan(
        spec=spec,
        model_bytes=entry.size_bytes,
        gpu_split=split,
        asks_for_gpu=_asks_for_gpu(given, split),
        draft_key=None if draft is None else values[_DRAFT + "draftModel"],
        reasoning_message=given.get("llama.reasoningBudgetMessage", ""),
    )


class _Given:
    """The keys of one domain, without their common prefix."""

    def __init__(self, domain: str, values: Mapping[str, Any]) -> None:
        self._prefix = f"{domain}.load."
        self._values = values

    def get(self, name: str, otherwise: Any = None) -> Any:
        return self._values.get(self._prefix + name, otherwise)

    def wrong(self, name: str, reason: str, suggestion: str = "") -> LMStudioServerError:
        return server_error(f"{self._prefix}{name} {reason}", suggestion)


def _refuse_unsupported(domain: str, key: str, value: Any) -> None:
    if key not in KEYS or not (key in _SHARED or key.startswith(("llm.load.", "embedding.load."))):
        raise _unsupported(key, "this server knows no such load setting")
    if key not in _SHARED and not key.startswith(f"{domain}.load."):
        raise _unsupported(key, f"this is not a setting for a model of type {domain!r}")
    if key in _UNSUPPORTED and _has_effect(key, value):
        raise _unsupported(key, _UNSUPPORTED[key])


def _has_effect(key: str, value: Any) -> bool:
    """Whether a value differs from the default and from "off"."""
    if key == "llm.load.llama.autoFit":
        return bool(value)
    if key == "llm.load.numCpuExpertLayersRatio":
        return value not in ("off", 0)
    if isinstance(value, Mapping) and "enabled" in value:
        return bool(value["enabled"])
    return bool(value != default(key))


def _unsupported(key: str, reason: str) -> LMStudioServerError:
    return unsupported_feature(key, engine_version(), reason)


def _checkbox(value: Any, filler: Any) -> dict[str, Any]:
    return {"checked": value is not None, "value": filler if value is None else value}


def _context_length(given: _Given, entry: CatalogEntry) -> int:
    asked = given.get("contextLength")
    if asked is None:
        return min(_DEFAULT_CONTEXT, entry.max_context_length or _MOST)
    if asked < 2:
        raise given.wrong(
            "contextLength", f"must be at least 2, a token of a prompt and one of an answer, not {asked}"
        )
    if asked > _MOST:
        raise given.wrong("contextLength", f"must be at most {_MOST}, not {asked}")
    return int(asked)


def _rope(given: _Given, entry: CatalogEntry) -> dict[str, Any]:
    base = checked(given.get("llama.ropeFrequencyBase")) or None
    scale = checked(given.get("llama.ropeFrequencyScale")) or None
    extension = None
    asked = _context_length(given, entry)
    if asked > (entry.max_context_length or _MOST):
        try:
            extension = entry.rope.extend(asked, scale=scale, base=base)
        except CannotExtend as reason:
            raise given.wrong(
                "contextLength",
                f"must be at most {entry.max_context_length}, which this model was made for, not {asked}",
                str(reason),
            ) from None
    return {"rope_frequency_base": base, "rope_frequency_scale": scale, "rope_extension": extension}


def _seed(given: _Given) -> int | None:
    seed = checked(given.get("seed"))
    if seed is None or seed == -1:
        return None
    # The engine uses the highest 32-bit number as "choose a random seed".
    if seed >= 2**32 - 1:
        raise given.wrong("seed", f"must be below {2**32 - 1}, not {seed}")
    return int(seed)


def _batches(given: _Given, entry: CatalogEntry) -> dict[str, Any]:
    logical, physical = given.get("llama.evalBatchSize"), given.get("llama.physicalBatchSize")
    for name, size in (("llama.evalBatchSize", logical), ("llama.physicalBatchSize", physical)):
        if size is not None and size > _MOST:
            raise given.wrong(name, f"must be at most {_MOST}, not {size}")
    if entry.type == "embedding":
        # An embedding cannot be continued in a second batch: the longest text has to fit into one.
        context = _context_length(given, entry)
        if logical is not None and logical < context:
            raise given.wrong(
                "llama.evalBatchSize",
                f"must be at least the context length, {context}, because a text has to fit into one batch, "
                f"not {logical}",
            )
        # Round up to a multiple of the sessions: the engine assigns the same number of tokens to each session, and
        # fails to load with any other batch size.
        share = -(-(logical or max(context, _DEFAULT_BATCH)) // _EMBEDDING_SESSIONS)
        return {
            "eval_batch_size": share * _EMBEDDING_SESSIONS,
            "parallel_sessions": _EMBEDDING_SESSIONS,
        }
    sessions = max(given.get("numParallelSessions", 4), 2)
    if logical is not None and logical < sessions:
        raise given.wrong(
            "llama.evalBatchSize",
            f"must be at least {sessions}, so that each of numParallelSessions has a token in it, not {logical}",
        )
    if logical is not None and physical is not None and physical > logical:
        raise given.wrong(
            "llama.physicalBatchSize", f"must be at most evalBatchSize, {logical}, not {physical}"
        )
    return {"eval_batch_size": logical or max(_DEFAULT_BATCH, physical or 0), "physical_batch_size": physical}


def _memory(given: _Given) -> dict[str, Any]:
    direct = given.get("llama.tryDirectIO", False)
    lock = given.get("llama.keepModelInMemory", False)
    if direct and lock:
        raise given.wrong(
            "llama.tryDirectIO", "cannot be combined with keepModelInMemory; set one of them to false"
        )
    # mmap and direct I/O exclude each other. Direct I/O takes precedence, because it is off unless requested.
    return {"direct_io": direct, "mlock": lock, "mmap": given.get("llama.tryMmap", True) and not direct}


def _asks_for_gpu(given: _Given, split: Mapping[str, Any] | None) -> bool:
    ratio = given.get("llama.acceleration.offloadRatio")
    # LM Studio's JavaScript client sends the default split with each load.
    is_split = split is not None and split != default("load.gpuSplitConfig")
    return ratio not in ("off", 0) and (ratio is not None or is_split)


def _split(split: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings for sharing a model among several GPUs. Without a GPU they have no effect."""
    disabled, priority = split["disabledGpus"], split["priority"]
    if split["strategy"] == "custom" and not any(split["customRatio"]):
        raise server_error(
            "load.gpuSplitConfig.customRatio must have a number above 0 for the strategy 'custom'"
        )
    if split["strategy"] == "priorityOrder":
        if len(priority) > 1:
            raise _unsupported(
                "load.gpuSplitConfig",
                "the engine can prefer one GPU, but not fill several in an order; give one",
            )
        if priority and priority[0] in disabled:
            raise server_error(f"load.gpuSplitConfig: the GPU {priority[0]} is both preferred and disabled")
        return {"split_mode": "none", "main_gpu": priority[0] if priority else 0}
    shares = list(split["customRatio"]) if split["strategy"] == "custom" else []
    if disabled and not shares:
        # The engine reads only as many shares as there are GPUs, and it supports at most 16 of them.
        shares = [1.0] * 16
    shares = [0.0 if index in disabled else float(share) for index, share in enumerate(shares)]
    mode = "tensor" if split["strategy"] == "tensor" else "layer"
    return {"split_mode": mode, "tensor_split": tuple(shares), "main_gpu": priority[0] if priority else 0}


def _llm_only(given: _Given, threads: int | None) -> dict[str, Any]:
    flash = given.get("llama.flashAttention")
    types = {}
    plain = "f16" if given.get("llama.useFp16ForKVCache", True) else "f32"
    for which in "kv":
        types[which] = checked(given.get(f"llama.{which}CacheQuantizationType")) or plain
    if types["v"] not in ("f16", "f32") and flash is False:
        raise given.wrong(
            "llama.vCacheQuantizationType", f"{types['v']!r} needs flash attention, which is set to false"
        )
    pool = given.get("llama.cpuThreadPoolSize", threads)
    if pool is not None and (pool != int(pool) or pool > MOST_THREADS):
        raise given.wrong(
            "llama.cpuThreadPoolSize", f"must be a whole number up to {MOST_THREADS}, not {pool}"
        )
    template = given.get("promptTemplate")
    return {
        "parallel_sessions": given.get("numParallelSessions", 4),
        "unified_kv_cache": given.get("useUnifiedKvCache", True),
        "offload_kv_cache": given.get("offloadKVCacheToGpu", True),
        "flash_attention": "auto" if flash is None else "on" if flash else "off",
        "k_cache_type": types["k"],
        "v_cache_type": types["v"],
        "context_checkpoints": given.get("llama.contextCheckpoints"),
        "chat_template": template and template["jinjaPromptTemplate"]["template"],
        "threads": None if pool is None else int(pool),
    }


def _drafting(values: Mapping[str, Any], draft: CatalogEntry | None) -> dict[str, Any]:
    if draft is None:
        if values.get(_DRAFT + "draftSimple"):
            raise server_error(f"{_DRAFT}draftSimple needs a draft model: set {_DRAFT}draftModel")
        for name in ("draftMaxTokens", "draftMinTokens", "draftMinContinueProbability"):
            key = _DRAFT + name
            if key in values and values[key] != default(key):
                raise server_error(f"{key} has no meaning without a draft model: set {_DRAFT}draftModel")
        return {}
    most = values.get(_DRAFT + "draftMaxTokens", default(_DRAFT + "draftMaxTokens"))
    least = values.get(_DRAFT + "draftMinTokens", default(_DRAFT + "draftMinTokens"))
    if least > most:
        raise server_error(f"{_DRAFT}draftMinTokens must be at most draftMaxTokens, {most}, not {least}")
    return {
        "draft_model_path": draft.file,
        "draft_max_tokens": most,
        "draft_min_tokens": least,
        "draft_min_probability": values.get(_DRAFT + "draftMinContinueProbability", 0.0),
    }


def _can_lock(size: int) -> bool:
    """Whether the system allows a worker to lock this many bytes in memory.

    If it does not, the engine locks a part of them, and continues without an error.
    """
    if sys.platform == "win32":
        return True
    import resource

    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    return limit in (resource.RLIM_INFINITY, -1) or limit >= size or may_lock_all_memory()


@cache
def may_lock_all_memory() -> bool:
    """Whether this process has the capability ``CAP_IPC_LOCK``, which lifts the limit. Read from a file, once."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        capabilities = int(status.split("CapEff:", 1)[1].split(None, 1)[0], 16)
    except (OSError, ValueError, IndexError):
        return False
    return bool(capabilities >> 14 & 1)  # CAP_IPC_LOCK
