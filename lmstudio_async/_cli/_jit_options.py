"""Options of the commands that load a model just in time, and the client's view of them."""

from __future__ import annotations

from typing import Annotated

import typer

from lmstudio_async._cli._completion import embedding_models, llms
from lmstudio_async._cli._units import parse_ttl

__all__ = ["ContextLength", "EmbeddingKey", "LlmKey", "Ttl", "ttl_seconds"]

_KEY_HELP = "Key of a model, or identifier of an instance. It is loaded if it is not."

LlmKey = Annotated[
    str, typer.Argument(metavar="KEY", autocompletion=llms, help=_KEY_HELP, show_default=False)
]
EmbeddingKey = Annotated[
    str, typer.Argument(metavar="KEY", autocompletion=embedding_models, help=_KEY_HELP, show_default=False)
]
ContextLength = Annotated[
    int | None,
    typer.Option(
        "--context", "-c", metavar="TOKENS", min=1, help="Context length, if the model is loaded for this."
    ),
]
Ttl = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Idle time after which the model is unloaded, if it is loaded for this: 90 (seconds), 60m, 1h30m. "
        "Default: 1h.",
    ),
]


def ttl_seconds(ttl: str | None) -> float | None:
    """Return the seconds of a TTL; None if none is given.

    :raises typer.BadParameter: if it is no duration, or ``never``, which a load just in time cannot have.
    """
    if ttl is None:
        return None
    try:
        seconds = parse_ttl(ttl)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--ttl") from None
    if seconds is None:
        raise typer.BadParameter(
            "A model that is loaded for one command has a TTL. One that stays: lmsa load KEY --ttl never",
            param_hint="--ttl",
        )
    if not seconds:
        raise typer.BadParameter("0 would unload the model at once.", param_hint="--ttl")
    return seconds
