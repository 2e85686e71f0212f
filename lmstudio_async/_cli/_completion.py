"""Completion of model keys and identifiers in a shell: quick, and silent if there is nothing to complete from.

The options that stand before the incomplete word name the server, as they do for the command itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import typer

from lmstudio_async._cli._target import EMBEDDED, Target

if TYPE_CHECKING:
    from lmstudio_async import AsyncClient, AsyncModelNamespace

__all__ = ["embedding_models", "identifiers", "keys_on_disk", "llms", "model_keys"]

#: Seconds that the shell waits at most for the names, because it shows nothing meanwhile.
_SECONDS = 3.0


def model_keys(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the keys of the downloaded models that begin with a text.

    They are those of the LM Studio that the command would use, else those in the places of the embedded server.
    """
    return _complete(incomplete, lambda: _names(ctx, _model_keys, or_on_disk=True))


def identifiers(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the identifiers of the loaded instances that begin with a text."""
    return _complete(incomplete, lambda: _names(ctx, _identifiers, or_on_disk=False))


def llms(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the keys and the identifiers of LLMs that begin with a text."""
    return _complete(incomplete, lambda: _names(ctx, _llms, or_on_disk=True, kind="llm"))


def embedding_models(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the keys and the identifiers of embedding models that begin with a text."""
    return _complete(incomplete, lambda: _names(ctx, _embedding_models, or_on_disk=True, kind="embedding"))


def keys_on_disk(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the keys of the embedded server's models that begin with a text, for commands that use no other server."""
    return _complete(incomplete, lambda: _scan(ctx))


async def _model_keys(client: AsyncClient) -> list[str]:
    return [model.model_key for model in await client.system.list_downloaded_models()]


async def _identifiers(client: AsyncClient) -> list[str]:
    return [handle.identifier for handle in await client.list_loaded_models()]


async def _llms(client: AsyncClient) -> list[str]:
    return await _keys_and_identifiers(client.llm)


async def _embedding_models(client: AsyncClient) -> list[str]:
    return await _keys_and_identifiers(client.embedding)


async def _keys_and_identifiers(models: AsyncModelNamespace[Any, Any, Any, Any]) -> list[str]:
    downloaded, loaded = await models.list_downloaded(), await models.list_loaded()
    return [*(model.model_key for model in downloaded), *(handle.identifier for handle in loaded)]


async def _names(
    ctx: typer.Context,
    ask: Callable[[AsyncClient], Awaitable[list[str]]],
    *,
    or_on_disk: bool,
    kind: str | None = None,
) -> list[str]:
    """Return the names that a server knows, else, if wanted, those of the models on the disk."""
    from lmstudio_async import AsyncClient

    host = Target(ctx.params.get("host"), models=ctx.params.get("models")).named_host
    if host is None:
        host = await AsyncClient.find_default_local_api_host()
    if host not in (None, EMBEDDED):
        async with AsyncClient(host, _token(ctx)) as client:
            return await ask(client)
    return await _scan(ctx, kind) if or_on_disk else []


async def _scan(ctx: typer.Context, kind: str | None = None) -> list[str]:
    from lmstudio_async import EmbeddedServer
    from lmstudio_async._cli._checks._check import in_daemon_thread

    def scan() -> list[str]:
        found = EmbeddedServer(models or None).scan_models().models
        return [model.model_key for model in found if kind in (None, model.type)]

    models = ctx.params.get("models")
    return await in_daemon_thread(_SECONDS, scan)


def _token(ctx: typer.Context) -> str | None:
    from lmstudio_async._cli._token_file import tokens_in

    file = ctx.params.get("token_file")
    return None if file is None else tokens_in(file)[0]


def _complete(incomplete: str, find: Callable[[], Awaitable[list[str]]]) -> list[str]:
    import anyio

    names: list[str] = []

    async def look() -> None:
        with anyio.move_on_after(_SECONDS):
            names.extend(await find())

    try:
        anyio.run(look)
    except Exception:  # noqa: BLE001 - a message would appear in the middle of the line that the user types
        return []
    return list(dict.fromkeys(name for name in names if name.startswith(incomplete)))
