"""The blocking official client: listing, loading, finding and unloading models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lmstudio
import pytest
from lmstudio import Client, LMStudioClientError, LMStudioModelNotFoundError, LMStudioServerError

from tests.official.serving import Served, wait_for_exit, watches_processes


def loaded(client: Client) -> list[str]:
    return [model.identifier for model in client.list_loaded_models()]


def test_downloaded_models_are_listed_by_kind(client: Client, models: Path) -> None:
    llms = {model.model_key: model for model in client.llm.list_downloaded()}
    assert llms.keys() == {"tiny", "other", "talker", "dice", "big", "huge", "thinker", "caller", "eye"}
    assert [model.model_key for model in client.embedding.list_downloaded()] == ["text-embedding-embed"]
    assert len(client.system.list_downloaded_models()) == len(client.list_downloaded_models()) == 10
    tiny = llms["tiny"].info
    assert (tiny.type, tiny.format, tiny.architecture) == ("llm", "gguf", "llama")
    assert tiny.path == "acme/tiny-GGUF/tiny-Q4_K_M.gguf"
    assert tiny.size_bytes == (models / tiny.path).stat().st_size
    assert (tiny.max_context_length, tiny.vision, tiny.trained_for_tool_use) == (2048, False, False)
    assert llms["eye"].info.vision
    assert llms["caller"].info.trained_for_tool_use


def test_a_downloaded_model_is_loaded_by_its_own_methods(client: Client) -> None:
    (tiny,) = (model for model in client.llm.list_downloaded() if model.model_key == "tiny")
    assert tiny.model().identifier == "tiny"
    assert tiny.load_new_instance(instance_identifier="mine").identifier == "mine"
    (embed,) = client.embedding.list_downloaded()
    assert embed.model().identifier == "text-embedding-embed"
    # Both calls of model() are just-in-time loads, so the second one evicts the instance of the first one.
    assert loaded(client) == ["mine", "text-embedding-embed"]


def test_a_model_is_loaded_twice_under_two_identifiers(client: Client) -> None:
    first = client.llm.load_new_instance("tiny")
    second = client.llm.load_new_instance("tiny", "second")
    assert [first.identifier, second.identifier] == ["tiny", "second"] == loaded(client)
    assert first.get_info().instance_reference != second.get_info().instance_reference
    assert first.get_info().model_key == second.get_info().model_key == "tiny"


def test_an_identifier_in_use_is_an_error(client: Client) -> None:
    client.llm.load_new_instance("tiny", "mine")
    with pytest.raises(LMStudioServerError, match=r"Model load error.*already exists"):
        client.llm.load_new_instance("tiny", "mine")
    with pytest.raises(LMStudioServerError, match=r"Model load error.*already exists"):
        client.embedding.load_new_instance("text-embedding-embed", "mine")
    assert loaded(client) == ["mine"]


def test_instances_without_an_identifier_are_numbered(client: Client) -> None:
    handles = [client.llm.load_new_instance("tiny") for _ in range(3)]
    assert [handle.identifier for handle in handles] == ["tiny", "tiny:2", "tiny:3"]


def test_model_loads_a_model_and_then_finds_its_instance(client: Client) -> None:
    missed: list[float] = []
    found: list[float] = []
    handle = client.llm.model("tiny", on_load_progress=missed.append)
    assert client.llm.model("tiny", on_load_progress=found.append) == handle
    assert (missed[0], missed[-1]) == (0.0, 1.0)
    assert found == [1.0]
    assert loaded(client) == ["tiny"]


def test_model_finds_an_instance_by_its_identifier_and_by_the_path_of_its_model(client: Client) -> None:
    client.llm.load_new_instance("tiny", "mine")
    assert client.llm.model("mine").identifier == "mine"
    assert client.llm.model("acme/tiny-GGUF/tiny-Q4_K_M.gguf").identifier == "mine"
    assert loaded(client) == ["mine"]


def test_a_path_loads_a_model_too(client: Client) -> None:
    path = "acme/tiny-GGUF/tiny-Q4_K_M.gguf"
    assert client.llm.model(path).get_info().path == path


def test_model_without_a_key_returns_any_loaded_instance(client: Client) -> None:
    with pytest.raises(LMStudioClientError, match="no models are currently loaded"):
        client.llm.model()
    client.embedding.load_new_instance("text-embedding-embed")
    with pytest.raises(LMStudioClientError, match="no models are currently loaded"):
        client.llm.model()
    client.llm.load_new_instance("tiny", "mine")
    assert client.llm.model().identifier == "mine"
    assert client.embedding.model().identifier == "text-embedding-embed"


def test_a_just_in_time_load_evicts_the_previous_one_but_no_explicit_load(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    client.llm.load_new_instance("tiny", "explicit")
    client.llm.model("other")
    assert loaded(client) == ["explicit", "other"]
    caplog.set_level("INFO")
    client.embedding.model("text-embedding-embed")
    assert loaded(client) == ["explicit", "text-embedding-embed"]
    client.llm.model("talker")
    assert loaded(client) == ["explicit", "talker"]
    received = [vars(record).get("unloaded_model_key") for record in caplog.records]
    assert [key for key in received if key is not None] == ["other", "text-embedding-embed"]


@watches_processes
def test_an_idle_instance_is_unloaded_after_its_ttl(client: Client, server: Served) -> None:
    for_ever = client.llm.load_new_instance("tiny", ttl=None)
    lasting = server.workers()
    explicit = client.llm.load_new_instance("tiny", "explicit", ttl=1)
    first = server.workers() - lasting
    on_demand = client.embedding.model("text-embedding-embed", ttl=1)
    second = server.workers() - lasting - first
    # A worker that is not found any more has already ended.
    wait_for_exit(first | second)
    assert loaded(client) == ["tiny"]
    for gone in (explicit, on_demand):
        with pytest.raises(LMStudioModelNotFoundError):
            gone.get_info()
    assert for_ever.respond("hi").content == "Hello there, old friend"


def test_progress_rises_from_0_to_1_in_small_steps(client: Client) -> None:
    seen: list[float] = []
    client.llm.load_new_instance("big", on_load_progress=seen.append)
    assert (seen[0], seen[-1]) == (0.0, 1.0)
    assert seen == sorted(set(seen))
    assert len(seen) >= 10


def test_the_load_config_is_applied_and_read_back(client: Client) -> None:
    config: dict[str, Any] = {
        "contextLength": 768,
        "evalBatchSize": 128,
        "flashAttention": True,
        "keepModelInMemory": False,
        "tryMmap": False,
        "offloadKVCacheToGpu": False,
        "seed": 11,
        "ropeFrequencyBase": 20000.0,
        "ropeFrequencyScale": 0.5,
        "llamaKCacheQuantizationType": "q8_0",
        "llamaVCacheQuantizationType": "q8_0",
        "gpu": {"ratio": 0.5},
    }
    handle = client.llm.load_new_instance("tiny", config=config)
    assert handle.get_context_length() == handle.get_info().context_length == 768
    applied = handle.get_load_config().to_dict()
    assert {key: applied[key] for key in config if key != "gpu"} == {
        key: value for key, value in config.items() if key != "gpu"
    }
    # On a machine without a GPU nothing is offloaded, so the applied ratio is "off".
    assert applied["gpu"]["ratio"] in (0.5, "off")
    assert handle.respond("hi").load_config.to_dict() == applied


def test_snake_case_and_typed_load_configs_are_applied_as_well(client: Client) -> None:
    typed = lmstudio.LlmLoadModelConfig(context_length=512)
    assert client.llm.load_new_instance("tiny", config=typed).get_context_length() == 512
    snake: Any = {"context_length": 256, "try_mmap": False}
    embed = client.embedding.load_new_instance("text-embedding-embed", config=snake)
    assert embed.get_context_length() == 256
    assert embed.get_load_config().to_dict()["tryMmap"] is False


def test_false_disables_a_load_setting(client: Client) -> None:
    config: Any = {"llamaKCacheQuantizationType": False, "llamaVCacheQuantizationType": False}
    applied = client.llm.load_new_instance("tiny", config=config).get_load_config()
    assert applied.llama_k_cache_quantization_type == applied.llama_v_cache_quantization_type == "f16"


def test_model_keeps_the_config_of_a_loaded_instance(client: Client) -> None:
    client.llm.model("tiny", config={"contextLength": 512})
    assert client.llm.model("tiny", config={"contextLength": 1024}).get_context_length() == 512


def test_a_load_config_that_cannot_be_applied_is_refused_with_a_reason(client: Client) -> None:
    with pytest.raises(LMStudioServerError, match="contextLength"):
        client.llm.load_new_instance("tiny", config={"contextLength": 10**7})
    assert loaded(client) == []


@watches_processes
def test_a_model_is_unloaded_by_its_handle_or_by_its_identifier(client: Client, server: Served) -> None:
    others = server.workers()
    first = client.llm.load_new_instance("tiny")
    client.llm.load_new_instance("tiny", "second")
    embed = client.embedding.load_new_instance("text-embedding-embed")
    workers = server.workers() - others
    assert len(workers) == 3
    first.unload()
    client.llm.unload("second")
    embed.unload()
    assert loaded(client) == []
    wait_for_exit(workers)


def test_calls_on_an_unloaded_instance_raise_not_found(client: Client) -> None:
    handle = client.llm.load_new_instance("tiny")
    handle.unload()
    for use in (handle.unload, handle.get_info, lambda: handle.respond("hi"), lambda: handle.tokenize("hi")):
        with pytest.raises(LMStudioModelNotFoundError):
            use()
    with pytest.raises(LMStudioModelNotFoundError):
        client.embedding.unload("no-such-instance")


def test_the_error_for_a_reference_of_an_unloaded_instance_shows_why_it_is_gone(client: Client) -> None:
    handle = client.llm.load_new_instance("tiny", "mine")
    reference = handle.get_info().instance_reference
    handle.unload()
    with pytest.raises(LMStudioServerError, match='Reported cause:\n    A client unloaded "mine".'):
        client.llm.get_model_info({"type": "instanceReference", "instanceReference": reference})


def test_an_unknown_model_is_an_error_that_names_it(client: Client) -> None:
    for load in (client.llm.load_new_instance, client.llm.model, client.embedding.model):
        with pytest.raises(LMStudioServerError, match="no-such-model"):
            load("no-such-model")
    with pytest.raises(LMStudioModelNotFoundError):
        client.llm.get_model_info("no-such-model")


def test_a_model_of_the_other_kind_is_an_error(client: Client) -> None:
    for namespace, key in ((client.llm, "text-embedding-embed"), (client.embedding, "tiny")):
        for load in (namespace.load_new_instance, namespace.model):
            with pytest.raises(LMStudioServerError, match=key):
                load(key)
    client.embedding.load_new_instance("text-embedding-embed", "mine")
    with pytest.raises(LMStudioServerError):
        client.llm.get_model_info("mine")
    assert loaded(client) == ["mine"]


def test_a_broken_file_cannot_be_loaded_and_does_not_hide_the_others(client: Client) -> None:
    with pytest.raises(LMStudioServerError):
        client.llm.load_new_instance("broken")
    assert client.llm.load_new_instance("tiny").identifier == "tiny"


def test_an_instance_is_found_by_a_query_too(client: Client) -> None:
    reference = client.llm.load_new_instance("tiny", "mine").get_info().instance_reference
    queries: list[Any] = [
        {"path": "acme/tiny-GGUF"},
        {"type": "instanceReference", "instanceReference": reference},
    ]
    for query in queries:
        assert client.llm.get_model_info(query).identifier == "mine"


def test_each_namespace_lists_only_its_instances(client: Client) -> None:
    client.llm.load_new_instance("tiny")
    client.embedding.load_new_instance("text-embedding-embed")
    assert [handle.identifier for handle in client.llm.list_loaded()] == ["tiny"]
    assert [handle.identifier for handle in client.list_loaded_models("embedding")] == [
        "text-embedding-embed"
    ]


def test_is_valid_api_host_recognizes_the_server(server: Served) -> None:
    assert Client.is_valid_api_host(server.address)
