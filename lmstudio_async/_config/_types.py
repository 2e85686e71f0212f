"""What all configs share: their small vocabularies, how they show and convert themselves, the GPU setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, TypeAlias

import attrs

from lmstudio_async._config._rules import camel, spell
from lmstudio_async._wire._kv import show
from lmstudio_async.errors import LMStudioConfigError

__all__ = [
    "CacheQuantization",
    "ContextOverflowPolicy",
    "GpuSetting",
    "Off",
    "Ratio",
    "Settings",
    "SplitStrategy",
    "ToolChoiceMode",
    "ToolNaming",
    "settings_of",
]

CacheQuantization: TypeAlias = Literal["f32", "f16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"]
ContextOverflowPolicy: TypeAlias = Literal["stopAtLimit", "truncateMiddle", "rollingWindow"]
Off: TypeAlias = Literal[False]
Ratio: TypeAlias = float | Literal["max", "off"]
SplitStrategy: TypeAlias = Literal["evenly", "favorMainGpu", "tensor"]
ToolChoiceMode: TypeAlias = Literal["none", "auto", "required"]
ToolNaming: TypeAlias = Literal["passThrough", "removeSpecial", "snakeCase", "camelCase"]


class Settings:
    """Base of the config classes."""

    __slots__ = ()

    __attrs_attrs__: ClassVar[tuple[Any, ...]]  # what attrs makes, for the type checker
    _title: ClassVar[str] = "config"
    _place: ClassVar[str] = ""

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Self:
        """Make one from a dict, with the keys in either spelling.

        :param data: names and values; ``None`` is as good as not given.
        :return: the config. Its values are looked at when it is used.
        :raises LMStudioConfigError: a key is unknown, or given in both spellings.

        Example::

            LlmLoadModelConfig.from_dict({"contextLength": 8192})
        """
        if not isinstance(data, Mapping):
            raise LMStudioConfigError(
                f"The {cls._title} is a mapping or an instance of {cls.__name__}, not {show(data)}."
            )
        return cls(**spell(data, _names(cls), cls._title, cls._place))

    def to_dict(self) -> dict[str, Any]:
        """What is set, by camelCase keys.

        :return: a new dict, that :meth:`from_dict` takes.

        Example::

            LlmLoadModelConfig(context_length=8192).to_dict()  # {"contextLength": 8192}
        """
        return {
            camel(name): value.to_dict() if isinstance(value, Settings) else value
            for name, value in settings_of(self).items()
        }

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in settings_of(self).items())
        return f"{type(self).__name__}({settings})"


def _names(cls: type[Settings]) -> list[str]:
    return [field.name for field in attrs.fields(cls)]


def settings_of(config: Settings) -> dict[str, Any]:
    """What is set, by snake_case names."""
    values = ((name, getattr(config, name)) for name in _names(type(config)))
    return {
        name: value for name, value in values if value is not None and not (name == "extra" and not value)
    }


@attrs.frozen(kw_only=True, repr=False)
class GpuSetting(Settings):
    """How a model's work is spread over CPU and GPUs.

    What is not set is left to the server: as the user set it up in LM Studio. Only ``main_gpu``,
    ``split_strategy`` and ``disabled_gpus`` replace the user's own way to split a model over several GPUs, all
    three of them together.

    :param ratio: how much of the model goes to the GPU: a number from 0 (nothing) to 1 (everything), or ``"off"``
        or ``"max"``. Server's default: ``"max"``.
    :param num_cpu_expert_layers_ratio: for how many of its layers a mixture-of-experts model keeps the experts in
        main memory, wherever ``ratio`` puts the layers: from 0 to 1, ``"off"`` or ``"max"``. LLMs only.
        Server's default: ``"off"``.
    :param main_gpu: index of the GPU to use first. The first GPU is 0.
    :param split_strategy: ``"evenly"`` over all GPUs; ``"favorMainGpu"``: fill ``main_gpu`` first; ``"tensor"``:
        split every tensor. Server's default: ``"evenly"``.
    :param disabled_gpus: indices of GPUs that are not to be used. Server's default: none.

    Example::

        GpuSetting(ratio=0.5, main_gpu=0, split_strategy="favorMainGpu")
    """

    _title: ClassVar[str] = "GPU setting"
    _place: ClassVar[str] = "gpu."

    ratio: Ratio | None = None
    num_cpu_expert_layers_ratio: Ratio | None = None
    main_gpu: int | None = None
    split_strategy: SplitStrategy | None = None
    disabled_gpus: Sequence[int] | None = None
