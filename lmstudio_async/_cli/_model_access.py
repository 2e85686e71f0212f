"""The instance that a command uses: a loaded one, one that is loaded for it, or one that is downloaded first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from lmstudio_async._cli._load_display import LoadDisplay, tell_if_gpu_is_missing
from lmstudio_async._cli._missing_model import download_if_wanted
from lmstudio_async._cli._target import EMBEDDED
from lmstudio_async.errors import (
    LMStudioDomainMismatchError,
    LMStudioModelNotFoundError,
    LMStudioRuntimeError,
)

if TYPE_CHECKING:
    from lmstudio_async import AsyncClient, AsyncModelHandle, AsyncModelNamespace
    from lmstudio_async._cli._console import Console
    from lmstudio_async._cli._target import Target

__all__ = ["get_model"]

HandleT = TypeVar("HandleT", bound="AsyncModelHandle[Any]")


async def get_model(
    client: AsyncClient,
    models: AsyncModelNamespace[HandleT, Any, Any, Any],
    key: str,
    console: Console,
    *,
    target: Target,
    ttl: float | None = None,
    config: dict[str, Any] | None = None,
    may_offer: bool = True,
) -> HandleT:
    """Return a handle of a loaded instance, or load one with a bar, as ``model()`` does.

    :param models: ``client.llm`` or ``client.embedding``.
    :param key: a model key, or the identifier of an instance. A model that is missing is offered for download.
    :param target: the server as the user has named it, for the advice about a model that is missing.
    :param ttl: idle seconds of a new instance; None for the default of the SDK.
    :param config: load config of a new instance.
    :param may_offer: whether to offer the download of a model that is missing.
    :raises NotFoundError: if there is no such model, and it is not downloaded.
    :raises LMStudioRuntimeError: if the model is of the other kind.
    """
    options: dict[str, Any] = {"config": config or None, **({} if ttl is None else {"ttl": ttl})}
    try:
        handle = await _load(models, key, console, options, target)
    except LMStudioModelNotFoundError as error:
        if not may_offer:
            raise
        pulled = await download_if_wanted(client, key, error, console, target)
        handle = await _load(models, pulled, console, options, target)
    if client.api_host != EMBEDDED:
        # The embedded server of this command warns in its log, whose warnings are notes.
        await tell_if_gpu_is_missing(handle, config, console)
    wanted = (config or {}).get("context_length")
    length = handle.info.context_length
    if isinstance(wanted, int) and length < wanted:
        console.note(
            f"{handle.identifier} has a context of {length} tokens, not {wanted}: the settings of a load do not change an "
            f"instance that is loaded. To load it again: {target.lasting_line('unload', handle.identifier)}"
        )
    return handle


async def _load(
    models: AsyncModelNamespace[HandleT, Any, Any, Any],
    key: str,
    console: Console,
    options: dict[str, Any],
    target: Target,
) -> HandleT:
    try:
        return await LoadDisplay(console, key).follow(models.model_stream(key, **options))
    except LMStudioDomainMismatchError as error:
        raise LMStudioRuntimeError(_wrong_kind(models, key, target)) from error


def _wrong_kind(models: AsyncModelNamespace[Any, Any, Any, Any], key: str, target: Target) -> str:
    from lmstudio_async import AsyncLlmNamespace

    if isinstance(models, AsyncLlmNamespace):
        line = target.line("embed", key, "TEXT")
        return f"{key} is an embedding model, which has no answers. For its vectors: {line}"
    line = target.line("run", key, "PROMPT")
    return f"{key} is a language model, which has no vectors. For an answer: {line}"
