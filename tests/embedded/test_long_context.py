"""Contexts that are longer than the training context of a model, by RoPE settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import lmstudio_async as lms
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded._catalog._catalog import Catalog
from lmstudio_async.embedded._engine._engine import Engine, EngineSpec
from lmstudio_async.embedded._instances._load_config import plan_load
from lmstudio_async.testing import ModelsFolder
from tests.embedded.attentive_models import add_attentive_llm

#: Training context of every model here, in tokens.
TRAINED = 128
LONG = 1024


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    plain: dict[str, Any] = {"script": "on and on ", "endless": True, "context_length": TRAINED}
    folder.add_llm("plain", **plain)
    folder.add_llm(
        "linear",
        **plain,
        metadata={"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 8.0},
    )
    folder.add_llm(
        "yarn",
        **plain,
        metadata={
            "llama.rope.scaling.type": "yarn",
            "llama.rope.scaling.factor": 4.0,
            "llama.rope.scaling.original_context_length": 32,
        },
    )
    folder.add_llm("some-embedding", context_length=TRAINED, metadata={"llama.pooling_type": 3})
    folder.add_embedding("bert", context_length=TRAINED)
    return folder.folder


@pytest.fixture
async def client(server: EmbeddedServer) -> AsyncIterator[lms.AsyncClient]:
    async with lms.AsyncClient(server) as client:
        yield client


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("plain", {"rope_frequency_scale": TRAINED / LONG}),
        ("plain", {"rope_frequency_scale": 0.9}),
        ("plain", {"rope_frequency_scale": 1.0}),
        ("plain", {"rope_frequency_base": 1e6}),
        ("plain", {"rope_frequency_base": 1e6, "rope_frequency_scale": 0.5}),
        # The scale in the model file.
        ("linear", {"rope_frequency_scale": 0.125}),
        ("linear", {"rope_frequency_base": 1e6}),
        ("yarn", {"rope_frequency_scale": 32 / LONG}),
    ],
)
async def test_rope_settings_extend_the_context(
    client: lms.AsyncClient,
    caplog: pytest.LogCaptureFixture,
    model: str,
    settings: lms.LlmLoadModelConfigDict,
) -> None:
    llm = await client.llm.load_new_instance(model, config={**settings, "context_length": LONG})
    answer = await llm.respond("Go", config={"temperature": 0, "max_tokens": 4 * TRAINED})
    assert answer.stats.predicted_tokens_count == 4 * TRAINED
    assert len(answer.content.split()) == 4 * TRAINED

    config = await llm.get_load_config()
    assert (config.context_length, llm.info.context_length) == (LONG, LONG)
    assert {name: getattr(config, name) for name in settings} == settings
    assert f"'{model}' has a context of 1024 tokens, and its model was made for 128" in caplog.text


async def test_a_context_within_the_training_logs_no_warning(
    client: lms.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    await client.llm.load_new_instance(
        "plain", config={"context_length": TRAINED, "rope_frequency_scale": 0.5}
    )
    assert "was made for" not in caplog.text


@pytest.mark.parametrize(
    ("model", "settings", "what_helps"),
    [
        ("plain", {}, "ropeFrequencyScale 0.125 fits all positions"),
        ("linear", {}, "ropeFrequencyScale 0.0156 fits all positions"),
        ("yarn", {}, "set ropeFrequencyScale to 0.0312 or less"),
        # The base alone does not lift the limit of the engine.
        ("yarn", {"rope_frequency_base": 1e6}, "set ropeFrequencyScale to 0.0312 or less"),
        ("yarn", {"rope_frequency_scale": 0.25}, "set ropeFrequencyScale to 0.0312 or less"),
    ],
)
async def test_context_that_no_setting_extends_is_refused(
    client: lms.AsyncClient, model: str, settings: lms.LlmLoadModelConfigDict, what_helps: str
) -> None:
    with pytest.raises(lms.LMStudioServerError, match=rf"made for, not 1024\n.*{what_helps}"):
        await client.llm.load_new_instance(model, config={**settings, "context_length": LONG})


async def test_an_embedding_model_with_rope_is_extended_too(client: lms.AsyncClient) -> None:
    text = "go " * TRAINED
    model = await client.embedding.load_new_instance("some-embedding")
    with pytest.raises(lms.LMStudioServerError):
        await model.embed(text)
    longer = await client.embedding.load_new_instance(
        "some-embedding", "longer", config={"context_length": LONG, "rope_frequency_scale": 0.125}
    )
    assert any(await longer.embed(text))


async def test_an_embedding_model_with_learned_positions_is_not_extended(client: lms.AsyncClient) -> None:
    config: lms.EmbeddingLoadModelConfigDict = {"context_length": LONG, "rope_frequency_scale": 0.125}
    with pytest.raises(lms.LMStudioServerError, match="learned one vector for each position"):
        await client.embedding.load_new_instance("bert", config=config)


async def test_extended_positions_are_scaled_as_within_the_training(tmp_path: Path) -> None:
    """Lifting the limit of the engine changes nothing else: the same text has the same next tokens."""
    add_attentive_llm(ModelsFolder(tmp_path), "attentive", context_length=TRAINED)
    (entry,) = Catalog(tmp_path).scan()

    def planned(context_length: int, scale: float | None) -> EngineSpec:
        checkbox = {"checked": scale is not None, "value": scale or 0}
        values = {"llm.load.contextLength": context_length, "llm.load.llama.ropeFrequencyScale": checkbox}
        return plan_load(entry, values, threads=1).spec

    usual = await next_tokens(planned(TRAINED, None))
    scaled = await next_tokens(planned(TRAINED, 0.25))
    assert usual != pytest.approx(scaled, abs=1e-3)
    assert await next_tokens(planned(LONG, 0.25)) == pytest.approx(scaled, abs=1e-4)
    assert await next_tokens(planned(LONG, 1.0)) == pytest.approx(usual, abs=1e-4)


async def next_tokens(spec: EngineSpec) -> dict[int, float]:
    """Return the log probabilities of the tokens that may follow a text of many tokens."""
    engine = await Engine.start(spec, lambda _: None)
    try:
        body = {"prompt": "ba no mi la " * 8, "n_predict": 1, "n_probs": 5, "temperature": 0}
        async with engine.complete(body) as frames:
            with_probabilities = [frame async for frame in frames if frame.get("completion_probabilities")]
    finally:
        await engine.aclose()
    (position,) = with_probabilities[0]["completion_probabilities"]
    return {each["id"]: each["logprob"] for each in position["top_logprobs"]}
