"""The search for the model that the user wants to download, and the choice among its results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lmstudio_async._cli._exit_codes import NotFoundError
from lmstudio_async._cli._question import ask, can_ask, confirm
from lmstudio_async._cli._units import size_text
from lmstudio_async.errors import LMStudioRuntimeError

if TYPE_CHECKING:
    from lmstudio_async import (
        AsyncAvailableModel,
        AsyncClient,
        AsyncDownloadStream,
        AsyncModelDownloadOption,
        DownloadName,
    )
    from lmstudio_async._cli._console import Console

__all__ = ["find_download", "offer_download"]

#: Search results that are listed.
_MOST_SHOWN = 15

_NOTHING = "Nothing was downloaded."


async def find_download(
    client: AsyncClient, wanted: DownloadName, console: Console, *, takes_first: bool
) -> tuple[str, AsyncDownloadStream]:
    """Return the name of the model to download, and its download. A name without an owner is searched for.

    :param takes_first: whether to take the first result of a search without a question.
    :raises NotFoundError: the search finds nothing.
    :raises LMStudioRuntimeError: the search finds several models, and the user cannot be asked or wants none.
    """
    if wanted.is_repository:
        stream = client.repository.download_stream(wanted.name, quantization=wanted.quantization)
        return wanted.name, stream
    found = await client.repository.search_models(wanted.search_term, limit=25)
    model = await _choose(wanted, found, console, takes_first=takes_first)
    name = _name(model)
    return name, model.download_stream(quantization=wanted.quantization)


async def offer_download(
    client: AsyncClient, wanted: DownloadName, *, is_exact: bool
) -> tuple[str, AsyncDownloadStream] | None:
    """Ask whether to download a model, with the size of its file, if the server finds it.

    :param is_exact: whether the model must have the name; else a search may find several others, to choose one.
    :return: the name of the model and its download; None if a search finds none.
    :raises LMStudioModelNotFoundError: there is no such repository or quantization.
    :raises LMStudioRuntimeError: the user wants none.
    """
    repository = client.repository
    if wanted.is_repository:
        option = await repository.find_download_option(wanted.name, quantization=wanted.quantization)
        await _confirm(wanted.name, option)
        return wanted.name, option.download_stream()
    found = await repository.search_models(wanted.search_term, limit=25)
    same = [model for model in found if wanted.is_name_of(model.search_result)]
    candidates = same if same or is_exact else found
    if not candidates:
        return None
    if len(candidates) == 1:
        (model,) = candidates
        option = await model.find_download_option(quantization=wanted.quantization)
        await _confirm(_name(model), option)
        return _name(model), option.download_stream()
    model = await _choose_of(candidates)
    return _name(model), model.download_stream(quantization=wanted.quantization)


async def _confirm(name: str, option: AsyncModelDownloadOption) -> None:
    """Ask whether to download a file.

    :raises LMStudioRuntimeError: the user declines.
    """
    info = option.info
    facts = [info.quantization or info.name, size_text(info.size_bytes) if info.size_bytes else ""]
    shown = ", ".join(filter(None, facts))
    if not await confirm(f"Download {name}{f' ({shown})' if shown else ''}?"):
        raise LMStudioRuntimeError(_NOTHING)


async def _choose(
    wanted: DownloadName, found: Sequence[AsyncAvailableModel], console: Console, *, takes_first: bool
) -> AsyncAvailableModel:
    if not found:
        raise NotFoundError(f"A search for {wanted.name!r} finds no model. Try fewer words.")
    same = [model for model in found if wanted.is_name_of(model.search_result)]
    candidates = same or list(found)
    if takes_first or len(same) == 1:
        console.note(f"{wanted.name} is {_name(candidates[0])}.")
        return candidates[0]
    shown = candidates[:_MOST_SHOWN]
    if console.is_json or not can_ask():
        raise LMStudioRuntimeError(
            "\n".join(
                [
                    f"A search for {wanted.name!r} finds these models:",
                    *(f"  {_described(model)}" for model in shown),
                    "Name one of them, or take the first one with --first.",
                ]
            )
        )
    if len(shown) == 1:
        await _confirm(_name(shown[0]), await shown[0].find_download_option(quantization=wanted.quantization))
        return shown[0]
    return await _choose_of(shown)


async def _choose_of(candidates: Sequence[AsyncAvailableModel]) -> AsyncAvailableModel:
    """Let the user choose one of the first models.

    :raises LMStudioRuntimeError: the user wants none.
    """
    shown = candidates[:_MOST_SHOWN]
    width = len(str(len(shown)))
    lines = [f"{number:>{width}}  {_described(model)}" for number, model in enumerate(shown, 1)]
    return shown[await _number(lines)]


async def _number(lines: Sequence[str]) -> int:
    """Ask for the number of a line, counted from 1, and return its index.

    :raises LMStudioRuntimeError: the user wants none.
    """
    question = "\n".join([*lines, f"Which one? [1-{len(lines)}, Enter for none]"])
    while True:
        answer = await ask(question)
        if not answer:
            raise LMStudioRuntimeError(_NOTHING)
        if answer.isdecimal() and 1 <= int(answer) <= len(lines):
            return int(answer) - 1
        question = f"{answer!r} is no number from 1 to {len(lines)}. Which one?"


def _described(model: AsyncAvailableModel) -> str:
    return f"{_name(model)}  (staff pick)" if model.search_result.staff_pick else _name(model)


def _name(model: AsyncAvailableModel) -> str:
    return model.search_result.identifier.identifier or model.search_result.name
