"""Load config: passed in any form, applied by the engine, and read back."""

from __future__ import annotations

from typing import Any

import pytest

from lmstudio_async import (
    AsyncClient,
    EmbeddingLoadModelConfig,
    GpuSetting,
    LlmLoadModelConfig,
    LMStudioConfigError,
    LMStudioUnsupportedFeatureError,
)
from tests.scripted_server import ScriptedServer

LLAMA = "llama-3.2-1b-instruct"
NOMIC = "text-embedding-nomic-embed-text-v1.5"

# A config is a part of one message, so it does not depend on the transport.
pytestmark = pytest.mark.parametrize("place", ["in process"])


@pytest.mark.parametrize(
    "config",
    [
        {"context_length": 768, "eval_batch_size": 256, "try_mmap": False},
        {"contextLength": 768, "evalBatchSize": 256, "tryMmap": False},
        LlmLoadModelConfig(context_length=768, eval_batch_size=256, try_mmap=False),
    ],
    ids=["snake_case", "camelCase", "object"],
)
async def test_a_config_is_applied_in_any_form(client: AsyncClient, config: Any) -> None:
    llm = await client.llm.load_new_instance(LLAMA, config=config)

    applied = await llm.get_load_config()
    assert isinstance(applied, LlmLoadModelConfig)
    assert (applied.context_length, applied.eval_batch_size, applied.try_mmap) == (768, 256, False)
    assert llm.info.context_length == await llm.get_context_length() == 768


async def test_model_applies_a_config_if_it_loads(client: AsyncClient) -> None:
    llm = await client.llm.model(LLAMA, config={"context_length": 512})

    assert (await llm.get_load_config()).context_length == 512


async def test_get_load_config_returns_a_config_that_can_be_applied_again(client: AsyncClient) -> None:
    first = await client.llm.load_new_instance(
        LLAMA, config={"context_length": 512, "flash_attention": False}
    )
    applied = await first.get_load_config()

    second = await client.llm.load_new_instance(LLAMA, config=applied)

    assert await second.get_load_config() == applied
    assert applied.flash_attention is False


async def test_a_disabled_setting_is_read_back_as_false(client: AsyncClient) -> None:
    llm = await client.llm.load_new_instance(
        LLAMA, config={"seed": False, "rope_frequency_base": False, "gpu": {"ratio": "off"}}
    )

    applied = await llm.get_load_config()
    assert applied.seed is False
    assert applied.rope_frequency_base is False
    assert isinstance(applied.gpu, GpuSetting)


async def test_embedding_models_have_a_config_of_their_own(client: AsyncClient) -> None:
    embedding = await client.embedding.load_new_instance(NOMIC, config={"context_length": 256})

    applied = await embedding.get_load_config()
    assert isinstance(applied, EmbeddingLoadModelConfig)
    assert applied.context_length == await embedding.get_context_length() == 256


async def test_the_engine_stops_at_the_configured_context_length(client: AsyncClient) -> None:
    """Check the limit in the engine, not only the value that is read back."""
    talker = await client.llm.load_new_instance("talker", config={"context_length": 256})

    result = await talker.respond("Go", config={"context_overflow_policy": "stopAtLimit"})

    assert result.stats.stop_reason == "contextLengthReached"
    assert result.stats.total_tokens_count in range(250, 258)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"context_lenght": 512}, r"(?s)context_lenght.*context_length"),
        ({"contextLenght": 512}, r"(?s)contextLenght.*contextLength"),
        ({"gpu": {"ration": 1}}, r"(?s)ration.*ratio"),
        ({"context_length": "long"}, "context_length"),
        ({"context_length": 512, "contextLength": 512}, "context_length"),
    ],
)
async def test_an_invalid_config_is_refused_before_a_connection_is_made(
    config: dict[str, Any], message: str, place: str
) -> None:
    async with ScriptedServer().client() as (client, server):
        for load in (client.llm.load_new_instance, client.llm.model):
            with pytest.raises(LMStudioConfigError, match=message):
                await load(LLAMA, config=config)  # type: ignore[arg-type]
        assert server.connections == 0


async def test_a_config_that_the_engine_does_not_support_is_refused(client: AsyncClient) -> None:
    with pytest.raises(LMStudioUnsupportedFeatureError):
        await client.llm.load_new_instance(LLAMA, config={"mlx_kv_cache_quantization": {"bits": 4}})

    assert await client.llm.list_loaded() == []
