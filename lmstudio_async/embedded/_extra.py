"""Whether what the server needs is installed."""

from __future__ import annotations

from importlib.util import find_spec

from lmstudio_async.errors import LMStudioRuntimeError

__all__ = ["check_extra"]

_MODULES = ("starlette", "uvicorn", "xllamacpp")


def check_extra() -> None:
    """Make sure that there is all that a server behind a port needs.

    :raises LMStudioRuntimeError: if something is missing, and which extra brings it.
    """
    missing = [name for name in _MODULES if find_spec(name) is None]
    if missing:
        raise LMStudioRuntimeError(
            f"The embedded server needs what is not installed ({', '.join(missing)}): "
            'pip install "lmstudio-async[embedded]"'
        )
