"""What this machine has for models: memory, and the processors that the engine can use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any, Final

import anyio
import anyio.to_thread
import attrs

from lmstudio_async.embedded._main_memory import available_memory
from lmstudio_async.embedded._worker_environment import worker_environment

__all__ = ["Cpu", "Gpu", "Hardware", "Memory", "Processors"]

#: A driver that hangs must not hang the server.
_SECONDS: Final = 20
# In a process of its own: the engine's drivers keep memory on every GPU as long as the process that loaded them lives.
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
    """The CPU, as the engine sees it."""

    name: str
    """For people; may be empty."""
    features: frozenset[str]
    """What the engine uses of it, in its own words, such as ``AVX2`` and ``NEON``."""


@attrs.frozen
class Gpu:
    """A GPU that the engine can use."""

    name: str
    """For people."""
    device: str
    """Such as ``CUDA0``."""
    is_integrated: bool
    total_bytes: int
    free_bytes: int


@attrs.frozen
class Processors:
    """What the engine can use."""

    cpu: Cpu
    gpus: tuple[Gpu, ...]


@attrs.frozen
class Memory:
    """What is free for models, in bytes."""

    main: int | None
    """None if the system does not tell."""
    gpu: int = 0
    """Of all GPUs together."""
    own_gpu: int = 0
    """Of those whose memory is not the main memory."""


class Hardware:
    """Looks at the machine. The processors are looked for once, the memory each time."""

    def __init__(self) -> None:
        self._processors: Processors | None = None
        self._asked = False

    async def processors(self) -> Processors | None:
        """What the engine can use; None if there is no engine, or it does not say."""
        if not self._asked:
            self._processors = await _ask_engine()
            self._asked = True
        return self._processors

    async def memory(self) -> Memory:
        """What is free for models."""
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
    """Read ``CPU : AVX = 1 | AVX2 = 1 | F16C = 0 |``."""
    pairs = (each.rpartition(":")[2].partition("=") for each in line.split("|"))
    return frozenset(name.strip() for name, _, value in pairs if value.strip() == "1")
