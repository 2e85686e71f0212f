"""The models that an embedded server could load: the commands look for them before they start it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio.to_thread

if TYPE_CHECKING:
    from lmstudio_async import EmbeddedServer
    from lmstudio_async.embedded import ModelsScan

__all__ = ["places_text", "scan_models"]

#: Number of places that a text names.
_MOST_SHOWN = 4


async def scan_models(server: EmbeddedServer) -> ModelsScan:
    """Return the models that a server finds, and the files that it skips."""
    return await anyio.to_thread.run_sync(server.scan_models)


def places_text(server: EmbeddedServer) -> str:
    """Return the places where a server looks for models, for people."""
    places, cache = server.models, server.hub_cache
    names = ", ".join(map(str, places[:_MOST_SHOWN]))
    more = f" and {len(places) - _MOST_SHOWN} more" if len(places) > _MOST_SHOWN else ""
    return f"{names}{more}" + (f" and Hugging Face's cache {cache}" if cache is not None else "")
