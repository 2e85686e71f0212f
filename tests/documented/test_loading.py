"""The page on managing models in memory: loading, accessing and unloading them, and their time to live."""

from __future__ import annotations

import pytest

from tests.documented.conftest import Models


@pytest.fixture(autouse=True)
def memory(nothing_loaded: None) -> None:
    """Each test begins and ends without a loaded instance."""


# -- the current model, a specific one


@pytest.mark.usefixtures("loaded")
def test_any_loaded_model(models: Models) -> None:
    import lmstudio_sync as lms

    model = lms.llm()

    assert model.identifier == models.chat


@pytest.mark.usefixtures("loaded")
def test_any_loaded_model_in_a_scope(models: Models) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        model = client.llm.model()

    assert model.identifier == models.chat


@pytest.mark.usefixtures("loaded")
async def test_any_loaded_model_in_async_form(models: Models) -> None:
    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        model = await client.llm.model()

    assert model.identifier == models.chat


def test_a_specific_model_is_loaded_once(models: Models) -> None:
    import lmstudio_sync as lms

    model = lms.llm(models.chat)

    assert lms.llm(models.chat) == model
    assert lms.list_loaded_models() == [model]


def test_a_specific_model_in_a_scope(models: Models) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        model = client.llm.model(models.chat)

        assert client.list_loaded_models() == [model]


async def test_a_specific_model_in_async_form(models: Models) -> None:
    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        model = await client.llm.model(models.chat)

        assert await client.list_loaded_models() == [model]


# -- new instances


def test_two_instances(models: Models) -> None:
    import lmstudio_sync as lms

    client = lms.get_default_client()
    llama = client.llm.load_new_instance(models.chat)
    another_llama = client.llm.load_new_instance(models.chat, "second-llama")

    assert (llama.identifier, another_llama.identifier) == (models.chat, "second-llama")
    assert client.llm.list_loaded() == [llama, another_llama]


def test_two_instances_in_a_scope(models: Models) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        llama = client.llm.load_new_instance(models.chat)
        another_llama = client.llm.load_new_instance(models.chat, "second-llama")

        assert (llama.identifier, another_llama.identifier) == (models.chat, "second-llama")
        assert client.llm.list_loaded() == [llama, another_llama]


async def test_two_instances_in_async_form(models: Models) -> None:
    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        llama = await client.llm.load_new_instance(models.chat)
        another_llama = await client.llm.load_new_instance(models.chat, "second-llama")

        assert (llama.identifier, another_llama.identifier) == (models.chat, "second-llama")
        assert await client.llm.list_loaded() == [llama, another_llama]


def test_an_identifier_that_exists_is_an_error_of_the_server(models: Models) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        client.llm.load_new_instance(models.chat, "second-llama")
        with pytest.raises(lms.LMStudioServerError, match="already exists"):
            client.llm.load_new_instance(models.chat, "second-llama")


def test_without_an_identifier_the_server_makes_one(models: Models) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        identifiers = [client.llm.load_new_instance(models.chat).identifier for _ in range(2)]

    assert identifiers == [models.chat, f"{models.chat}:2"]


# -- unloading


@pytest.mark.usefixtures("loaded")
def test_unloading_by_the_handle() -> None:
    import lmstudio_sync as lms

    model = lms.llm()
    model.unload()

    assert lms.list_loaded_models() == []


@pytest.mark.usefixtures("loaded")
def test_unloading_by_the_handle_in_a_scope() -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        model = client.llm.model()
        model.unload()

        assert client.list_loaded_models() == []


@pytest.mark.usefixtures("loaded")
async def test_unloading_by_the_handle_in_async_form() -> None:
    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        model = await client.llm.model()
        await model.unload()

        assert await client.list_loaded_models() == []


def test_unloading_by_the_identifier(models: Models) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        client.llm.load_new_instance(models.chat)
        client.llm.load_new_instance(models.chat, "second-llama")
        client.llm.unload(models.chat)
        client.llm.unload("second-llama")

        assert client.llm.list_loaded() == []


# -- time to live


def test_the_time_to_live(models: Models) -> None:
    import lmstudio_sync as lms

    llama = lms.llm(models.chat, ttl=3600)

    assert llama.get_info().ttl == 3600


def test_the_time_to_live_in_a_scope(models: Models) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        llama = client.llm.model(models.chat, ttl=3600)
        another_llama = client.llm.load_new_instance(models.chat, ttl=7200)

        assert (llama.get_info().ttl, another_llama.get_info().ttl) == (3600, 7200)


async def test_the_time_to_live_in_async_form(models: Models) -> None:
    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        llama = await client.llm.model(models.chat, ttl=3600)

        assert (await llama.get_info()).ttl == 3600


def test_model_keeps_the_time_to_live_of_a_loaded_instance(models: Models) -> None:
    import lmstudio_sync as lms

    lms.llm(models.chat, ttl=3600)

    assert lms.llm(models.chat, ttl=10).get_info().ttl == 3600


# -- progress, and load config


def test_progress_is_printed_up_to_100_percent(models: Models, capsys: pytest.CaptureFixture[str]) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        client.llm.load_new_instance(
            models.chat,
            on_progress=lambda progress: print(f"{progress * 100}% loaded"),
        )

    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == "100.0% loaded"
    assert all(line.endswith("% loaded") for line in printed)


async def test_progress_is_reported_in_async_form(models: Models) -> None:
    import lmstudio_async as lms

    received: list[float] = []
    async with lms.AsyncClient() as client:
        await client.llm.load_new_instance(models.chat, on_progress=received.append)

    assert received == sorted(received)
    assert received[-1] == 1.0


def test_model_and_the_convenience_functions_report_progress_too(models: Models) -> None:
    import lmstudio_sync as lms

    for load in (lms.get_default_client().llm.model, lms.llm):
        received: list[float] = []
        load(models.chat, on_progress=received.append)
        assert received == sorted(received)
        assert received[-1] == 1.0


def test_a_load_config_may_be_an_object(models: Models) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        config = lms.LlmLoadModelConfig(context_length=512)

        assert client.llm.model(models.chat, config=config).get_context_length() == 512


def test_embedding_models_take_the_same_arguments(models: Models, capsys: pytest.CaptureFixture[str]) -> None:
    import lmstudio_sync as lms

    model = lms.embedding_model(models.embedding, ttl=60, config={"context_length": 256})
    assert (model.get_context_length(), model.get_info().ttl) == (256, 60)

    with lms.Client() as client:
        client.embedding.load_new_instance(models.embedding, "second", on_progress=print)
        client.embedding.unload("second")
    assert capsys.readouterr().out.endswith("1.0\n")
