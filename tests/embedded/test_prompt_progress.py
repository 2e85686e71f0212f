"""Progress of a prompt in the processing state of an instance, while a real engine is held at a frame of its answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from lmstudio_async import AsyncClient, AsyncLLM
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded._engine._engine_stream import EngineStream
from lmstudio_async.testing import ModelsFolder

#: A prompt of several batches.
PROMPT = "hi " * 130


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("acme/tiny-GGUF/tiny-Q8_0.gguf", script="Hello there my friend")
    return folder.folder


@pytest.fixture
async def client(models: Path) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(EmbeddedServer(models, threads=1)) as client:
        yield client


class HeldAnswers:
    """Answers of engines that stay at a frame until `let_go`.

    :param is_far_enough: called with each frame; returns whether the server gets no frame after it.
    """

    def __init__(
        self, patch: pytest.MonkeyPatch, is_far_enough: Callable[[dict[str, Any] | None], bool]
    ) -> None:
        #: The last frame that the server has processed.
        self.frame: dict[str, Any] | None = None
        self.are_held = anyio.Event()
        self._may_go_on = anyio.Event()
        receive = EngineStream.__anext__

        async def receive_or_hold(stream: EngineStream) -> dict[str, Any]:
            if not self.are_held.is_set() and is_far_enough(self.frame):
                self.are_held.set()
                await self._may_go_on.wait()
            self.frame = await receive(stream)
            return self.frame

        patch.setattr(EngineStream, "__anext__", receive_or_hold)

    def let_go(self) -> None:
        self._may_go_on.set()


async def load(client: AsyncClient) -> AsyncLLM:
    return await client.llm.load_new_instance("tiny", config={"context_length": 512, "eval_batch_size": 16})


def is_half_done(frame: dict[str, Any] | None) -> bool:
    progress = {} if frame is None else frame.get("prompt_progress", {})
    return bool(progress) and 0.3 < progress["processed"] / progress["total"] < 1


def has_text(frame: dict[str, Any] | None) -> bool:
    return frame is not None and bool(frame.get("content"))


async def test_list_instances_tells_how_much_of_a_prompt_is_processed(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = await load(client)
    held = HeldAnswers(monkeypatch, is_half_done)

    async with llm.respond_stream(PROMPT) as stream:
        await held.are_held.wait()
        (status,) = await client.list_instances()
        state = await llm.get_processing_state()
        held.let_go()
        result = await stream.wait_for_result()

    assert status.status == state.status == "processingPrompt"
    assert status.prompt_progress is not None
    assert 0.3 < status.prompt_progress < 1
    assert state.prompt_progress == status.prompt_progress
    assert result.content == "Hello there my friend"
    (status,) = await client.list_instances()
    assert (status.status, status.prompt_progress) == ("idle", None)


async def test_prompt_progress_is_none_before_the_engine_tells_it(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = await load(client)
    held = HeldAnswers(monkeypatch, lambda frame: frame is None)

    async with llm.respond_stream(PROMPT) as stream:
        await held.are_held.wait()
        (status,) = await client.list_instances()
        assert (status.status, status.prompt_progress) == ("processingPrompt", None)
        held.let_go()
        await stream.wait_for_result()


async def test_prompt_progress_is_none_while_the_answer_is_generated(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = await load(client)
    held = HeldAnswers(monkeypatch, has_text)

    async with llm.respond_stream(PROMPT) as stream:
        await held.are_held.wait()
        await anext(stream)
        (status,) = await client.list_instances()
        assert (status.status, status.prompt_progress) == ("generating", None)
        held.let_go()
        await stream.wait_for_result()
