"""The version that `lmsa --version` prints."""

from __future__ import annotations

__all__ = ["version_line"]


def version_line() -> str:
    """Return the name and the version of the distribution."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"lmstudio-async {version('lmstudio-async')}"
    except PackageNotFoundError:
        return "lmstudio-async (a source tree that is not installed)"
