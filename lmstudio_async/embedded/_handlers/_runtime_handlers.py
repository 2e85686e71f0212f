"""Endpoints of the namespace ``runtime``. The only engine is llama.cpp; if it is not installed, there is none."""

from __future__ import annotations

import platform
import re
import sys
from typing import Final

import anyio.to_thread

from lmstudio_async._protocol._errors import server_error
from lmstudio_async._wire._runtime import (
    AllEngines,
    CpuInfo,
    CpuSurveyResult,
    CustomEngines,
    EngineCompatibility,
    EngineCpu,
    EngineGpu,
    EngineInfo,
    EngineSpecifier,
    EngineSurvey,
    GpuInfo,
    GpuSurveyResult,
    HardwareSurvey,
    HardwareSurveyResult,
    MemoryInfo,
    SelectedEngines,
    SelectEngineParameter,
    SuperJson,
    SurveyHardwareParameter,
    SurveyOutcome,
)
from lmstudio_async.embedded._machine._hardware import Gpu, Hardware, Processors
from lmstudio_async.embedded._machine._main_memory import total_memory
from lmstudio_async.embedded._requirements import engine_remedy
from lmstudio_async.embedded._versions import engine_version
from lmstudio_async.errors import LMStudioServerError

__all__ = ["RuntimeHandlers"]

_FORMAT: Final = "GGUF"
#: The engine's name of a CPU feature -> the protocol's.
_FEATURES: Final = {"AVX": "AVX", "AVX2": "AVX2", "NEON": "AdvSIMD"}
_ARCHITECTURES: Final = {"x86_64": "x86_64", "amd64": "x86_64", "arm64": "ARM64", "aarch64": "ARM64"}
#: Prefix of the engine's device names -> the protocol's name of the framework, and the maker if the framework has one.
_FRAMEWORKS: Final = {
    "CUDA": ("CUDA", "nvidia"),
    "ROCm": ("ROCm", "amd"),
    "MTL": ("Metal", "apple"),
    "Metal": ("Metal", "apple"),
    "Vulkan": ("Vulkan", None),
    "OpenCL": ("OpenCl", None),
    "GPUOpenCL": ("OpenCl", None),
}


class RuntimeHandlers:
    """The endpoints of ``runtime``."""

    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware

    async def list_engines(self, _: None) -> list[EngineInfo]:
        processors = await self._hardware.processors()
        return [] if processors is None else [_engine(processors)]

    async def get_engine_selections(self, _: SuperJson) -> SuperJson:
        pairs = [
            [name, {"name": engine.name, "version": engine.version}]
            for engine in await self.list_engines(None)
            for name in engine.supported_model_format_names
        ]
        return SuperJson(json=pairs, meta={"values": ["map"]})

    async def select_engine(self, parameter: SelectEngineParameter) -> None:
        await self._find([parameter.engine])
        if parameter.model_format_name != _FORMAT:
            raise server_error(
                f"The engine of this server runs models of the format {_FORMAT}, "
                f"not {parameter.model_format_name[:40]!r}."
            )

    async def survey_hardware(self, parameter: SurveyHardwareParameter | None) -> HardwareSurveyResult:
        match parameter:
            case None | SelectedEngines() | AllEngines():
                engines = await self.list_engines(None)
            case CustomEngines(engines=wanted):
                engines = await self._find(wanted)
            case _:
                raise server_error(
                    "A hardware survey covers the selected engines, all engines, or a list of engines.",
                    'Send {"type": "selected"}, {"type": "all"} or {"type": "custom", "engines": [...]}.',
                )
        processors = await self._hardware.processors()
        if processors is None or not engines:
            return HardwareSurveyResult(status="noCompatibleBackends", engines=[])
        memory = await anyio.to_thread.run_sync(total_memory)
        survey = [_survey(engine, processors, memory or 0) for engine in engines]
        return HardwareSurveyResult(status="ok", engines=survey)

    async def _find(self, wanted: list[EngineSpecifier]) -> list[EngineInfo]:
        """Return the engines with these names and versions.

        :raises LMStudioServerError: this server does not have one of them.
        """
        engines = {(engine.name, engine.version): engine for engine in await self.list_engines(None)}
        for each in wanted:
            if (each.name, each.version) not in engines:
                raise _unknown_engine(each, list(engines))
        return [engines[name] for name in dict.fromkeys((each.name, each.version) for each in wanted)]


