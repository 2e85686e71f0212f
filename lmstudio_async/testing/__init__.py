"""Support for tests of programs that use the SDK: models with scripted answers, on the real embedded server.

It needs the extra ``embedded``. Nothing is downloaded, and a model is loaded in a fraction of a second::

    from lmstudio_async import AsyncClient, EmbeddedServer
    from lmstudio_async.testing import ModelsFolder

    models = ModelsFolder(tmp_path)
    models.add_llm("qwen3-4b", script="Forty-two.")
    async with EmbeddedServer(models.folder) as server, AsyncClient(server) as client:
        llm = await client.llm.model("qwen3-4b")
        assert str(await llm.respond("What is the answer?")) == "Forty-two."

For pytest there are fixtures, in ``lmstudio_async.testing.plugin``.
"""

from lmstudio_async.testing._chat_templates import CHATML as CHATML
from lmstudio_async.testing._chat_templates import HERMES as HERMES
from lmstudio_async.testing._chat_templates import THINKING as THINKING
from lmstudio_async.testing._models_folder import ModelsFolder as ModelsFolder
from lmstudio_async.testing._models_folder import tool_call as tool_call
from lmstudio_async.testing._served import served as served

__all__ = ["CHATML", "HERMES", "THINKING", "ModelsFolder", "served", "tool_call"]
