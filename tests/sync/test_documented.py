"""What the documentation of loading and unloading shows works with the same calls, and nothing but another import."""

from __future__ import annotations

from pathlib import Path

import pytest

import lmstudio_sync as lm
import lmstudio_sync as lmstudio

pytestmark = pytest.mark.usefixtures("default_client")


@pytest.fixture
def loaded() -> lm.LLM:
    """A model that the default client has loaded."""
    return lm.llm("llama-3.2-1b-instruct")


def test_two_instances_of_a_model() -> None:
    with lmstudio.Client() as client:
        llama = client.llm.load_new_instance("llama-3.2-1b-instruct")
        another_llama = client.llm.load_new_instance("llama-3.2-1b-instruct", "second-llama")

        assert llama.identifier == "llama-3.2-1b-instruct"
        assert another_llama.identifier == "second-llama"
        assert client.llm.list_loaded() == [llama, another_llama]


def test_an_identifier_that_exists_is_an_error_of_the_server() -> None:
    with lmstudio.Client() as client:
        client.llm.load_new_instance("llama-3.2-1b-instruct", "second-llama")
        with pytest.raises(lmstudio.LMStudioServerError, match="already exists"):
            client.llm.load_new_instance("llama-3.2-1b-instruct", "second-llama")


def test_without_an_identifier_the_server_makes_one() -> None:
    with lmstudio.Client() as client:
        identifiers = [client.llm.load_new_instance("llama-3.2-1b-instruct").identifier for _ in range(2)]
        assert identifiers == ["llama-3.2-1b-instruct", "llama-3.2-1b-instruct:2"]


def test_model_does_not_load_a_second_instance() -> None:
    with lmstudio.Client() as client:
        llama = client.llm.model("llama-3.2-1b-instruct")
        assert client.llm.model("llama-3.2-1b-instruct") == llama
        assert client.llm.model() == llama


def test_unloading_by_the_handle(loaded: lm.LLM) -> None:
    llm = lm.llm()
    assert llm == loaded
    llm.unload()

    assert lm.list_loaded_models() == []


def test_unloading_by_the_handle_of_a_client() -> None:
    with lmstudio.Client() as client:
        client.llm.model("llama-3.2-1b-instruct")
        llm = client.llm.model()
        llm.unload()

        assert client.list_loaded_models() == []


def test_unloading_by_the_identifier() -> None:
    with lmstudio.Client() as client:
        client.llm.load_new_instance("llama-3.2-1b-instruct")
        client.llm.load_new_instance("llama-3.2-1b-instruct", "second-llama")
        client.llm.unload("llama-3.2-1b-instruct")
        client.llm.unload("second-llama")

        assert client.llm.list_loaded() == []


def test_the_time_to_live_of_the_convenience_api() -> None:
    llama = lm.llm("llama-3.2-1b-instruct", ttl=3600)

    assert llama.get_info().ttl == 3600


def test_the_time_to_live_of_the_scoped_api() -> None:
    with lmstudio.Client() as client:
        llama = client.llm.model("llama-3.2-1b-instruct", ttl=3600)
        another_llama = client.llm.load_new_instance("llama-3.2-1b-instruct", ttl=7200)

        assert (llama.get_info().ttl, another_llama.get_info().ttl) == (3600, 7200)


def test_model_does_not_change_the_time_to_live_of_what_is_loaded() -> None:
    with lmstudio.Client() as client:
        client.llm.model("llama-3.2-1b-instruct", ttl=3600)
        assert client.llm.model("llama-3.2-1b-instruct", ttl=10).get_info().ttl == 3600


def test_progress_is_printed_from_nothing_to_all(capsys: pytest.CaptureFixture[str]) -> None:
    with lmstudio.Client() as client:
        client.llm.load_new_instance(
            "llama-3.2-1b-instruct",
            on_progress=lambda progress: print(f"{progress * 100}% loaded"),  # noqa: T201 - as documented
        )

    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == "100.0% loaded"
    assert all(line.endswith("% loaded") for line in printed)


def test_model_takes_on_progress_too() -> None:
    told: list[float] = []
    with lmstudio.Client() as client:
        client.llm.model("llama-3.2-1b-instruct", on_progress=told.append)
    assert told[-1] == 1.0
    assert told == sorted(told)


def test_the_convenience_api_takes_on_progress_too() -> None:
    told: list[float] = []
    lm.llm("llama-3.2-1b-instruct", on_progress=told.append)
    assert told[-1] == 1.0


def test_load_config_as_a_dictionary() -> None:
    with lmstudio.Client() as client:
        llama = client.llm.load_new_instance("llama-3.2-1b-instruct", config={"context_length": 512})
        assert llama.get_context_length() == 512


def test_load_config_as_an_object() -> None:
    with lmstudio.Client() as client:
        config = lmstudio.LlmLoadModelConfig(context_length=512)
        assert (
            client.llm.model("llama-3.2-1b-instruct", config=config).get_load_config().context_length == 512
        )


def test_the_convenience_api_takes_a_config() -> None:
    assert lm.llm("llama-3.2-1b-instruct", config={"context_length": 512}).get_context_length() == 512


def test_embedding_models_have_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    key = "nomic-embed-text-v1.5"
    model = lm.embedding_model(key, ttl=60, config={"context_length": 256})
    assert (model.get_context_length(), model.get_info().ttl) == (256, 60)
    with lmstudio.Client() as client:
        client.embedding.load_new_instance(key, "second", on_progress=print)
        client.embedding.unload("second")
    assert capsys.readouterr().out.endswith("1.0\n")


def test_what_is_downloaded_can_be_loaded() -> None:
    (model,) = [
        each for each in lm.list_downloaded_models("llm") if each.model_key == "llama-3.2-1b-instruct"
    ]
    assert model.load_new_instance(instance_identifier="another").identifier == "another"


def test_the_answer_to_everything(loaded: lm.LLM) -> None:
    assert str(loaded.respond("What is the meaning of life?")) == "The meaning of life is what you make of it"


def test_an_image_can_be_prepared(tmp_path: Path) -> None:
    picture = tmp_path / "dot.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    assert lm.prepare_image(picture).name == "dot.png"
