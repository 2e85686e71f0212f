"""A handle of a model on a scripted server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from lmstudio_async import AsyncLLM
from tests.scripted_server import ScriptedServer, loaded_llm


@pytest.fixture
def server() -> ScriptedServer:
    return ScriptedServer()


@pytest.fixture
async def llm(server: ScriptedServer) -> AsyncIterator[AsyncLLM]:
    async with server.client() as (client, _):
        yield await loaded_llm(client, server)
