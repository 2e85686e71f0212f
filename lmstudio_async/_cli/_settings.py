"""Settings of loads and of predictions, as the user types them: ``NAME=VALUE``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import typer

__all__ = ["parse_settings", "split_settings"]

_OPTION = "'--config'"


def parse_settings(given: Iterable[str], config: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the config that some settings make. The names are not checked.

    A dot in a name separates the members of nested settings, except after ``extra.``, where the rest is one key of the
    wire. A value is JSON, or a text if it is not JSON.

    :param given: texts such as ``gpu.ratio=0.5``.
    :param config: a config to add the settings to.
    :raises typer.BadParameter: a text has another form, or a setting is given twice.
    """
    config = {} if config is None else config
    for setting in given:
        name, equals, value = setting.partition("=")
        path = name.strip().split(".", 1 if name.strip().startswith("extra.") else -1)
        if not equals or not all(path):
            raise typer.BadParameter(f"{setting!r} is not NAME=VALUE", param_hint=_OPTION)
        _put(config, path, _value(value))
    return config


def split_settings(given: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the load config and the prediction config that some settings make. The names decide which.

    :param given: see `parse_settings`.
    :raises typer.BadParameter: as `parse_settings`, and for an unknown name.
    """
    import attrs

    from lmstudio_async import LlmLoadModelConfig, LlmPredictionConfig

    of_load = {field.name for field in attrs.fields(LlmLoadModelConfig)}
    of_prediction = {field.name for field in attrs.fields(LlmPredictionConfig)}
    load: dict[str, Any] = {}
    prediction: dict[str, Any] = {}
    for name, value in parse_settings(given).items():
        if name not in of_load | of_prediction:
            raise typer.BadParameter(
                f"{name!r} is no setting.{_similar(name, of_load | of_prediction)}", param_hint=_OPTION
            )
        (prediction if name in of_prediction else load)[name] = value
    return load, prediction


def _put(config: dict[str, Any], path: Sequence[str], value: object) -> None:
    place = config
    for member in path[:-1]:
        place = place.setdefault(member, {})
        if not isinstance(place, dict):
            break
    if not isinstance(place, dict) or path[-1] in place:
        raise typer.BadParameter(
            f"{'.'.join(path)} is given twice, or together with a value that it is a part of",
            param_hint=_OPTION,
        )
    place[path[-1]] = value


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _similar(name: str, names: set[str]) -> str:
    from difflib import get_close_matches

    # Half of the letters are enough: top_k finds top_k_sampling.
    found = get_close_matches(name, names, n=1, cutoff=0.5)
    return f" Did you mean {found[0]!r}?" if found else ""
