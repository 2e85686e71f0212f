"""The namespace ``runtime``: descriptions of the engine and of the machine."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lmstudio_async._wire._runtime import AllEngines, EngineSpecifier, SuperJson
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded._handlers._runtime_handlers import RuntimeHandlers
from lmstudio_async.embedded._machine._hardware import Cpu, Gpu, Hardware, Processors
from lmstudio_async.embedded._versions import engine_version
from lmstudio_async.errors import LMStudioServerError
from tests.embedded.raw_client import RawClient, Refused, connected

GB = 10**9
NOTHING = {"json": None, "meta": {"values": ["undefined"]}}


@pytest.fixture
async def raw(tmp_path: Path) -> AsyncIterator[RawClient]:
    async with EmbeddedServer(tmp_path) as server, connected(server, "runtime") as raw:
        yield raw


class Machine(Hardware):
    """A machine with other processors than this one."""

    def __init__(self, processors: Processors | None) -> None:
        self._found = processors

    async def processors(self) -> Processors | None:
        return self._found


def machine_with(*gpus: Gpu, features: frozenset[str] = frozenset()) -> RuntimeHandlers:
    return RuntimeHandlers(Machine(Processors(Cpu("A CPU", features), gpus)))


async def test_the_engine_is_llama_cpp_in_the_version_of_its_package(raw: RawClient) -> None:
    (engine,) = await raw.call("listEngines")
    assert (engine["engine"], engine["version"]) == ("llama.cpp", engine_version())
    assert engine["name"].startswith("llama.cpp-")
    assert engine["supportedModelFormatNames"] == ["GGUF"]
    assert engine["cpu"]["architecture"]


async def test_the_engine_is_selected_for_gguf(raw: RawClient) -> None:
    (engine,) = await raw.call("listEngines")
    specifier = {"name": engine["name"], "version": engine["version"]}
    assert await raw.call("getEngineSelections", NOTHING) == {
        "json": [["GGUF", specifier]],
        "meta": {"values": ["map"]},
    }
    # The engine is selected already, so the request succeeds.
    await raw.call("selectEngine", {"engine": specifier, "modelFormatName": "GGUF"})


async def test_selecting_another_format_or_engine_is_refused(raw: RawClient) -> None:
    (engine,) = await raw.call("listEngines")
    specifier = {"name": engine["name"], "version": engine["version"]}
    with pytest.raises(Refused, match="of the format GGUF, not 'MLX'"):
        await raw.call("selectEngine", {"engine": specifier, "modelFormatName": "MLX"})
    with pytest.raises(Refused, match='no engine "mlx" of version "1"') as refused:
        await raw.call("selectEngine", {"engine": {"name": "mlx", "version": "1"}, "modelFormatName": "GGUF"})
    assert engine["name"] in refused.value.error["suggestion"]


@pytest.mark.parametrize("scope", [None, {"type": "selected"}, {"type": "all"}])
async def test_the_survey_describes_the_processors_and_the_memory(
    raw: RawClient, scope: dict[str, Any] | None
) -> None:
    survey = await raw.call("surveyHardware", scope)
    (engine,) = survey["engines"]
    assert survey["status"] == "ok"
    assert engine["compatibility"] == {"status": "compatible"}
    processors = engine["hardwareSurvey"]
    assert processors["cpuSurveyResult"]["result"] == {"code": "success", "message": ""}
    cpu = processors["cpuSurveyResult"]["cpuInfo"]
    assert cpu["architecture"] in {"x86_64", "ARM64", "unknown"}
    assert set(cpu["supportedInstructionSetExtensions"]) <= {"AVX", "AVX2", "AdvSIMD"}
    memory = engine["memoryInfo"]
    assert memory["ramCapacity"] > 0
    assert memory["totalMemory"] == memory["ramCapacity"] + memory["vramCapacity"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
async def test_the_survey_lists_the_instruction_sets_of_the_processor(raw: RawClient) -> None:
    survey = await raw.call("surveyHardware")
    cpu = survey["engines"][0]["hardwareSurvey"]["cpuSurveyResult"]["cpuInfo"]
    flags = Path("/proc/cpuinfo").read_text().split()
    if cpu["architecture"] == "x86_64":
        # The engine supports AVX2 if the processor has it.
        assert ("AVX2" in cpu["supportedInstructionSetExtensions"]) == ("avx2" in flags)


async def test_a_survey_can_be_limited_to_certain_engines(raw: RawClient) -> None:
    (engine,) = await raw.call("listEngines")
    specifier = {"name": engine["name"], "version": engine["version"]}
    survey = await raw.call("surveyHardware", {"type": "custom", "engines": [specifier, specifier]})
    assert [each["name"] for each in survey["engines"]] == [engine["name"]]
    with pytest.raises(Refused, match='no engine "other"'):
        await raw.call("surveyHardware", {"type": "custom", "engines": [{"name": "other", "version": "1"}]})
    with pytest.raises(Refused, match="all engines, or a list") as refused:
        await raw.call("surveyHardware", {"type": "best"})
    assert '{"type": "selected"}' in refused.value.error["suggestion"]


async def test_a_gpu_names_the_engine_and_has_its_own_memory() -> None:
    handlers = machine_with(
        Gpu("RTX 9", "CUDA0", False, 24 * GB, 20 * GB), features=frozenset({"AVX", "F16C"})
    )
    (engine,) = await handlers.list_engines(None)
    assert engine.name.endswith("-cuda")
    assert engine.gpu is not None
    assert (engine.gpu.framework, engine.gpu.make) == ("CUDA", "nvidia")
    assert engine.cpu.instruction_set_extensions == ["AVX"]

    survey = await handlers.survey_hardware(AllEngines())
    (seen,) = survey.engines
    (gpu,) = seen.hardware_survey.gpu_survey_result.gpu_info
    assert seen.hardware_survey.gpu_survey_result.result.code == "success"
    assert (gpu.name, gpu.integration_type, gpu.detection_platform) == ("RTX 9", "discrete", "CUDA")
    assert gpu.total_memory_capacity_bytes == gpu.dedicated_memory_capacity_bytes == 24 * GB
    assert seen.memory_info.vram_capacity == 24 * GB


async def test_the_memory_of_an_integrated_gpu_counts_once() -> None:
    handlers = machine_with(Gpu("M9", "MTL0", True, 16 * GB, 9 * GB))
    survey = await handlers.survey_hardware(AllEngines())
    (seen,) = survey.engines
    (gpu,) = seen.hardware_survey.gpu_survey_result.gpu_info
    assert (gpu.integration_type, gpu.detection_platform) == ("integrated", "Metal")
    assert (gpu.total_memory_capacity_bytes, gpu.dedicated_memory_capacity_bytes) == (16 * GB, 0)
    assert seen.memory_info.total_memory == seen.memory_info.ram_capacity


async def test_without_the_engines_package_there_is_no_engine() -> None:
    handlers = RuntimeHandlers(Machine(None))
    assert await handlers.list_engines(None) == []
    assert (await handlers.get_engine_selections(SuperJson())).json == []
    survey = await handlers.survey_hardware(AllEngines())
    assert (survey.status, survey.engines) == ("noCompatibleBackends", [])
    with pytest.raises(LMStudioServerError, match="no engine") as caught:
        await handlers._find([EngineSpecifier(name="llama.cpp", version="1")])
    assert "pip install" in caught.value.server_error["suggestion"]
