"""Wire types of downloaded models and of their loaded instances."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import ClassVar

import attrs

from lmstudio_async._wire._struct import WireObject, nullable

__all__ = [
    "AnyInstanceInfo",
    "AnyModelInfo",
    "EmbeddingModelInfo",
    "EmbeddingModelInstanceInfo",
    "LlmInfo",
    "LlmInstanceInfo",
    "ModelInfo",
    "ModelInstanceInfo",
    "Quantization",
]


@attrs.frozen(kw_only=True, repr=False)
class Quantization(WireObject):
    """Quantization of a model's weights.

    :param name: for example ``Q4_K_M``.
    :param bits: bits per weight, rounded.
    :param extra: members that the server sent and this SDK does not know.
    """

    name: str = ""
    bits: int = 0


@attrs.frozen(kw_only=True, repr=False)
class ModelInfo(WireObject):
    """A downloaded model, of any kind.

    :param type: ``llm``, ``embedding``, or a kind that this SDK does not know.
    :param model_key: the name to load it by.
    :param format: format of its file, such as ``gguf``; ``safetensors`` for MLX models.
    :param display_name: a name for people.
    :param publisher: publisher of its file.
    :param path: path of its file in the models folder: ``publisher/repository/file``.
    :param size_bytes: size on disk.
    :param indexed_model_identifier: the server's own name for it, normally the path.
    :param device_identifier: the LM Link device that has it; None for the server's own machine.
    :param params_string: number of parameters for people, such as ``7B``.
    :param architecture: for example ``llama``.
    :param quantization: quantization of its weights.
    :param variants: keys of the quantizations that share this model key.
    :param selected_variant: the variant that the model key alone stands for.
    :param max_context_length: the longest context the model was made for, in tokens.
    :param extra: members that the server sent and this SDK does not know.
    """

    _shown = (
        "model_key params_string quantization:quantization.name architecture size_bytes max_context_length "
        "vision trained_for_tool_use device_identifier type"
    )

    type: str = ""
    model_key: str = ""
    format: str = ""
    display_name: str = ""
    publisher: str = ""
    path: str = ""
    size_bytes: int = 0
    indexed_model_identifier: str = ""
    device_identifier: str | None = nullable()
    params_string: str | None = None
    architecture: str | None = None
    quantization: Quantization | None = None
    variants: list[str] | None = attrs.field(default=None, hash=False)
    selected_variant: str | None = None
    max_context_length: int = 0


@attrs.frozen(kw_only=True, repr=False)
class LlmInfo(ModelInfo):
    """A downloaded language model: a `ModelInfo` with the members that only language models have.

    :param vision: it accepts images.
    :param trained_for_tool_use: it was trained to call tools.
    :param extra: members that the server sent and this SDK does not know.
    """

    TAG: ClassVar[str] = "llm"

    type: str = "llm"
    vision: bool = False
    trained_for_tool_use: bool = False


@attrs.frozen(kw_only=True, repr=False)
class EmbeddingModelInfo(ModelInfo):
    """A downloaded embedding model: a `ModelInfo` of type ``embedding``."""

    TAG: ClassVar[str] = "embedding"

    type: str = "embedding"


@attrs.frozen(kw_only=True, repr=False)
class ModelInstanceInfo(ModelInfo):
    """A loaded instance of a model: its `ModelInfo` with the members that only instances have.

    :param identifier: the instance's name, unique on its server.
    :param instance_reference: reference of this one instance; it never means another one, even after an unload.
    :param ttl_ms: idle time in milliseconds after which it is unloaded; None for never. See `ttl`.
    :param last_used_time: end of its last request, in milliseconds since 1970; None if it had none yet.
        See `last_used`.
    :param context_length: size of its context, in tokens.
    :param extra: members that the server sent and this SDK does not know.
    """

    _shown = (
        "identifier model_key context_length ttl last_used quantization:quantization.name size_bytes "
        "vision trained_for_tool_use device_identifier type"
    )

    identifier: str = ""
    instance_reference: str = ""
    ttl_ms: int | None = nullable()
    last_used_time: int | None = nullable()
    context_length: int = 0

    @property
    def ttl(self) -> float | None:
        """Idle time in seconds after which the instance is unloaded, or None for never."""
        return None if self.ttl_ms is None else self.ttl_ms / 1000

    @property
    def last_used(self) -> datetime | None:
        """End of the last request to the instance, or None if there was none yet."""
        if self.last_used_time is None:
            return None
        try:
            return datetime.fromtimestamp(self.last_used_time / 1000, UTC)
        except (ValueError, OverflowError, OSError):  # outside the range of datetime
            return None


@attrs.frozen(kw_only=True, repr=False)
class LlmInstanceInfo(ModelInstanceInfo):
    """A loaded instance of a language model: a `ModelInstanceInfo` with the members that only language models have.

    :param vision: it accepts images.
    :param trained_for_tool_use: it was trained to call tools.
    :param extra: members that the server sent and this SDK does not know.
    """

    TAG: ClassVar[str] = "llm"

    type: str = "llm"
    vision: bool = False
    trained_for_tool_use: bool = False


@attrs.frozen(kw_only=True, repr=False)
class EmbeddingModelInstanceInfo(ModelInstanceInfo):
    """A loaded instance of an embedding model: a `ModelInstanceInfo` of type ``embedding``."""

    TAG: ClassVar[str] = "embedding"

    type: str = "embedding"


AnyModelInfo = LlmInfo | EmbeddingModelInfo | ModelInfo
AnyInstanceInfo = LlmInstanceInfo | EmbeddingModelInstanceInfo | ModelInstanceInfo
