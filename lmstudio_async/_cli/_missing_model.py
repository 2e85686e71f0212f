"""A model that a command needs and the server does not have: the error, and the offer to download it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lmstudio_async._cli._download_advice import advice_for, can_download
from lmstudio_async._cli._download_bar import follow_download
from lmstudio_async._cli._download_search import offer_download
from lmstudio_async._cli._exit_codes import NotFoundError
from lmstudio_async._cli._question import can_ask
from lmstudio_async._printable import printable_lines
from lmstudio_async.errors import (
    LMStudioInstanceUnloadedError,
    LMStudioRuntimeError,
    LMStudioServerError,
    LMStudioValueError,
)

if TYPE_CHECKING:
    from lmstudio_async import AsyncClient
    from lmstudio_async._cli._console import Console
    from lmstudio_async._cli._target import Target
    from lmstudio_async.errors import LMStudioModelNotFoundError

__all__ = ["download_if_wanted", "missing_model_error", "other_models"]

#: Models of the server that the message lists.
_MOST_LISTED = 8


async def download_if_wanted(
    client: AsyncClient,
    key: str,
    error: LMStudioModelNotFoundError,
    console: Console,
    target: Target,
    *,
    candidates: Sequence[str] | None = None,
) -> str:
    """Ask whether to download a model that is missing, and return the key to load it by.

    :param key: the model key, as the user gave it.
    :param error: the error of the server.
    :param target: the server as the user has named it, for the advice.
    :param candidates: keys that may have been meant; None for those of the error, which all have the kind that was
        requested.
    :raises NotFoundError: the user cannot be asked, or declines; or there is no such model to download.
    """
    from lmstudio_async import DownloadName

    if isinstance(error, LMStudioInstanceUnloadedError):
        # The model is there.
        raise error
    if error.display_data.get("path", key) not in (key, key.strip()):
        # Another model is missing, such as the draft model of a load.
        raise error
    if candidates is None:
        candidates = error.candidates
    if not can_ask() or not can_download(client.api_host):
        raise missing_model_error(client, key, candidates, target)
    # Before the look at the Hub, which may take a while.
    print(printable_lines(_missing_text(key, candidates)), file=sys.stderr, flush=True)
    is_exact = bool(_close_match(key, candidates))
    try:
        found = await offer_download(client, DownloadName.parse(key), is_exact=is_exact)
    except (LMStudioServerError, LMStudioValueError) as failure:
        raise NotFoundError(f"It cannot be downloaded. {failure}") from failure
    except LMStudioRuntimeError:
        raise NotFoundError(
            f"There is no model {key!r}. {advice_for(key, target, client.api_host)}"
        ) from None
    if found is None:
        raise NotFoundError(
            f"No model to download has the name {key!r}. To search with other words: lmsa pull WORDS"
        )
    shown, download = found
    return await follow_download(download, console, shown)


def missing_model_error(
    client: AsyncClient, key: str, candidates: Sequence[str], target: Target
) -> NotFoundError:
    """Return the error about a model that is missing, with the command that downloads it. Blocks.

    :param key: the model key, as the user gave it.
    :param candidates: keys that may have been meant.
    :param target: the server as the user has named it, for the advice.
    """
    return NotFoundError(f"{_missing_text(key, candidates)}\n{advice_for(key, target, client.api_host)}")


def _missing_text(key: str, candidates: Sequence[str]) -> str:
    return f"There is no model {key!r}.{other_models(key, candidates)}"


def other_models(key: str, candidates: Sequence[str]) -> str:
    """Return the models that there are, and the one that the user may have meant, as further sentences of a message."""
    if not candidates:
        return ""
    close = _close_match(key, candidates)
    meant = f" Did you mean {close!r}?" if close else ""
    hidden = len(candidates) - _MOST_LISTED
    more = f", and {hidden} more" if hidden > 0 else ""
    return f"{meant} There are: {', '.join(candidates[:_MOST_LISTED])}{more}."


def _close_match(key: str, candidates: Sequence[str]) -> str:
    """Return the key that the user may have meant; empty if there is none."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(key.lower(), candidates, n=1)), "")
