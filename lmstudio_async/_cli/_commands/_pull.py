"""The command `lmsa pull`: download a model."""

from __future__ import annotations

from typing import Annotated

import typer

from lmstudio_async._cli._console import Console
from lmstudio_async._cli._options import Host, Json, Models, Quiet, TokenFile
from lmstudio_async._cli._run import run
from lmstudio_async._cli._target import Target

__all__ = ["command"]


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
    from lmstudio_async._cli._download_search import find_download

    wanted = DownloadName.parse(name, quantization)
    async with target.connect(console, may_embed=True) as client:
        key = wanted.key_among([model.info for model in await client.system.list_downloaded_models()])
        was_there = key is not None
        if key is None:
            shown, download = await find_download(client, wanted, console, takes_first=first)
            key = await follow_download(download, console, shown)
        if console.is_json:
            console.json({"model_key": key, "downloaded": not was_there})
            return
    if was_there:
        console.note("It is downloaded already:")
    console.line(key)
