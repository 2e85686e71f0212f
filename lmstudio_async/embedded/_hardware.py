"""What this machine has for models: memory, and the GPUs that the engine can use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any, Final

import anyio
import anyio.to_thread
import attrs

from lmstudio_async.embedded._memory import available_memory

__all__ = ["Gpu", "Hardware", "Memory"]

#: A driver that hangs must not hang the server.
_SECONDS: Final = 20
# In a process of its own: the engine's drivers keep memory on every GPU as long as the process that loaded them lives.
_ASK: Final = """
import json, xllamacpp
types = {xllamacpp.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_GPU: False,
         xllamacpp.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_IGPU: True}
print(json.dumps([
    [device["description"] or device["name"], device["name"], types[device["type"]],
     device["memory_total"], device["memory_free"]]
    for device in xllamacpp.get_device_info() if device["type"] in types
]))
"""


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
class Memory:
    """What is free for models, in bytes."""

    main: int | None
    """None if the system does not tell."""
    gpu: int = 0
    """Of all GPUs together."""
    own_gpu: int = 0
    """Of those whose memory is not the main memory."""


class Hardware:
    """Looks at the machine. The GPUs are looked for once, the memory each time."""

    def __init__(self) -> None:
        self._gpus: list[Gpu] | None = None

    async def gpus(self) -> list[Gpu]:
        """The GPUs that the engine can use; none if there is no engine."""
        if self._gpus is None:
            self._gpus = await _find_gpus()
        return self._gpus

    async def memory(self) -> Memory:
        """What is free for models."""
        gpus = await self.gpus()
        return Memory(
            main=await anyio.to_thread.run_sync(available_memory),
            gpu=sum(gpu.free_bytes for gpu in gpus),
            own_gpu=sum(gpu.free_bytes for gpu in gpus if not gpu.is_integrated),
        )


async def _find_gpus() -> list[Gpu]:
    with anyio.move_on_after(_SECONDS):
        try:
            answer = await anyio.run_process(
                [sys.executable, "-P", "-c", _ASK],
                check=False,
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=dict(os.environ),
                creationflags=0x08000000 if sys.platform == "win32" else 0,  # no console window
            )
            found: Any = json.loads(answer.stdout)
            return [Gpu(*device) for device in found]
        except (OSError, ValueError):
            return []
    return []
