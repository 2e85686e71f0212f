"""The engines of a server and the processors that they use, as the server reports them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from lmstudio_async import AsyncClient
from lmstudio_async._cli._units import size_text

__all__ = ["EngineSurvey", "survey_of"]


@attrs.frozen
class EngineSurvey:
    """The engines of a server, as plain JSON of the protocol."""

    engines: Sequence[Mapping[str, Any]]
    surveyed: Sequence[Mapping[str, Any]]

    @property
    def text(self) -> str:
        """The engines, the CPU and the GPUs, for people."""
        names = ", ".join(f"{each.get('name')} {each.get('version')}" for each in self.engines)
        cpu = self.cpu
        extensions = ", ".join(self._extensions)
        parts = [names, "CPU" + (f" {cpu}" if cpu else "") + (f" ({extensions})" if extensions else "")]
        gpus = [f"{gpu['name']} ({gpu['framework']}, {size_text(gpu['bytes'])})" for gpu in self.gpus]
        parts.append(f"GPU {', '.join(gpus)}" if gpus else "no GPU")
        return "; ".join(parts)

    @property
    def cpu(self) -> str | None:
        """Name of the CPU."""
        return next((info["name"] for each in self.surveyed if (info := _cpu(each)).get("name")), None)

    @property
    def gpus(self) -> list[dict[str, Any]]:
        """The GPUs that an engine can use, each once."""
        found: dict[tuple[str, int], dict[str, Any]] = {}
        for each in self.surveyed:
            for gpu in _at(each, "hardwareSurvey", "gpuSurveyResult").get("gpuInfo") or ():
                found.setdefault(
                    (str(gpu.get("name")), int(gpu.get("deviceId") or 0)),
                    {
                        "name": str(gpu.get("name")),
                        "framework": str(gpu.get("detectionPlatform")),
                        "bytes": int(gpu.get("totalMemoryCapacityBytes") or 0),
                    },
                )
        return list(found.values())

    @property
    def details(self) -> dict[str, Any]:
        """The same as JSON."""
        engines = [{"name": each.get("name"), "version": each.get("version")} for each in self.engines]
        return {"engines": engines, "cpu": self.cpu, "cpu_extensions": self._extensions, "gpus": self.gpus}

    @property
    def _extensions(self) -> list[str]:
        return next(
            (
                list(names)
                for each in self.surveyed
                if (names := _cpu(each).get("supportedInstructionSetExtensions"))
            ),
            [],
        )


async def survey_of(client: AsyncClient) -> EngineSurvey:
    """Request the engines of a server, and the processors that they use. Takes seconds at the first time."""
    engines = await client.call("runtime", "listEngines") or []
    survey = await client.call("runtime", "surveyHardware") if engines else None
    return EngineSurvey(engines, (survey or {}).get("engines") or [])


def _cpu(engine: Mapping[str, Any]) -> Mapping[str, Any]:
    return _at(engine, "hardwareSurvey", "cpuSurveyResult", "cpuInfo")


def _at(value: Any, *names: str) -> Mapping[str, Any]:
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}
