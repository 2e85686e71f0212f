"""Completion of model keys and identifiers in a shell: quick, and silent if there is nothing to complete from."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmstudio_async import AsyncClient

__all__ = ["identifiers", "model_keys"]

#: Seconds that the shell waits at most for the names, because it shows nothing meanwhile.
_SECONDS = 1.5


def model_keys(incomplete: str) -> list[str]:
    """Return the keys of the downloaded models that begin with a text.

    They are those of the LM Studio that answers, else those in the places of the embedded server.
    """
    return _complete(_model_keys, _keys_on_disk, incomplete)


def identifiers(incomplete: str) -> list[str]:
    """Return the identifiers of the loaded instances that begin with a text."""
    return _complete(_identifiers, None, incomplete)


async def _model_keys(client: AsyncClient) -> list[str]:
    return [model.model_key for model in await client.system.list_downloaded_models()]


async def _identifiers(client: AsyncClient) -> list[str]:
    return [handle.identifier for handle in await client.list_loaded_models()]


def _keys_on_disk() -> list[str]:
    from lmstudio_async import EmbeddedServer
    from lmstudio_async.embedded._catalog._catalog import Catalog
    from lmstudio_async.embedded._server import places_of

    return [model.model_key for model in Catalog(places_of(EmbeddedServer())).scan()]


def _complete(
    ask: Callable[[AsyncClient], Awaitable[list[str]]],
    without_server: Callable[[], list[str]] | None,
    incomplete: str,
) -> list[str]:
    import anyio

    names: list[str] | None = None

    async def look() -> None:
        nonlocal names
        from lmstudio_async import AsyncClient

        with anyio.move_on_after(_SECONDS):
            host = os.environ.get("LMSTUDIO_HOST") or await AsyncClient.find_default_local_api_host()
            if host not in (None, "embedded"):
                async with AsyncClient(host) as client:
                    names = await ask(client)

    try:
        anyio.run(look)
        if names is None and without_server is not None:
            names = without_server()
    except Exception:  # noqa: BLE001 - a message would appear in the middle of the line that the user types
        return []
    return [name for name in names or () if name.startswith(incomplete)]
