"""The command `lmsa pull`: download a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from lmstudio_async._cli._console import Console
from lmstudio_async._cli._options import Host, Json, Models, Quiet, TokenFile
from lmstudio_async._cli._run import run
from lmstudio_async._cli._target import Target

if TYPE_CHECKING:
    from lmstudio_async import AsyncAvailableModel, AsyncClient, AsyncDownloadStream, DownloadName

__all__ = ["command"]

#: Search results that are listed.
_MOST_SHOWN = 15

_NOTHING = "Nothing was downloaded."


def command(
    name: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME",
            help="owner/repo on the Hub or its URL, the name of a model, or search words. A quantization may follow: "
            "owner/repo:Q4_K_M.",
        ),
    ],
    quantization: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Quantization, such as Q4_K_M, or the name of a file. Default: what is there, else what fits the machine "
            "best.",
        ),
    ] = None,
    first: Annotated[
        bool,
        typer.Option(
            "--first", "--yes", "-y", help="Take the first model that a search finds, without a question."
        ),
    ] = False,
    host: Host = None,
    token_file: TokenFile = None,
    models: Models = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Download a model, and print its key.

    An interrupted download goes on where it stopped. A model that is there already stays as it is.
    """
    run(
        _pull,
        Target(host, token_file, models),
        Console(json, quiet),
        " ".join(name),
        quantization,
        first,
        on_interrupt="Interrupted. The same command goes on where the download stopped.",
    )


async def _pull(target: Target, console: Console, name: str, quantization: str | None, first: bool) -> None:
    from lmstudio_async import DownloadName
    from lmstudio_async._cli._download_bar import follow_download

    wanted = DownloadName.parse(name, quantization)
    async with target.connect(console, may_embed=True) as client:
        key = wanted.key_among([model.info for model in await client.system.list_downloaded_models()])
        was_there = key is not None
        if key is None:
            shown, download = await _find(client, wanted, console, takes_first=first)
            key = await follow_download(download, console, shown)
        if console.is_json:
            console.json({"model_key": key, "downloaded": not was_there})
            return
    if was_there:
        console.note("It is downloaded already:")
    console.line(key)


async def _find(
    client: AsyncClient, wanted: DownloadName, console: Console, *, takes_first: bool
) -> tuple[str, AsyncDownloadStream]:
    """Return the name of the model to download, and its download.

    :raises LMStudioError: the search finds several models, and the user cannot be asked.
    """
    if wanted.is_repository:
        stream = client.repository.download_stream(wanted.name, quantization=wanted.quantization)
        return wanted.name, stream
    found = await client.repository.search_models(wanted.search_term, limit=25)
    model = await _choose(wanted, found, console, takes_first=takes_first)
    name = _name(model)
    return name, model.download_stream(quantization=wanted.quantization)


async def _choose(
    wanted: DownloadName, found: Sequence[AsyncAvailableModel], console: Console, *, takes_first: bool
) -> AsyncAvailableModel:
    from lmstudio_async._cli._exit_codes import NotFoundError
    from lmstudio_async._cli._question import can_ask, confirm
    from lmstudio_async.errors import LMStudioRuntimeError

    if not found:
        raise NotFoundError(f"A search for {wanted.name!r} finds no model. Try fewer words.")
    same = [model for model in found if wanted.is_name_of(model.search_result)]
    candidates = same or list(found)
    if takes_first or len(same) == 1:
        console.note(f"{wanted.name} is {_name(candidates[0])}.")
        return candidates[0]
    shown = candidates[:_MOST_SHOWN]
    width = len(str(len(shown)))
    lines = [f"{number:>{width}}  {_described(model)}" for number, model in enumerate(shown, 1)]
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
        if await confirm(f"Download {_name(shown[0])}?"):
            return shown[0]
        raise LMStudioRuntimeError(_NOTHING)
    return shown[await _number(lines)]


async def _number(lines: Sequence[str]) -> int:
    """Ask for the number of a line, counted from 1, and return its index.

    :raises LMStudioRuntimeError: the user wants none.
    """
    from lmstudio_async._cli._question import ask
    from lmstudio_async.errors import LMStudioRuntimeError

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
