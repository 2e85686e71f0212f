"""A server of LM Studio's protocol inside your program, which loads GGUF models with llama.cpp.

It needs the extra ``embedded``: ``pip install "lmstudio-async[embedded]"``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmstudio_async.embedded._http import create_app as create_app
    from lmstudio_async.embedded._limits import ServerLimits as ServerLimits
    from lmstudio_async.embedded._server import EmbeddedServer as EmbeddedServer

__all__ = ["EmbeddedServer", "ServerLimits", "create_app"]


# Import each name on first use, because a server inside a program needs no module that listens on a port.
def __getattr__(name: str) -> Any:
    if name == "EmbeddedServer":
        from lmstudio_async.embedded._server import EmbeddedServer

        return EmbeddedServer
    if name == "ServerLimits":
        from lmstudio_async.embedded._limits import ServerLimits

        return ServerLimits
    if name == "create_app":
        from lmstudio_async.embedded._http import create_app

        return create_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
