"""Imports in a worker thread, because creating the classes of a module would block the event loop for milliseconds."""

from __future__ import annotations

from importlib import import_module

import anyio
import anyio.to_thread

__all__ = ["preload"]

_loaded: set[str] = set()


async def preload(*modules: str) -> None:
    """Import modules of this package in a worker thread, once.

    An async function calls this before an import of its own that creates classes or opens files. That import then finds
    the module already loaded.

    :param modules: their names below the package.

    ::

        await preload("_load", "_wire._kv")
        from lmstudio_async._load import AsyncLoadStream
    """
    if not _loaded.issuperset(modules):
        # With a limiter of its own, because all threads of the default limiter may be waiting for this task.
        await anyio.to_thread.run_sync(_load, modules, limiter=anyio.CapacityLimiter(1))


def _load(modules: tuple[str, ...]) -> None:
    for name in modules:
        import_module(f"{__package__}.{name}")
    # Recorded only after the import, because `sys.modules` has a module already while it is being imported.
    _loaded.update(modules)
