"""Options of the commands that load a model, or estimate its load, and the load config that they make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from lmstudio_async._cli._completion import model_keys
from lmstudio_async._cli._settings import parse_settings

__all__ = ["Config", "Context", "Device", "Gpu", "Key", "load_config"]


def _parse_gpu(text: str) -> str | float:
    """Return the ratio that ``--gpu`` means: ``max``, ``off``, or a number from 0 to 1."""
    short = text.strip().lower()
    if short in ("max", "off"):
        return short
    try:
        ratio = float(short)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise typer.BadParameter(f"{text!r} is neither max, nor off, nor a number from 0 to 1")
    return ratio


Key = Annotated[
    str,
    typer.Argument(
        metavar="KEY",
        autocompletion=model_keys,
        help="Model key, as 'lmsa ls' shows it.",
        show_default=False,
    ),
]
Context = Annotated[
    int | None,
    typer.Option(
        "--context",
        "-c",
        min=1,
        metavar="TOKENS",
        help="Length of the context, in tokens. Default: the server's.",
    ),
]
Gpu = Annotated[
    str | None,
    typer.Option(
        parser=_parse_gpu,
        metavar="max|off|0-1",
        help="How much of the model goes to the GPU. Default: the server's.",
    ),
]
Config = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Another setting of the load config, such as flash_attention=true or gpu.main_gpu=1; can be repeated. The "
        "value is JSON, or a plain text.",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(metavar="ID", help="LM Link device that runs the model."),
]


def load_config(
    context: int | None, gpu: str | float | None, settings: Sequence[str] | None
) -> dict[str, Any] | None:
    """Return the load config that some options mean; None if there is no setting. The names are not checked.

    :param settings: texts ``NAME=VALUE``, see `parse_settings`.
    :raises typer.BadParameter: a text has another form, or a setting is given twice.
    """
    config: dict[str, Any] = {}
    if context is not None:
        config["context_length"] = context
    if gpu is not None:
        config["gpu"] = {"ratio": gpu}
    return parse_settings(settings or (), config) or None
