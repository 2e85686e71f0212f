"""Imports in a worker thread: making the classes of a module takes milliseconds in which an event loop stands still."""

from __future__ import annotations

from importlib import import_module

import anyio
import anyio.to_thread

__all__ = ["preload"]

_loaded: set[str] = set()


async def preload(*modules: str) -> None:
    """Import modules of this package in a worker thread, once.

    An async function calls it before the first import of its own that makes classes or opens files: that import then
    finds the module loaded.

    :param modules: their names below the package.

    ::

        await preload("_loading", "_wire._kv")
        from lmstudio_async._loading import AsyncLoadStream
    """
    if not _loaded.issuperset(modules):
        # A limiter of its own: the threads of the default one may all wait for this very task.
        await anyio.to_thread.run_sync(_load, modules, limiter=anyio.CapacityLimiter(1))


def _load(modules: tuple[str, ...]) -> None:
    for name in modules:
        import_module(f"{__package__}.{name}")
    # Not before: a module that is being imported is in `sys.modules` already.
    _loaded.update(modules)
