"""The command `lmsa demo`: the life of two instances of a model."""

from __future__ import annotations

from typing import Annotated

import typer

from lmstudio_async._cli._completion import model_keys
from lmstudio_async._cli._options import Host, TokenFile
from lmstudio_async._cli._run import run

__all__ = ["command"]


def command(
    host: Host = None,
    token_file: TokenFile = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", autocompletion=model_keys, help="The model to load. Default: the smallest LLM."
        ),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Use the embedded server, with this models folder or GGUF file."),
    ] = None,
) -> None:
    """Load a model twice, watch it, ask it something, unload it.

    It uses LM Studio if that answers, and the embedded server otherwise. It lists both instances, streams an answer, and
    watches them being unloaded.
    """

    async def play() -> None:
        from lmstudio_async._cli._stage import play
        from lmstudio_async._cli._token_file import tokens_in

        token = None if token_file is None else tokens_in(token_file)[0]
        await play(host, models, model, token)

    run(play, on_interrupt="Interrupted. Nothing that the demo loaded is left.")
