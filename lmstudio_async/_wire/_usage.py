"""Wire types of an instance's processing state, and of the estimated memory of a load."""

from __future__ import annotations

from typing import Any

import attrs

from lmstudio_async._wire._struct import WireObject, nullable

__all__ = ["EstimateModelUsageParameter", "MemoryEstimate", "ModelUsage", "ProcessingState"]


@attrs.frozen(kw_only=True, repr=False)
class ProcessingState(WireObject):
    """Processing state of an instance.

    :param status: ``idle``, ``processingPrompt``, ``generating`` or ``computingEmbedding``.
    :param queued: number of requests that wait for it.
    :param prompt_progress: how much of the prompt is processed, from 0.0 to 1.0; None if it processes none, or the server
        does not tell. The embedded server tells.
    :param extra: members that the server sent and this SDK does not know.
    """

    status: str = "idle"
    queued: int = 0
    prompt_progress: float | None = None


@attrs.frozen(kw_only=True)
class EstimateModelUsageParameter(WireObject):
    model_key: str
    load_config_stack: dict[str, Any]
    device_identifier: str | None = nullable()


@attrs.frozen(kw_only=True, repr=False)
class MemoryEstimate(WireObject):
    """Estimated memory of a load, in bytes.

    :param confidence: ``high`` or ``low``.
    :param model_vram_bytes: the weights, on GPUs.
    :param context_vram_bytes: the context, on GPUs.
    :param total_vram_bytes: all of it, on GPUs.
    :param model_bytes: the weights, in any memory.
    :param context_bytes: the context, in any memory.
    :param total_bytes: all of it.
    :param extra: members that the server sent and this SDK does not know.
    """

    _shown = "total_bytes total_vram_bytes model_bytes context_bytes confidence"

    confidence: str = "low"
    model_vram_bytes: float = 0
    context_vram_bytes: float = 0
    total_vram_bytes: float = 0
    model_bytes: float = 0
    context_bytes: float = 0
    total_bytes: float = 0


@attrs.frozen(kw_only=True, repr=False)
class ModelUsage(WireObject):
    """Estimated resources of a load.

    :param memory: the estimated memory.
    :param passes_guardrails: the server would load it; False if its settings forbid loads of this size.
    :param extra: members that the server sent and this SDK does not know.
    """

    _shown = (
        "total_bytes:memory.total_bytes total_vram_bytes:memory.total_vram_bytes "
        "confidence:memory.confidence passes_guardrails"
    )

    memory: MemoryEstimate
    passes_guardrails: bool = True
