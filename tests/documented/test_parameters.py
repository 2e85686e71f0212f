"""The pages on parameters, and on speculative decoding."""

from __future__ import annotations

import pytest

from tests.documented.conftest import Models

without_an_instance = pytest.mark.usefixtures("nothing_loaded")


def test_settings_of_an_answer_and_of_a_completion(models: Models, loaded: str) -> None:
    import lmstudio_sync as lms

    model = lms.llm(loaded)
    chat = lms.Chat("You are a resident AI philosopher.")
    chat.add_user_message("What is the meaning of life?")

    result = model.respond(
        chat,
        config={
            "temperature": 0.6,
            "maxTokens": 50,
        },
    )
    models.check_answer(result.content)

    result = model.complete(
        "What is the meaning of life?",
        config={
            "temperature": 0.6,
            "maxTokens": 50,
            "stopStrings": ["\n\n"],
        },
    )
    assert "\n\n" not in result.content
    assert result.prediction_config.stop_strings == ["\n\n"]


def test_settings_of_an_answer_and_of_a_completion_in_a_scope(models: Models, loaded: str) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        model = client.llm.model(loaded)
        chat = lms.Chat("You are a resident AI philosopher.")
        chat.add_user_message("What is the meaning of life?")

        result = model.respond(
            chat,
            config={
                "temperature": 0.6,
                "maxTokens": 50,
            },
        )
        models.check_answer(result.content)

        result = model.complete(
            "What is the meaning of life?",
            config={
                "temperature": 0.6,
                "maxTokens": 50,
                "stopStrings": ["\n\n"],
            },
        )
        assert "\n\n" not in result.content
        assert result.prediction_config.stop_strings == ["\n\n"]


async def test_settings_of_an_answer_and_of_a_completion_in_async_form(models: Models, loaded: str) -> None:
    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        model = await client.llm.model(loaded)
        chat = lms.Chat("You are a resident AI philosopher.")
        chat.add_user_message("What is the meaning of life?")

        result = await model.respond(
            chat,
            config={
                "temperature": 0.6,
                "maxTokens": 50,
            },
        )
        models.check_answer(result.content)

        result = await model.complete(
            "What is the meaning of life?",
            config={
                "temperature": 0.6,
                "maxTokens": 50,
                "stopStrings": ["\n\n"],
            },
        )
        assert "\n\n" not in result.content
        assert result.prediction_config.stop_strings == ["\n\n"]


@without_an_instance
def test_settings_of_a_load(models: Models) -> None:
    import lmstudio_sync as lms

    model = lms.llm(
        models.chat,
        config={
            "contextLength": 1024,
            "gpu": {
                "ratio": 0.5,
            },
        },
    )

    check(model.get_load_config())


@without_an_instance
def test_settings_of_a_load_in_a_scope(models: Models) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        model = client.llm.model(
            models.chat,
            config={
                "contextLength": 1024,
                "gpu": {
                    "ratio": 0.5,
                },
            },
        )

        check(model.get_load_config())


@without_an_instance
async def test_settings_of_a_load_in_async_form(models: Models) -> None:
    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        model = await client.llm.model(
            models.chat,
            config={
                "contextLength": 1024,
                "gpu": {
                    "ratio": 0.5,
                },
            },
        )

        check(await model.get_load_config())


@without_an_instance
def test_settings_of_a_new_instance(models: Models) -> None:
    import lmstudio_sync as lms

    client = lms.get_default_client()
    model = client.llm.load_new_instance(
        models.chat,
        config={
            "contextLength": 1024,
            "gpu": {
                "ratio": 0.5,
            },
        },
    )

    check(model.get_load_config())


@without_an_instance
def test_settings_of_a_new_instance_in_a_scope(models: Models) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        model = client.llm.load_new_instance(
            models.chat,
            config={
                "contextLength": 1024,
                "gpu": {
                    "ratio": 0.5,
                },
            },
        )

        check(model.get_load_config())


@without_an_instance
async def test_settings_of_a_new_instance_in_async_form(models: Models) -> None:
    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        model = await client.llm.load_new_instance(
            models.chat,
            config={
                "contextLength": 1024,
                "gpu": {
                    "ratio": 0.5,
                },
            },
        )

        check(await model.get_load_config())


def check(config: object) -> None:
    import lmstudio_async as lms

    assert isinstance(config, lms.LlmLoadModelConfig)
    assert config.context_length == 1024


def test_model_keeps_the_settings_of_a_loaded_instance(models: Models, loaded: str) -> None:
    import lmstudio_sync as lms

    before = lms.llm(loaded).get_context_length()
    model = lms.llm(loaded, config={"contextLength": 256})

    assert model.get_context_length() == before != 256
