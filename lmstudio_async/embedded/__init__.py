"""A server of LM Studio's protocol inside your program, which loads GGUF models with llama.cpp.

It needs the extra ``embedded``: ``pip install ".[embedded]"`` in a clone of the repository.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstudio_async._lazy_exports import export_lazily

if TYPE_CHECKING or not export_lazily(__name__):
    from lmstudio_async.embedded._catalog._models_scan import FoundModel as FoundModel
    from lmstudio_async.embedded._catalog._models_scan import ModelsScan as ModelsScan
    from lmstudio_async.embedded._engine_state import EngineState as EngineState
    from lmstudio_async.embedded._engine_state import engine_state as engine_state
    from lmstudio_async.embedded._http._app import create_app as create_app
    from lmstudio_async.embedded._http._serve import serve as serve
    from lmstudio_async.embedded._limits import ServerLimits as ServerLimits
    from lmstudio_async.embedded._machine._main_memory import MainMemory as MainMemory
    from lmstudio_async.embedded._machine._main_memory import main_memory as main_memory
    from lmstudio_async.embedded._server import EmbeddedServer as EmbeddedServer
