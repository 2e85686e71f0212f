"""Versions of the installed packages, read from files once. The server does it in a thread when it starts."""

from __future__ import annotations

from functools import cache

__all__ = ["engine_version", "package_version"]


@cache
def engine_version() -> str:
    """Return the version of the engine's package, for error messages."""
    return _version_of("xllamacpp") or "not installed"


@cache
def package_version() -> str:
    """Return the version of this package."""
    return _version_of("lmstudio-async") or "0.0.0"


def _version_of(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None
