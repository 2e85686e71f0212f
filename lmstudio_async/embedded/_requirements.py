"""Check that the packages of the extra ``embedded`` are installed."""

from __future__ import annotations

from importlib.util import find_spec

from lmstudio_async.errors import LMStudioRuntimeError

__all__ = ["check_extra"]

_MODULES = ("starlette", "uvicorn", "xllamacpp")


def check_extra() -> None:
    """Check that all packages are installed that a server on a port needs.

    :raises LMStudioRuntimeError: if a package is missing; the message names the extra that installs it.
    """
    missing = [name for name in _MODULES if find_spec(name) is None]
    if missing:
        raise LMStudioRuntimeError(
            f"The embedded server needs packages that are not installed ({', '.join(missing)}): "
            'pip install "lmstudio-async[embedded]"'
        )
