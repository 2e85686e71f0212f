"""How to get a model that is missing, as the last words of a message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from lmstudio_async._cli._target import EMBEDDED, Target
from lmstudio_async._install_command import install_command, missing_modules, pull_command

__all__ = ["advice_for", "can_download", "small_model_advice"]


def can_download(api_host: str) -> bool:
    """Return whether the packages for downloads to a server are installed, as far as this machine knows. Blocks."""
    return not missing_modules(*_extras(api_host))


def advice_for(key: str, target: Target, api_host: str) -> str:
    """Return the command that downloads a model, or the one that installs what this needs. Blocks.

    :param key: the model, in the words of the user.
    :param target: the server as the user has named it.
    :param api_host: the address of the server, or ``embedded``.
    """
    if not can_download(api_host):
        return _install_advice(api_host)
    return f"To download it: {_without_files(target).line('pull', key)}"


def small_model_advice(target: Target, api_host: str, kind: Literal["llm", "embedding"] = "llm") -> str:
    """Return the command that downloads a small model, or the one that installs what this needs. Blocks.

    :param target: the server as the user has named it.
    :param api_host: the address of the server, or ``embedded``.
    :param kind: the kind of the model.
    """
    if not can_download(api_host):
        return _install_advice(api_host)
    return f"To download one: {pull_command(None, kind, _without_files(target).options, extras=_extras(api_host))}"


def _install_advice(api_host: str) -> str:
    return f"Downloads need more packages: {install_command(*_extras(api_host))}"


def _without_files(target: Target) -> Target:
    if any(place.is_dir() for place in target.models or ()):
        return target
    # Single files have no folder for downloads.
    return Target(target.host, target.token_file)


def _extras(api_host: str) -> Sequence[str]:
    return ("cli", "embedded", "hub") if api_host == EMBEDDED else ("cli",)
