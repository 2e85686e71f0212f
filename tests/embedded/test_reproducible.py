"""The same request has the same answer, to the last bit, if the load config says so."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import anyio
import pytest

import lmstudio_async as lms
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded._prediction import _token_stream
from lmstudio_async.embedded._prediction._sampling import read_sampling
from lmstudio_async.testing import ModelsFolder
from tests.embedded.attentive_models import add_attentive_llm

REPRODUCIBLE: lms.LlmLoadModelConfigDict = {"max_parallel_predictions": 1, "seed": 7}

#: Some prompts are beginnings of others, which the engine finds in its cache.
PROMPTS = ["bano kola " * count for count in (5, 20, 20, 60, 40)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    add_attentive_llm(folder, "attentive")
    return folder.folder


async def complete(llm: lms.AsyncLLM, prompt: str) -> tuple[lms.TokenInfo, ...]:
    """Return the tokens of the answer, with the probabilities of the alternatives."""
    result = await llm.complete(prompt, config={"temperature": 1.0, "max_tokens": 12, "log_probs": 3})
    assert result.tokens
    return result.tokens


async def test_one_session_and_a_seed_make_the_same_answer_each_time(shared_server: EmbeddedServer) -> None:
    async with lms.AsyncClient(shared_server) as client:
        llm = await client.llm.load_new_instance("attentive", config=REPRODUCIBLE)
        first = {prompt: await complete(llm, prompt) for prompt in PROMPTS}
        for prompt in [*PROMPTS, *reversed(PROMPTS)]:
            assert await complete(llm, prompt) == first[prompt]

        async def ask(prompt: str) -> None:
            assert await complete(llm, prompt) == first[prompt]

        async with anyio.create_task_group() as tasks:
            for prompt in PROMPTS:
                tasks.start_soon(ask, prompt)


async def test_an_engine_that_is_slow_gives_the_same_answer_as_a_fast_one(
    shared_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lms.AsyncClient(shared_server) as client:
        llm = await client.llm.load_new_instance("attentive", config=REPRODUCIBLE)
        answers = []
        for longest in (0.0, math.inf):
            # With 0 every engine counts as slow, with infinity every engine as fast.
            monkeypatch.setattr(_token_stream, "_LONGEST", longest)
            answers.append({prompt: await complete(llm, prompt) for prompt in PROMPTS})
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("sessions", "loaded_seed", "seed", "is_reproducible"),
    [
        (1, 7, None, True),
        (1, None, 7, True),
        (1, 0, None, True),
        # Without a seed the prompt cache is more useful.
        (1, None, None, False),
        (1, -1, None, False),
        (1, 7, -1, False),
        # Requests that are computed together change the results of each other.
        (4, 7, 7, False),
    ],
)
def test_the_prompt_cache_is_off_if_answers_have_to_be_reproducible(
    sessions: int, loaded_seed: int | None, seed: int | None, is_reproducible: bool
) -> None:
    def checkbox(value: int | None) -> dict[str, Any]:
        return {"checked": value is not None, "value": -1 if value is None else value}

    loaded = {"llm.load.numParallelSessions": sessions, "llm.load.seed": checkbox(loaded_seed)}
    body = read_sampling({"llm.prediction.seed": checkbox(seed)}, template="", loaded=loaded).body
    assert (body.get("cache_prompt") is False) == is_reproducible
