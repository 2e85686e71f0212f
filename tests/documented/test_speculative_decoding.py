"""The page on speculative decoding. The draft model is the main model, because no package ships a smaller one."""

from __future__ import annotations

import pytest

import lmstudio_async
from tests.documented.conftest import Models

QUESTION = "What are the prime numbers between 0 and 100?"


def test_a_draft_model_is_used(loaded: str, models: Models, capsys: pytest.CaptureFixture[str]) -> None:
    import lmstudio_sync as lms

    main_model_key = loaded
    draft_model_key = models.chat

    model = lms.llm(main_model_key)
    result = model.respond(
        QUESTION,
        config={
            "draftModel": draft_model_key,
        },
    )

    print(result)
    stats = result.stats
    print(f"Accepted {stats.accepted_draft_tokens_count}/{stats.predicted_tokens_count} tokens")
    assert capsys.readouterr().out.startswith(result.content)
    check(models, result.stats)


def test_a_draft_model_is_used_in_a_scope(loaded: str, models: Models) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        main_model_key = loaded
        draft_model_key = models.chat

        model = client.llm.model(main_model_key)
        result = model.respond(
            QUESTION,
            config={
                "draftModel": draft_model_key,
            },
        )

    check(models, result.stats)


async def test_a_draft_model_is_used_in_async_form(loaded: str, models: Models) -> None:
    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        main_model_key = loaded
        draft_model_key = models.chat

        model = await client.llm.model(main_model_key)
        result = await model.respond(
            QUESTION,
            config={
                "draftModel": draft_model_key,
            },
        )

    check(models, result.stats)


def check(models: Models, stats: lmstudio_async.LlmPredictionStats) -> None:
    assert stats.used_draft_model_key == models.chat
    assert stats.accepted_draft_tokens_count is not None
    assert stats.predicted_tokens_count is not None
    assert 0 < stats.accepted_draft_tokens_count <= stats.predicted_tokens_count
