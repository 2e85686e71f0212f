"""The public names of the official package, which `tests/official_names.json` holds.

``python -m tests.official.names`` writes that file if the official package is installed.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmstudio

__all__ = ["FILE", "read_names"]

FILE = Path(__file__).parent.parent / "official_names.json"

_MODULES = ("sdk_api", "schemas", "history", "json_api", "async_api", "sync_api")
# Names that every exception or class has.
_COMMON = {*dir(OSError), *dir(UserWarning), *dir(type)}


def read_names() -> dict[str, list[str]]:
    """Return all public names, with members of classes as ``name.member``, and the parameters of all functions."""
    exported = {
        name: getattr(lmstudio, name)
        for module in _MODULES
        for name in importlib.import_module(f"lmstudio.{module}").__all__
    }
    unexported = {
        name: getattr(importlib.import_module(f"lmstudio.{module}"), name)
        for module, prefix in (("sync_api", ""), ("async_api", "Async"))
        for name in (
            f"{prefix}AvailableModel",
            f"{prefix}ModelDownloadOption",
            *(
                f"_{prefix or 'Sync'}Session{each}"
                for each in ("Llm", "Embedding", "System", "Files", "Repository")
            ),
        )
    }
    names = {name: _parameters(value) for name, value in exported.items() if inspect.isfunction(value)}
    names |= {name: [] for name in exported if name not in names}
    for name, value in (exported | unexported).items():
        if inspect.isclass(value) and not name.endswith("Dict"):
            names |= {f"{name}.{member}": parameters for member, parameters in _members(value)}
    return dict(sorted(names.items()))


def _members(cls: type) -> Iterator[tuple[str, list[str]]]:
    for name in dir(cls):
        if not name.startswith("_") and name not in _COMMON:
            member = getattr(cls, name)
            yield name, _parameters(member) if inspect.isroutine(member) else []


def _parameters(function: Callable[..., Any]) -> list[str]:
    names = inspect.signature(function).parameters
    return [name for name in names if name not in ("self", "cls") and not name.startswith("_")]


if __name__ == "__main__":
    lines = [f"  {json.dumps(name)}: {json.dumps(parameters)}" for name, parameters in read_names().items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
