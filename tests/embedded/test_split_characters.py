"""Answers whose tokens split characters: no letter and no probability is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmstudio_async import AsyncClient
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.testing import ModelsFolder, _tiny_models

PARTY, GRIN = "🎉".encode(), "😀".encode()
#: The tokens that each model generates.
SCRIPTS = {
    "apart": [b"Hi " + PARTY[:1], PARTY[1:3], PARTY[3:] + b" you", b" there", GRIN[:2], GRIN[2:], b" end"],
    "first": [PARTY[:2], PARTY[2:] + b" first", b" and", b" more"],
    "letters": [b"Hello", b" wor" + GRIN[:2], GRIN[2:] + b"ld"],
    "broken": [b"Hello", b" wor" + GRIN[:2], b"ld"],
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    for key, script in SCRIPTS.items():
        words = [f"word {number}" for number in range(len(script))]
        script_tokens = ["".join(_tiny_models._BYTES[byte] for byte in token) for token in script]
        vocabulary = [*_tiny_models._BYTES, *_tiny_models._CONTROL, *script_tokens]
        folder.add_llm(key, script=words, metadata={"tokenizer.ggml.tokens": vocabulary})
    return folder.folder


@pytest.mark.parametrize("key", ["apart", "first", "letters"])
@pytest.mark.parametrize("limit", [False, 200])
async def test_each_token_has_its_probability(
    shared_server: EmbeddedServer, key: str, limit: int | bool
) -> None:
    async with AsyncClient(shared_server) as client:
        llm = await client.llm.model(key)
        stream = llm.respond_stream("Go", config={"log_probs": 2, "max_tokens": limit})
        fragments = [fragment async for fragment in stream]
        tokens = [token for fragment in fragments for token in fragment.tokens or ()]
        assert [token.id for token in tokens] == [*range(259, 259 + len(SCRIPTS[key]))]
        assert all(token.log_prob == pytest.approx(0, abs=1e-6) for token in tokens)
        assert all(len(token.candidates or ()) == 2 for token in tokens)
        result, plain = stream.result(), await llm.respond("Go")
        assert result.content == plain.content == b"".join(SCRIPTS[key]).decode()
        assert result.stats.predicted_tokens_count == plain.stats.predicted_tokens_count
        assert result.stats.prompt_tokens_count == plain.stats.prompt_tokens_count
        assert result.stats.stop_reason == "eosFound"


@pytest.mark.parametrize("probabilities", [None, 0])
@pytest.mark.parametrize(
    ("key", "limit", "text"),
    [
        ("letters", 1, "Hello"),
        ("letters", 2, "Hello wor"),
        ("letters", 3, "Hello wor😀ld"),
        ("apart", 1, "Hi "),
        ("apart", 2, "Hi "),
        ("first", 1, ""),
    ],
)
async def test_limit_within_a_character_keeps_the_letters_before_it(
    shared_server: EmbeddedServer, probabilities: int | None, key: str, limit: int, text: str
) -> None:
    async with AsyncClient(shared_server) as client:
        llm = await client.llm.model(key)
        result = await llm.respond("Go", config={"log_probs": probabilities, "max_tokens": limit})
        assert result.content == text
        assert result.stats.predicted_tokens_count == limit
        assert result.stats.stop_reason == "maxPredictedTokensReached"


async def test_incomplete_character_is_replaced(shared_server: EmbeddedServer) -> None:
    async with AsyncClient(shared_server) as client:
        llm = await client.llm.model("broken")
        for probabilities in (None, 0):
            assert (
                await llm.respond("Go", config={"log_probs": probabilities})
            ).content == "Hello wor\ufffdld"


async def test_stop_string_ends_an_answer_with_probabilities(shared_server: EmbeddedServer) -> None:
    async with AsyncClient(shared_server) as client:
        llm = await client.llm.model("apart")
        result = await llm.respond("Go", config={"log_probs": 0, "stop_strings": ["you"]})
        assert (result.content, result.stats.stop_reason) == ("Hi 🎉 ", "stopStringFound")