def _unknown_engine(wanted: EngineSpecifier, present: list[tuple[str, str]]) -> LMStudioServerError:
    return server_error(
        f'This server has no engine "{wanted.name[:100]}" of version "{wanted.version[:40]}".',
        f"It has: {', '.join(' '.join(each) for each in present)}" if present else engine_remedy(),
    )


def _engine(processors: Processors) -> EngineInfo:
    architecture = _ARCHITECTURES.get(platform.machine().lower(), platform.machine())
    system = {"win32": "win"}.get(sys.platform, sys.platform)
    framework, make = _framework(processors.gpus[0]) if processors.gpus else (None, None)
    name = "-".join(each for each in ("llama.cpp", system, architecture.lower(), framework) if each)
    return EngineInfo(
        name=name.lower(),
        version=engine_version(),
        engine="llama.cpp",
        platform=system,
        cpu=EngineCpu(architecture=architecture, instruction_set_extensions=_instruction_sets(processors)),
        gpu=EngineGpu(make=make, framework=framework) if framework else None,
        supported_model_format_names=[_FORMAT],
    )


def _survey(engine: EngineInfo, processors: Processors, main_memory: int) -> EngineSurvey:
    gpus = [_gpu_info(index, gpu) for index, gpu in enumerate(processors.gpus)]
    # Integrated GPUs are not counted, because they use main memory.
    own_memory = sum(gpu.dedicated_memory_capacity_bytes for gpu in gpus)
    architecture = engine.cpu.architecture
    return EngineSurvey(
        name=engine.name,
        version=engine.version,
        engine=engine.engine,
        platform=engine.platform,
        # The engine has reported its devices, which proves that it runs on this machine.
        compatibility=EngineCompatibility(status="compatible"),
        supported_model_format_names=engine.supported_model_format_names,
        hardware_survey=HardwareSurvey(
            gpu_survey_result=GpuSurveyResult(
                result=SurveyOutcome(code="success" if gpus else "noDevicesFound"), gpu_info=gpus
            ),
            cpu_survey_result=CpuSurveyResult(
                result=SurveyOutcome(code="success"),
                cpu_info=CpuInfo(
                    name=processors.cpu.name or None,
                    architecture=architecture if architecture in _ARCHITECTURES.values() else "unknown",
                    supported_instruction_set_extensions=_instruction_sets(processors),
                ),
            ),
        ),
        memory_info=MemoryInfo(
            ram_capacity=main_memory, vram_capacity=own_memory, total_memory=main_memory + own_memory
        ),
    )


def _gpu_info(index: int, gpu: Gpu) -> GpuInfo:
    return GpuInfo(
        name=gpu.name,
        device_id=index,
        total_memory_capacity_bytes=gpu.total_bytes,
        dedicated_memory_capacity_bytes=0 if gpu.is_integrated else gpu.total_bytes,
        integration_type="integrated" if gpu.is_integrated else "discrete",
        detection_platform=_framework(gpu)[0] or "unknown",
    )


def _framework(gpu: Gpu) -> tuple[str | None, str | None]:
    """Return the protocol's name of the framework of a GPU, and the maker of the GPU."""
    return _FRAMEWORKS.get(re.sub(r"\d+$", "", gpu.device), (None, None))


def _instruction_sets(processors: Processors) -> list[str]:
    return sorted(_FEATURES[feature] for feature in processors.cpu.features & _FEATURES.keys())
