"""Settings of loads and of predictions, as the user types them: ``name=value``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import typer

__all__ = ["split_settings"]


def split_settings(given: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the load config and the prediction config that the settings make.

    The name of a setting decides to which config it belongs. ``gpu.ratio=0.5`` sets a part of a setting. A value is
    JSON, or a text if it is not JSON.

    :param given: settings such as ``temperature=0.2``.
    :raises typer.BadParameter: for a text without ``=``, and for an unknown name.
    """
    import attrs

    from lmstudio_async import LlmLoadModelConfig, LlmPredictionConfig

    load: dict[str, Any] = {}
    prediction: dict[str, Any] = {}
    of_load = {field.name for field in attrs.fields(LlmLoadModelConfig)}
    of_prediction = {field.name for field in attrs.fields(LlmPredictionConfig)}
    for setting in given:
        path, equals, text = setting.partition("=")
        name, *parts = path.strip().split(".")
        if not equals or not name:
            raise typer.BadParameter(
                f"{setting!r} is not name=value, such as top_k_sampling=20", param_hint="--config"
            )
        if name not in of_load | of_prediction:
            raise typer.BadParameter(f"{name!r} is no setting{_similar(name, of_load | of_prediction)}")
        place = prediction if name in of_prediction else load
        for part, following in zip([name, *parts], [*parts, None], strict=True):
            if following is None:
                place[part] = _value(text)
            else:
                inner = place.setdefault(part, {})
                if not isinstance(inner, dict):
                    raise typer.BadParameter(f"{name} is given twice, as a whole and in parts")
                place = inner
    return load, prediction


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _similar(name: str, names: set[str]) -> str:
    from difflib import get_close_matches

    found = get_close_matches(name, names, n=3)
    return f": do you mean {' or '.join(found)}?" if found else ""
