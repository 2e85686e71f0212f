"""Display of a load on standard error: a bar, and notes about its model and about evictions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from lmstudio_async._cli._log_notes import told_by_the_command
from lmstudio_async._cli._progress_line import ProgressLine, bar_text
from lmstudio_async._cli._units import duration_text, size_text

if TYPE_CHECKING:
    from lmstudio_async import AsyncOperation, LoadProgress, ModelInfo
    from lmstudio_async._cli._console import Console

__all__ = ["LoadDisplay", "tell_if_gpu_is_missing"]

HandleT = TypeVar("HandleT")


class LoadDisplay:
    """The display of one load. Only its notes stay.

    :param key: the model key, as the user gave it.
    """

    def __init__(self, console: Console, key: str) -> None:
        self._console = console
        self._key = key
        self._line = ProgressLine() if console.draws_progress else None
        self._phases: set[str] = set()
        self._evicted: set[str] = set()
        self._name = key
        self._size = 0
        self._began = self._reads_since = self._ended = time.monotonic()

    @property
    def has_loaded(self) -> bool:
        """Whether the instance was not there before."""
        return self._phases > {"loaded"}

    async def follow(self, load: AsyncOperation[LoadProgress, HandleT]) -> HandleT:
        """Run a load to its end, and return its handle. Cancellation of the task cancels the load.

        :param load: a stream of ``client.llm`` or ``client.embedding``, which has not started.
        """
        from lmstudio_async import progress_bar

        self._began = time.monotonic()
        # The bar of the SDK has the lines; outside of a terminal it draws nothing else.
        lines = progress_bar(self._key[:40]) if self._console.prints_progress else None
        with told_by_the_command("ambiguous_key"):
            async with load:
                try:
                    async for progress in load:
                        self._show(progress)
                        if lines is not None:
                            lines(progress)
                finally:
                    if self._line is not None:
                        self._line.erase()
                handle = await load.wait_for_result()
        self._ended = time.monotonic()
        return handle

    def summary(self) -> str:
        """Return the duration of the load and its rate: ``3.2 s (2.50 GB, 781 MB/s)``."""
        reading = self._ended - self._reads_since
        rate = f", {size_text(self._size / reading)}/s" if reading > 0 else ""
        size = f" ({size_text(self._size)}{rate})" if self._size else ""
        return f"{self._ended - self._began:,.1f} s{size}"

    def _show(self, progress: LoadProgress) -> None:
        self._tell(progress)
        info, phase = progress.info, progress.phase
        self._phases.add(phase)
        if phase in ("resolved", "evicting"):
            # The time of evictions says nothing about the rate.
            self._reads_since = time.monotonic()
        if info is not None:
            self._name = _name(info)
            self._size = 0 if phase == "evicting" else info.size_bytes
        if self._line is not None and phase != "loaded":
            label = f"{'starting' if phase == 'resolved' else phase} {self._name}"
            notes = self._notes(progress.fraction) if phase == "loading" else ()
            self._line.show(bar_text(label, progress.fraction, notes, self._line.width))

    def _tell(self, progress: LoadProgress) -> None:
        info = progress.info
        if info is None:
            return
        if progress.phase == "evicting":
            name = _name(info)
            if name not in self._evicted:
                self._evicted.add(name)
                self._console.note(f"Evicting {name} to make room.")
        elif progress.ambiguous:
            others = ", ".join(progress.ambiguous)
            self._console.note(f"{self._key} matches several models: {others}. Loading {info.model_key}.")

    def _notes(self, fraction: float) -> tuple[str, ...]:
        """Return the rate and the time left, as far as they are known, in several lengths."""
        seconds = time.monotonic() - self._reads_since
        if seconds <= 0 or not fraction:
            return ()
        left = f"{duration_text(seconds * (1 - fraction) / fraction)} left"
        if not self._size:
            return (left,)
        return f"{size_text(self._size * fraction / seconds)}/s, {left}", left


async def tell_if_gpu_is_missing(handle: Any, config: Mapping[str, Any] | None, console: Console) -> None:
    """Print a note if a load was to use a GPU and the server has none.

    :param handle: the instance.
    :param config: the load config that was asked for.
    """
    gpu = (config or {}).get("gpu")
    ratio = gpu.get("ratio") if isinstance(gpu, Mapping) else None
    if ratio in (None, "off") or ratio == 0:
        return
    in_effect = (await handle.get_load_config()).gpu
    if in_effect is not None and in_effect.ratio in ("off", 0):
        console.note(
            f"{handle.identifier} runs on the CPU, because the server finds no GPU that it can use: see lmsa doctor"
        )


def _name(info: ModelInfo) -> str:
    # An instance that is evicted, or is the result, has a name of its own.
    return str(getattr(info, "identifier", "") or info.model_key)
