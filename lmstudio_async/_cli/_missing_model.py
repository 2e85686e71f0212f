"""The offer to download a model that a command needs and the server does not have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lmstudio_async._cli._download_advice import advice_for, can_download
from lmstudio_async._cli._download_bar import follow_download
from lmstudio_async._cli._exit_codes import NotFoundError
from lmstudio_async._cli._question import can_ask, confirm
from lmstudio_async.errors import LMStudioInstanceUnloadedError

if TYPE_CHECKING:
    from lmstudio_async import AsyncClient
    from lmstudio_async._cli._console import Console
    from lmstudio_async._cli._target import Target
    from lmstudio_async.errors import LMStudioModelNotFoundError

__all__ = ["download_if_wanted"]

#: Models of the server that the message lists.
_MOST_LISTED = 8


async def download_if_wanted(
    client: AsyncClient, key: str, error: LMStudioModelNotFoundError, console: Console, target: Target
) -> str:
    """Ask whether to download a model that is missing, and return the key to load it by.

    :param key: the model key, as the user gave it.
    :param error: the error of the server.
    :param target: the server as the user has named it, for the advice.
    :raises NotFoundError: the user cannot be asked, or declines.
    """
    if isinstance(error, LMStudioInstanceUnloadedError):
        # The model is there.
        raise error
    missing = f"There is no model {key!r}.{_others(key, error.candidates)}"
    advice = advice_for(key, target, client.api_host)
    if not can_ask() or not can_download(client.api_host):
        raise NotFoundError(f"{missing}\n{advice}")
    if not await confirm(f"{missing}\nDownload {key}?"):
        raise NotFoundError(f"There is no model {key!r}. {advice}")
    return await follow_download(client.repository.download_stream(key), console, key)


def _others(key: str, candidates: Sequence[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(key.lower(), candidates, n=1)
    meant = f" Did you mean {close[0]!r}?" if close else ""
    there = ", ".join(candidates[:_MOST_LISTED])
    return f"{meant} There are: {there}." if there else ""
