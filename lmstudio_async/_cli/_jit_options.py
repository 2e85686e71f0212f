"""Options of the commands that load a model just in time, and the client's view of them."""

from __future__ import annotations

from typing import Annotated

import typer

from lmstudio_async._cli._completion import embedding_models, llms
from lmstudio_async._cli._target import Target
from lmstudio_async._cli._units import parse_ttl

__all__ = ["ContextLength", "EmbeddingKey", "LlmKey", "Ttl", "jit_ttl_seconds", "ttl_seconds"]

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


def ttl_seconds(ttl: str) -> float | None:
    """Return the seconds of a TTL; None for ``never``.

    :raises typer.BadParameter: if it is no duration, or 0.
    """
    try:
        seconds = parse_ttl(ttl)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--ttl") from None
    if seconds == 0:
        raise typer.BadParameter("0 would unload the model at once.", param_hint="--ttl")
    return seconds


def jit_ttl_seconds(ttl: str | None, key: str, target: Target) -> float | None:
    """Return the seconds of the TTL of a load just in time; None if none is given.

    :param key: the model, for the advice.
    :param target: the server as the user has named it, for the advice.
    :raises typer.BadParameter: if it is no duration, or ``never``, which such a load cannot have.
    """
    if ttl is None:
        return None
    seconds = ttl_seconds(ttl)
    if seconds is None:
        raise typer.BadParameter(
            "A model that is loaded for one command has a TTL. One that stays: "
            f"{target.lasting_line('load', key, '--ttl', 'never')}",
            param_hint="--ttl",
        )
    return seconds
