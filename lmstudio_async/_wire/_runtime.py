"""Wire types of engines, which run the models, and of the hardware that the engines run on."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from lmstudio_async._wire._struct import Unknown, WireObject, nullable

__all__ = [
    "AllEngines",
    "CpuInfo",
    "CpuSurveyResult",
    "CustomEngines",
    "EngineCompatibility",
    "EngineCpu",
    "EngineGpu",
    "EngineInfo",
    "EngineSpecifier",
    "EngineSurvey",
    "GpuInfo",
    "GpuSurveyResult",
    "HardwareSurvey",
    "HardwareSurveyResult",
    "MemoryInfo",
    "SelectEngineParameter",
    "SelectedEngines",
    "SuperJson",
    "SurveyHardwareParameter",
    "SurveyOutcome",
    "VisibleDevicesConfig",
]


@attrs.frozen(kw_only=True)
class SuperJson(WireObject):
    """JSON with metadata about the values that JSON does not have.

    Only the endpoint ``getEngineSelections`` sends its parameter and its result this way. The parameter is
    ``undefined``: ``json`` is None and ``meta`` is ``{"values": ["undefined"]}``. The result is a map of format
    names to `EngineSpecifier`: ``json`` is a list of pairs and ``meta`` is ``{"values": ["map"]}``.
    """

    json: Any = nullable()
    meta: dict[str, Any] | None = None


@attrs.frozen(kw_only=True)
class EngineSpecifier(WireObject):
    """Name and version of an engine.

    :param name: its name.
    :param version: its version.
    :param extra: members that the server sent and this SDK does not know.
    """

    name: str
    version: str


@attrs.frozen(kw_only=True)
class EngineCpu(WireObject):
    """The CPU that an engine is made for.

    :param architecture: for example ``x86_64``.
    :param instruction_set_extensions: extensions that the engine needs, such as ``AVX2``.
    :param extra: members that the server sent and this SDK does not know.
    """

    architecture: str = ""
    instruction_set_extensions: list[str] | None = attrs.field(default=None, hash=False)


@attrs.frozen(kw_only=True)
class EngineGpu(WireObject):
    """The GPU that an engine is made for.

    :param make: for example ``nvidia``.
    :param framework: for example ``CUDA``.
    :param extra: members that the server sent and this SDK does not know.
    """

    make: str | None = None
    framework: str | None = None


@attrs.frozen(kw_only=True)
class EngineInfo(WireObject):
    """An engine that is installed.

    :param name: its name.
    :param version: its version.
    :param engine: its implementation, such as ``llama.cpp``.
    :param platform: for example ``linux``.
    :param cpu: the CPU that it is made for.
    :param gpu: the GPU that it is made for, if any.
    :param supported_model_format_names: model formats that it runs, such as ``GGUF``.
    :param extra: members that the server sent and this SDK does not know.
    """

    name: str = ""
    version: str = ""
    engine: str = ""
    platform: str = ""
    cpu: EngineCpu = attrs.field(factory=EngineCpu)
    gpu: EngineGpu | None = None
    supported_model_format_names: list[str] = attrs.field(factory=list, hash=False)


@attrs.frozen(kw_only=True)
class SelectEngineParameter(WireObject):
    engine: EngineSpecifier
    model_format_name: str


# -- the hardware


@attrs.frozen(kw_only=True)
class SelectedEngines(WireObject):
    TAG: ClassVar[str] = "selected"


@attrs.frozen(kw_only=True)
class AllEngines(WireObject):
    TAG: ClassVar[str] = "all"


@attrs.frozen(kw_only=True)
class CustomEngines(WireObject):
    TAG: ClassVar[str] = "custom"
    engines: list[EngineSpecifier]


SurveyHardwareParameter = SelectedEngines | AllEngines | CustomEngines | Unknown


@attrs.frozen(kw_only=True)
class SurveyOutcome(WireObject):
    """Outcome of a survey of hardware.

    :param code: ``success``, ``error``, ``noDevicesFound``, ``invalidDevice`` or ``unset``.
    :param message: a text for people.
    :param extra: members that the server sent and this SDK does not know.
    """

    code: str = "unset"
    message: str = ""


@attrs.frozen(kw_only=True)
class GpuInfo(WireObject):
    """A GPU.

    :param name: its name.
    :param device_id: its number.
    :param total_memory_capacity_bytes: all memory that it can use.
    :param dedicated_memory_capacity_bytes: its own memory.
    :param integration_type: ``integrated``, ``discrete`` or ``unknown``.
    :param detection_platform: the platform that detected it, such as ``CUDA``.
    :param detection_platform_version: version of that platform.
    :param other_info: further information.
    :param extra: members that the server sent and this SDK does not know.
    """

    name: str = ""
    device_id: float = 0
    total_memory_capacity_bytes: float = 0
    dedicated_memory_capacity_bytes: float = 0
    integration_type: str = "unknown"
    detection_platform: str = "unknown"
    detection_platform_version: str = ""
    other_info: dict[str, Any] = attrs.field(factory=dict, hash=False)


@attrs.frozen(kw_only=True)
class GpuSurveyResult(WireObject):
    """The GPUs that an engine sees.

    :param result: outcome of the survey.
    :param gpu_info: the GPUs.
    :param extra: members that the server sent and this SDK does not know.
    """

    result: SurveyOutcome = attrs.field(factory=SurveyOutcome)
    gpu_info: list[GpuInfo] = attrs.field(factory=list, hash=False)


@attrs.frozen(kw_only=True)
class CpuInfo(WireObject):
    """A CPU.

    :param name: its name.
    :param architecture: ``x86_64``, ``ARM64`` or ``unknown``.
    :param supported_instruction_set_extensions: for example ``AVX2``.
    :param extra: members that the server sent and this SDK does not know.
    """

    name: str | None = None
    architecture: str = "unknown"
    supported_instruction_set_extensions: list[str] = attrs.field(factory=list, hash=False)


@attrs.frozen(kw_only=True)
class CpuSurveyResult(WireObject):
    """The CPU that an engine sees.

    :param result: outcome of the survey.
    :param cpu_info: the CPU.
    :param extra: members that the server sent and this SDK does not know.
    """

    result: SurveyOutcome = attrs.field(factory=SurveyOutcome)
    cpu_info: CpuInfo | None = None


@attrs.frozen(kw_only=True)
class HardwareSurvey(WireObject):
    """The processors that an engine sees.

    :param gpu_survey_result: its GPUs.
    :param cpu_survey_result: its CPU.
    :param extra: members that the server sent and this SDK does not know.
    """

    gpu_survey_result: GpuSurveyResult = attrs.field(factory=GpuSurveyResult)
    cpu_survey_result: CpuSurveyResult = attrs.field(factory=CpuSurveyResult)


@attrs.frozen(kw_only=True)
class MemoryInfo(WireObject):
    """The memory that an engine sees, in bytes.

    :param ram_capacity: main memory.
    :param vram_capacity: memory of the GPUs.
    :param total_memory: both.
    :param extra: members that the server sent and this SDK does not know.
    """

    ram_capacity: float = 0
    vram_capacity: float = 0
    total_memory: float = 0


@attrs.frozen(kw_only=True)
class VisibleDevicesConfig(WireObject):
    """The GPUs that an engine may use.

    :param visible_devices: their numbers.
    :param changes_order: the list also sets the order of the GPUs.
    :param extra: members that the server sent and this SDK does not know.
    """

    visible_devices: list[float] = attrs.field(factory=list, hash=False)
    changes_order: bool = False


@attrs.frozen(kw_only=True)
class EngineCompatibility(WireObject):
    """Compatibility of an engine with this machine.

    :param status: ``compatible``, or the reason why not, such as ``gpuDriverUnsupported``.
    :param message: a text for people.
    :param extra: members that the server sent and this SDK does not know.
    """

    status: str = "unknown"
    message: str | None = None


@attrs.frozen(kw_only=True)
class EngineSurvey(WireObject):
    """An engine's view of this machine.

    :param name: the engine's name.
    :param version: its version.
    :param engine: its implementation, such as ``llama.cpp``.
    :param platform: for example ``linux``.
    :param compatibility: whether it runs on this machine.
    :param supported_model_format_names: model formats that it runs, such as ``GGUF``.
    :param hardware_survey: the processors.
    :param memory_info: the memory.
    :param visible_devices_config: the GPUs that it may use.
    :param extra: members that the server sent and this SDK does not know.
    """

    name: str = ""
    version: str = ""
    engine: str = ""
    platform: str = ""
    compatibility: EngineCompatibility = attrs.field(factory=EngineCompatibility)
    supported_model_format_names: list[str] = attrs.field(factory=list, hash=False)
    hardware_survey: HardwareSurvey = attrs.field(factory=HardwareSurvey)
    memory_info: MemoryInfo = attrs.field(factory=MemoryInfo)
    visible_devices_config: VisibleDevicesConfig | None = None


@attrs.frozen(kw_only=True)
class HardwareSurveyResult(WireObject):
    """The engines' views of this machine.

    :param status: ``ok`` or ``noCompatibleBackends``.
    :param engines: one survey for each requested engine.
    :param extra: members that the server sent and this SDK does not know.
    """

    status: str = ""
    engines: list[EngineSurvey] = attrs.field(factory=list, hash=False)
