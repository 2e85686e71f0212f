"""The pages on the info, the context length and the load config of a loaded model."""

from __future__ import annotations

import pytest

import lmstudio_async
import lmstudio_sync
from tests.documented.conftest import Models


@pytest.mark.usefixtures("loaded")
def test_a_chat_is_checked_to_fit_in_the_context() -> None:
    import lmstudio_sync as lms

    def does_chat_fit_in_context(model: lms.LLM, chat: lms.Chat) -> bool:
        # Convert the conversation to a string using the prompt template.
        formatted = model.apply_prompt_template(chat)
        # Count the number of tokens in the string.
        token_count = len(model.tokenize(formatted))
        # Get the current loaded context length of the model
        context_length = model.get_context_length()
        return token_count < context_length

    model = lms.llm()

    chat = lms.Chat.from_history(
        {
            "messages": [
                {"role": "user", "content": "What is the meaning of life."},
                {"role": "assistant", "content": "The meaning of life is..."},
            ]
        }
    )
    assert does_chat_fit_in_context(model, chat)

    chat.add_user_message("And then? " * 1500)
    assert not does_chat_fit_in_context(model, chat)


@pytest.mark.usefixtures("loaded")
def test_a_chat_is_checked_to_fit_in_the_context_in_a_scope() -> None:
    import lmstudio_sync as lms

    def does_chat_fit_in_context(model: lms.LLM, chat: lms.Chat) -> bool:
        formatted = model.apply_prompt_template(chat)
        token_count = len(model.tokenize(formatted))
        context_length = model.get_context_length()
        return token_count < context_length

    with lms.Client() as client:
        model = client.llm.model()
        chat = lms.Chat.from_history("What is the meaning of life.")
        assert does_chat_fit_in_context(model, chat)


@pytest.mark.usefixtures("loaded")
async def test_a_chat_is_checked_to_fit_in_the_context_in_async_form() -> None:
    import lmstudio_async as lms

    async def does_chat_fit_in_context(model: lms.AsyncLLM, chat: lms.Chat) -> bool:
        formatted = await model.apply_prompt_template(chat)
        token_count = len(await model.tokenize(formatted))
        context_length = await model.get_context_length()
        return token_count < context_length

    async with lms.AsyncClient() as client:
        model = await client.llm.model()
        chat = lms.Chat.from_history("What is the meaning of life.")
        assert await does_chat_fit_in_context(model, chat)


@pytest.mark.usefixtures("loaded")
def test_the_context_length(models: Models) -> None:
    import lmstudio_sync as lms

    assert lms.llm().get_context_length() == 1024
    assert lms.embedding_model(models.embedding).get_context_length() == 512


@pytest.mark.usefixtures("loaded")
def test_the_info_of_a_model(models: Models, capsys: pytest.CaptureFixture[str]) -> None:
    import lmstudio_sync as lms

    model = lms.llm()

    print(model.get_info())

    assert f"'{models.chat}'" in capsys.readouterr().out
    check(models, model.get_info())


@pytest.mark.usefixtures("loaded")
def test_the_info_of_a_model_in_a_scope(models: Models) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        model = client.llm.model()

        check(models, model.get_info())


@pytest.mark.usefixtures("loaded")
async def test_the_info_of_a_model_in_async_form(models: Models) -> None:
    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        model = await client.llm.model()

        check(models, await model.get_info())


def check(models: Models, info: lmstudio_async.LlmInstanceInfo) -> None:
    assert (info.identifier, info.model_key, info.type, info.format) == (models.chat,) * 2 + ("llm", "gguf")
    assert info.architecture == "llama"
    assert (info.vision, info.trained_for_tool_use) == (False, False)
    assert (models.folder / info.path).stat().st_size == info.size_bytes
    assert 0 < info.context_length <= info.max_context_length
    assert info.instance_reference
    assert info.display_name


def test_the_load_config_of_a_model(loaded: str, models: Models) -> None:
    import lmstudio_sync as lms

    model = lms.llm()
    load_config = model.get_load_config()

    assert isinstance(load_config, lms.LlmLoadModelConfig)
    assert load_config.context_length == model.get_context_length()

    with lms.Client() as client:
        embedding = client.embedding.model(models.embedding).get_load_config()
    assert isinstance(embedding, lmstudio_sync.EmbeddingLoadModelConfig)


@pytest.mark.usefixtures("loaded")
def test_the_load_config_of_a_model_in_a_scope() -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        model = client.llm.model()
        load_config = model.get_load_config()

    assert isinstance(load_config, lms.LlmLoadModelConfig)
    assert load_config.context_length == 1024


@pytest.mark.usefixtures("loaded")
async def test_the_load_config_of_a_model_in_async_form() -> None:
    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        model = await client.llm.model()
        load_config = await model.get_load_config()

    assert isinstance(load_config, lms.LlmLoadModelConfig)
    assert load_config.context_length == 1024
