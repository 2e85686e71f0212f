"""Shared parts of all configs: types of values, the base class, and the GPU setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, TypeAlias

import attrs

from lmstudio_async._config._rules import camel, spell
from lmstudio_async._printable import short_members, short_repr
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
    "title_of",
]

CacheQuantization: TypeAlias = Literal["f32", "f16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"]
ContextOverflowPolicy: TypeAlias = Literal["stopAtLimit", "truncateMiddle", "rollingWindow"]
Off: TypeAlias = Literal[False]
Ratio: TypeAlias = float | Literal["max", "off"]
SplitStrategy: TypeAlias = Literal["evenly", "favorMainGpu", "tensor"]
ToolChoiceMode: TypeAlias = Literal["none", "auto", "required"]
ToolNaming: TypeAlias = Literal["passThrough", "removeSpecial", "snakeCase", "camelCase"]


#: A config may have thirty settings, and all of them matter.
_LONGEST_REPR = 600


class Settings:
    """Base of the config classes."""

    __slots__ = ()

    __attrs_attrs__: ClassVar[tuple[Any, ...]]  # made by attrs, declared for the type checker
    _title: ClassVar[str] = "config"
    _place: ClassVar[str] = ""

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Self:
        """Make a config from a dict, with the keys in either spelling.

        :param data: names and values; a value of ``None`` means not set.
        :return: the config. Its values are checked when it is used.
        :raises LMStudioConfigError: a key is unknown, or given in both spellings.

        Example::

            LlmLoadModelConfig.from_dict({"contextLength": 8192})
        """
        if not isinstance(data, Mapping):
            raise LMStudioConfigError(
                f"The {cls._title} is a mapping or an instance of {cls.__name__}, not {short_repr(data)}."
            )
        return cls(**spell(data, _names(cls), cls._title, cls._place))

    def to_dict(self) -> dict[str, Any]:
        """Return the settings that are set, by camelCase key.

        :return: a new dict, which :meth:`from_dict` accepts.

        Example::

            LlmLoadModelConfig(context_length=8192).to_dict()  # {"contextLength": 8192}
        """
        return {
            camel(name): value.to_dict() if isinstance(value, Settings) else value
            for name, value in settings_of(self).items()
        }

    def __repr__(self) -> str:
        return short_members(type(self).__name__, settings_of(self).items(), _LONGEST_REPR, exact=True)


def _names(cls: type[Settings]) -> list[str]:
    return [field.name for field in attrs.fields(cls)]


def title_of(cls: type[Settings]) -> str:
    """Return the name of a kind of config in error messages."""
    return cls._title


def settings_of(config: Settings) -> dict[str, Any]:
    """Return the settings that are set, by snake_case name."""
    values = ((name, getattr(config, name)) for name in _names(type(config)))
    return {
        name: value for name, value in values if value is not None and not (name == "extra" and not value)
    }


@attrs.frozen(kw_only=True, repr=False)
class GpuSetting(Settings):
    """Distribution of a model's work over CPU and GPUs.

    A setting that is not set is left to the server, which uses the user's setting in LM Studio. The user's own split
    over several GPUs is replaced as a whole if any of ``main_gpu``, ``split_strategy`` and ``disabled_gpus`` is set,
    and by nothing else.

    :param ratio: how much of the model goes to the GPU: a number from 0 (nothing) to 1 (everything), or ``"off"``
        or ``"max"``. Server's default: ``"max"``.
    :param num_cpu_expert_layers_ratio: for how many of its layers a mixture-of-experts model keeps the experts in
        main memory, whatever device ``ratio`` puts the layers on: from 0 to 1, ``"off"`` or ``"max"``. LLMs only.
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
