"""Hardware of this machine for models: memory, and the processors that the engine can use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any, Final

import anyio
import anyio.to_thread
import attrs

from lmstudio_async.embedded._machine._main_memory import available_memory
from lmstudio_async.embedded._machine._worker_environment import worker_environment

__all__ = ["Cpu", "Gpu", "Hardware", "Memory", "Processors"]

#: Timeout of the query, so that a driver that hangs does not block the server.
_SECONDS: Final = 20
# Runs in its own process, because the engine's drivers occupy memory on every GPU until their process ends.
_ASK: Final = """
import json, xllamacpp
Type = xllamacpp.ggml_backend_dev_type
types = {Type.GGML_BACKEND_DEVICE_TYPE_GPU: False, Type.GGML_BACKEND_DEVICE_TYPE_IGPU: True}
devices = xllamacpp.get_device_info()
print(json.dumps({
    "cpus": [device["description"] for device in devices if device["type"] == Type.GGML_BACKEND_DEVICE_TYPE_CPU],
    "features": xllamacpp.get_system_info(),
    "gpus": [
        [device["description"] or device["name"], device["name"], types[device["type"]],
         device["memory_total"], device["memory_free"]]
        for device in devices if device["type"] in types
    ],
}))
"""


@attrs.frozen
class Cpu:
    """The CPU, as the engine reports it."""

    name: str
    """Display name; may be empty."""
    features: frozenset[str]
    """Features that the engine uses, under its own names, such as ``AVX2`` and ``NEON``."""


@attrs.frozen
class Gpu:
    """A GPU that the engine can use."""

    name: str
    """Display name."""
    device: str
    """The engine's name of the device, such as ``CUDA0``."""
    is_integrated: bool
    total_bytes: int
    free_bytes: int


@attrs.frozen
class Processors:
    """The processors that the engine can use."""

    cpu: Cpu
    gpus: tuple[Gpu, ...]


@attrs.frozen
class Memory:
    """Memory that is free for models, in bytes."""

    main: int | None
    """Free main memory; None if the system does not report it."""
    gpu: int = 0
    """Free memory of all GPUs together."""
    own_gpu: int = 0
    """Free memory of the GPUs that do not use the main memory."""


class Hardware:
    """Survey of the machine. The processors and their free memory are read once, the free main memory each time."""

    def __init__(self) -> None:
        self._processors: Processors | None = None
        self._asked = False

    async def processors(self) -> Processors | None:
        """Return the processors that the engine can use; None if there is no engine, or it does not report them."""
        if not self._asked:
            self._processors = await _ask_engine()
            self._asked = True
        return self._processors

    async def memory(self) -> Memory:
        """Return the memory that is free for models."""
        processors = await self.processors()
        gpus = processors.gpus if processors else ()
        return Memory(
            main=await anyio.to_thread.run_sync(available_memory),
            gpu=sum(gpu.free_bytes for gpu in gpus),
            own_gpu=sum(gpu.free_bytes for gpu in gpus if not gpu.is_integrated),
        )


async def _ask_engine() -> Processors | None:
    with anyio.move_on_after(_SECONDS):
        try:
            answer = await anyio.run_process(
                [sys.executable, "-P", "-c", _ASK],
                check=False,
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=worker_environment(os.environ),
                creationflags=0x08000000 if sys.platform == "win32" else 0,  # no console window
            )
            found: Any = json.loads(answer.stdout)
        except (OSError, ValueError):
            return None
        features = _features(found["features"])
        return Processors(
            Cpu(next(iter(found["cpus"]), ""), features), tuple(Gpu(*gpu) for gpu in found["gpus"])
        )
    return None


def _features(line: str) -> frozenset[str]:
    """Parse ``CPU : AVX = 1 | AVX2 = 1 | F16C = 0 |``."""
    pairs = (each.rpartition(":")[2].partition("=") for each in line.split("|"))
    return frozenset(name.strip() for name, _, value in pairs if value.strip() == "1")
