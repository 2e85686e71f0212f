"""Namespaces of models whose kind the user does not say: the downloaded models tell it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from lmstudio_async.errors import LMStudioDomainMismatchError, LMStudioTimeoutError

if TYPE_CHECKING:
    from lmstudio_async import AsyncClient, AsyncModelNamespace

__all__ = ["AnyNamespace", "keys_of_both_kinds", "with_namespace_of"]

#: Seconds that a server may take to list its models: LM Studio may look for new ones.
_LONGEST_LIST = 30.0

ResultT = TypeVar("ResultT")

AnyNamespace: TypeAlias = "AsyncModelNamespace[Any, Any, Any, Any]"


async def with_namespace_of(
    client: AsyncClient, key: str, use: Callable[[AnyNamespace], Awaitable[ResultT]]
) -> ResultT:
    """Call a function with the namespace of a model, and return its result.

    The server may accept other texts than the keys that it lists, such as the beginning of a path. For these, the
    function is called with the language models, and again with the embedding models if the server says so.

    :param key: a model key, or another text that the server understands.
    """
    kind = await _listed_kind(client, key)
    if kind == "embedding":
        return await use(client.embedding)
    try:
        return await use(client.llm)
    except LMStudioDomainMismatchError:
        if kind is not None:
            raise
        return await use(client.embedding)


async def keys_of_both_kinds(client: AsyncClient) -> Sequence[str]:
    """Return the keys of all downloaded models: the error about a missing one has keys of one kind only."""
    return [model.model_key for model in await client.system.list_downloaded_models()]


async def _listed_kind(client: AsyncClient, key: str) -> str | None:
    """Return the kind of a downloaded model; None if no listed model has this key."""
    import anyio

    kinds: dict[str, str] = {}
    with anyio.move_on_after(_LONGEST_LIST) as limit:
        models = await client.system.list_downloaded_models()
    if limit.cancelled_caught:
        # A load has no time limit, but it shows that it goes on.
        raise LMStudioTimeoutError(
            f"{client.api_host} did not list its models within {_LONGEST_LIST:g} seconds."
        )
    for model in models:
        info = model.info
        kinds.setdefault(info.path, info.type)
        for variant in info.variants or ():
            kinds.setdefault(variant, info.type)
        # The key of one model may be the path of another one.
        kinds[info.model_key] = info.type
    return kinds.get(key)
