"""Load parameters of an engine under the server's own names, and the default number of threads."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import attrs

from lmstudio_async.embedded._catalog._rope import RopeExtension
from lmstudio_async.embedded._machine._control_groups import cpu_quota

__all__ = ["CacheType", "EngineSpec", "default_threads"]

CacheType: TypeAlias = Literal["f32", "f16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"]


@attrs.frozen(kw_only=True)
class EngineSpec:
    """One model, and the parameters to load it with."""

    model_path: Path
    kind: Literal["llm", "embedding"]
    projector_path: Path | None = None
    context_length: int = 4096
    """Tokens that one session can hold, prompt and answer together."""
    pooling: Literal["mean", "last"] | None = None
    """How the vectors of the tokens of a text are combined; ``None`` for the file's own pooling."""
    vector_length: int | None = None
    """Expected dimensions of an embedding; ``None`` to accept any."""
    parallel_sessions: int = 4
    """Requests that the engine computes at once, each in a session (a slot of llama.cpp)."""
    unified_kv_cache: bool = True
    """Whether the sessions share one context; otherwise each has ``context_length`` tokens of its own."""
    threads: int | None = None
    """Number of threads; ``None`` for :func:`default_threads`."""
    eval_batch_size: int = 256
    """Tokens of a prompt that are processed between two checks whether the request was cancelled."""
    physical_batch_size: int | None = None
    gpu_ratio: float | Literal["max", "off"] = "max"
    """Share of the layers that are offloaded to the GPU."""
    block_count: int | None = None
    """Number of layers of the model, to convert ``gpu_ratio`` to a number of layers."""
    main_gpu: int = 0
    split_mode: Literal["none", "layer", "row", "tensor"] = "layer"
    tensor_split: tuple[float, ...] = ()
    offload_kv_cache: bool = True
    flash_attention: Literal["auto", "on", "off"] = "auto"
    k_cache_type: CacheType = "f16"
    v_cache_type: CacheType = "f16"
    mmap: bool = True
    mlock: bool = False
    direct_io: bool = False
    rope_frequency_base: float | None = None
    rope_frequency_scale: float | None = None
    rope_extension: RopeExtension | None = None
    """Set if ``context_length`` exceeds that of the file; its scale replaces ``rope_frequency_scale``."""
    seed: int | None = None
    """Seed for requests without one of their own; ``None`` for a new seed each time."""
    num_experts: int | None = None
    context_checkpoints: int | None = None
    chat_template: str | None = None
    """Chat template to use instead of the one in the file."""
    draft_model_path: Path | None = None
    draft_max_tokens: int = 3
    draft_min_tokens: int = 0
    draft_min_probability: float = 0.0
    verbose: bool = False
    """Whether the engine logs everything that it does, not only warnings and errors."""

    def unsupported_reason(self) -> str | None:
        """Return why the model cannot be loaded with these parameters, as far as that is known without the file."""
        for name, least in (("context_length", 1), ("parallel_sessions", 1), ("eval_batch_size", 1)):
            if getattr(self, name) < least:
                return f"{name} must be at least {least}, not {getattr(self, name)}"
        if self.num_experts:
            return "this engine always uses the model's own number of experts; leave num_experts unset"
        if not isinstance(self.gpu_ratio, str):
            if not 0 <= self.gpu_ratio <= 1:
                return f"the GPU offload ratio must be between 0 and 1, not {self.gpu_ratio}"
            if 0 < self.gpu_ratio < 1 and self.block_count is None:
                return "the file does not say how many layers it has; use 'max' or 'off' as GPU offload ratio"
        for cache_type in (self.k_cache_type, self.v_cache_type):
            if cache_type not in get_args(CacheType):
                return f"the engine has no KV cache of type {cache_type!r}"
        if self.kind == "embedding" and (self.draft_model_path or self.projector_path):
            return "an embedding model takes neither a draft model nor a vision projector"
        return None

    @property
    def gpu_layers(self) -> int:
        """Number of layers to offload to the GPU, -2 for all."""
        match self.gpu_ratio:
            case "off":
                return 0
            case "max":
                return -2
            case ratio:
                return -2 if ratio == 1 else round(ratio * (self.block_count or 0))


@cache
def default_threads() -> int:
    """Return the physical cores that this process may use, less one for the rest of the machine; at least one.

    The first call reads files, and the result is cached: the server calls it in a thread when it starts.

    More threads than free cores make the engine many times slower, because its threads spin at barriers.
    """
    if sys.platform != "linux":
        return max((os.cpu_count() or 1) // (1 if sys.platform == "darwin" else 2) - 1, 1)
    cores = set()
    for cpu in os.sched_getaffinity(0):
        try:
            cores.add(Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text())
        except OSError:
            cores.add(str(cpu))
    quota = cpu_quota()
    count = len(cores) if quota is None else min(len(cores), int(quota))
    return max(count - 1, 1)
