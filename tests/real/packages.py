"""The packages that ship models of real size."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

__all__ = ["folder_of"]


def folder_of(name: str) -> Path:
    """Return the folder of a package without importing it; skip the test if it is not installed."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        pytest.skip(f"{name} is not installed: `tox -e real` installs it")
    return Path(spec.origin).parent
