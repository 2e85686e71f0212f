"""Loads of new instances, their identifiers, and the lookup of an instance by a specifier; with real engines."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

from lmstudio_async._wire._infos import EmbeddingModelInstanceInfo, LlmInstanceInfo
from lmstudio_async._wire._models import (
    GetOrLoadCreation,
    GetOrLoadPacket,
    InstanceReferenceSpecifier,
    LoadModelCreation,
    LoadModelPacket,
    ModelQuery,
    Progress,
    QuerySpecifier,
    Resolved,
)
from lmstudio_async._wire._struct import Unknown, read, write
from lmstudio_async.embedded._instances._registry import Domain, Instance
from lmstudio_async.errors import (
    LMStudioDomainMismatchError,
    LMStudioIdentifierInUseError,
    LMStudioInstanceUnloadedError,
    LMStudioModelNotFoundError,
    LMStudioServerError,
    LMStudioUnsupportedFeatureError,
)
from lmstudio_async.testing import ModelsFolder
from tests.embedded.registry import (
    OTHER,
    TINY,
    Reports,
    ask_load,
    config,
    get,
    load,
    names,
    running,
    three_models,
)
from tests.processes import HeldLoads, needs_proc

models = pytest.fixture(three_models)


# -- loading


async def test_a_load_reports_the_model_and_its_progress_up_to_one(models: ModelsFolder) -> None:
    models.add_llm("acme/big-GGUF/big-F16.gguf", padding_mb=96)
    reports = Reports()
    async with running(models) as instances:
        instance = await instances.load("llm", LoadModelCreation(model_key="big"), reports)
        assert reports.kinds == ["Resolved", "Progress"]
        (resolved,) = reports.of(Resolved)
        assert resolved.info.model_key == "big"
        assert resolved.ambiguous is None
        fractions = [packet.progress for packet in reports.of(Progress)]
        assert fractions[0] == 0
        assert fractions[-1] == 1
        assert fractions == sorted(set(fractions))
        assert len(fractions) >= 10
        assert await instance.engine.tokenize("ab", add_special=False) == [97, 98]


async def test_every_packet_of_a_load_has_a_type_of_its_endpoint(models: ModelsFolder) -> None:
    explicit, just_in_time, again = Reports(), Reports(), Reports()
    async with running(models) as instances:
        await instances.load("llm", LoadModelCreation(model_key="tiny"), explicit)
        await get(instances, "embed", domain="embedding")
        await instances.get_or_load("llm", GetOrLoadCreation(identifier="other"), just_in_time)
        await instances.get_or_load("llm", GetOrLoadCreation(identifier="other"), again)
    for reports, union in (
        (explicit, LoadModelPacket),
        (just_in_time, GetOrLoadPacket),
        (again, GetOrLoadPacket),
    ):
        assert reports
        for packet in reports:
            assert read(union, write(packet)) == packet


async def test_info_describes_the_instance(models: ModelsFolder) -> None:
    async with running(models) as instances:
        llm = await load(instances, ttl_ms=60_000, load_config_stack=config(contextLength=1024))
        info = llm.info()
        assert isinstance(info, LlmInstanceInfo)
        assert (info.identifier, info.model_key, info.path) == ("tiny", "tiny", TINY)
        assert (info.ttl_ms, info.last_used_time, info.context_length) == (60_000, None, 1024)
        assert info.quantization is not None
        assert (info.quantization.name, info.quantization.bits) == ("Q4_K_M", 4)
        assert llm.config["llm.load.contextLength"] == 1024
        embedding = await load(instances, "embed", domain="embedding")
        assert isinstance(embedding.info(), EmbeddingModelInstanceInfo)
        assert embedding.info().ttl_ms is None
        assert embedding.info().instance_reference != info.instance_reference


async def test_the_context_length_is_that_of_the_engine(models: ModelsFolder) -> None:
    async with running(models) as instances:
        # llama.cpp rounds the context length up.
        llm = await load(instances, load_config_stack=config(contextLength=300))
        settings = (await llm.engine.properties())["default_generation_settings"]
        assert llm.context_length == settings["n_ctx"] == 512
        assert llm.info().context_length == llm.config["llm.load.contextLength"] == 512


async def test_an_ambiguous_key_loads_one_model_and_reports_all(models: ModelsFolder) -> None:
    models.add_llm("acme/tiny-GGUF/tiny-Q8_0.gguf")
    reports = Reports()
    async with running(models) as instances:
        instance = await instances.load("llm", LoadModelCreation(model_key="tiny"), reports)
    assert instance.entry.path == TINY
    assert reports.of(Resolved)[0].ambiguous == ["tiny@q4_k_m", "tiny@q8_0"]


async def test_a_failed_load_raises_the_reason_of_the_engine(models: ModelsFolder) -> None:
    models.add_llm("acme/odd-GGUF/odd-Q8_0.gguf", architecture="nonesuch")
    async with running(models) as instances:
        with pytest.raises(LMStudioServerError, match="nonesuch"):
            await load(instances, "odd", "mine")
        assert names(instances) == []
        # the identifier is free again
        await load(instances, "tiny", "mine")


async def test_an_unknown_key_raises_not_found_with_candidates(models: ModelsFolder) -> None:
    async with running(models) as instances:
        for ask in (load, get):
            with pytest.raises(LMStudioModelNotFoundError) as caught:
                await ask(instances, "nothing")
            assert caught.value.candidates == ["other", "tiny"]


async def test_a_model_of_the_other_namespace_raises_domain_mismatch(models: ModelsFolder) -> None:
    async with running(models) as instances:
        for ask in (load, get):
            with pytest.raises(LMStudioDomainMismatchError):
                await ask(instances, "embed")
            with pytest.raises(LMStudioDomainMismatchError):
                await ask(instances, "tiny", domain="embedding")


async def test_an_unsupported_load_config_loads_nothing(models: ModelsFolder) -> None:
    async with running(models) as instances:
        for ask in (load, get):
            with pytest.raises(LMStudioUnsupportedFeatureError, match="numExperts"):
                await ask(instances, "tiny", load_config_stack=config(numExperts=2))
        assert names(instances) == []


async def test_a_draft_model_is_found_by_its_key(models: ModelsFolder) -> None:
    wanted = config(**{"llama.speculativeDecoding.draftModel": "other"})
    async with running(models) as instances:
        instance = await load(instances, load_config_stack=wanted)
        assert instance.engine.spec.draft_model_path == models.folder / OTHER
        missing = config(**{"llama.speculativeDecoding.draftModel": "nothing"})
        with pytest.raises(LMStudioModelNotFoundError, match="nothing"):
            await load(instances, load_config_stack=missing)


@pytest.mark.parametrize("ttl_ms", [0, -5, 2**60])
async def test_a_ttl_is_a_positive_number_of_milliseconds(models: ModelsFolder, ttl_ms: int) -> None:
    async with running(models) as instances:
        with pytest.raises(LMStudioServerError, match="TTL"):
            await load(instances, ttl_ms=ttl_ms)
        with pytest.raises(LMStudioServerError, match="TTL"):
            await get(instances, load_ttl_ms=ttl_ms)


@pytest.mark.parametrize(
    ("member", "value"),
    [("ttlMs", "60000"), ("ttlMs", 1.5), ("identifier", 7), ("deviceIdentifier", 7), ("loadConfigStack", [])],
)
async def test_a_member_of_a_wrong_type_is_refused_rather_than_ignored(
    models: ModelsFolder, member: str, value: object
) -> None:
    creation = read(LoadModelCreation, {"modelKey": "tiny", "identifier": "mine", member: value})
    async with running(models) as instances:
        with pytest.raises(LMStudioServerError, match=member):
            await instances.load("llm", creation, lambda _: None)


async def test_a_load_on_another_device_is_refused(models: ModelsFolder) -> None:
    async with running(models) as instances:
        with pytest.raises(LMStudioServerError, match="laptop"):
            await load(instances, device_identifier="laptop")


# -- identifiers


async def test_instances_without_an_identifier_are_numbered(models: ModelsFolder) -> None:
    async with running(models) as instances:
        for _ in range(3):
            await load(instances)
        assert names(instances) == ["tiny", "tiny:2", "tiny:3"]
        await instances.unload("tiny:2", "llm")
        assert (await load(instances)).identifier == "tiny:2"


async def test_the_identifier_is_the_requested_key_by_default(models: ModelsFolder) -> None:
    async with running(models) as instances:
        assert (await load(instances, TINY)).identifier == TINY
        assert (await get(instances, "acme/other-GGUF")).identifier == "acme/other-GGUF"


async def test_an_identifier_in_use_is_refused_in_both_namespaces(models: ModelsFolder) -> None:
    async with running(models) as instances:
        await load(instances, "tiny", "mine")
        with pytest.raises(LMStudioIdentifierInUseError, match="already exists"):
            await load(instances, "other", "mine")
        with pytest.raises(LMStudioIdentifierInUseError):
            await load(instances, "embed", "mine", domain="embedding")


@needs_proc
async def test_an_identifier_is_in_use_while_its_instance_loads(
    models: ModelsFolder, held_loads: HeldLoads
) -> None:
    async with running(models) as instances, anyio.create_task_group() as tasks:
        first = ask_load(tasks, instances, identifier="mine")
        await first.reports.first(Resolved)
        await held_loads.next()
        with pytest.raises(LMStudioIdentifierInUseError):
            await load(instances, "tiny", "mine")
        with pytest.raises(LMStudioModelNotFoundError):
            await instances.unload("mine", "llm")
        assert names(instances) == []
        held_loads.let_go()
        assert (await first.result()).identifier == "mine"


async def test_a_load_waits_for_an_identifier_whose_instance_is_unloading(models: ModelsFolder) -> None:
    async with running(models) as instances, anyio.create_task_group() as tasks:
        first = await load(instances, "tiny", "mine")
        tasks.start_soon(instances.unload, "mine", "llm")
        await first.unloaded.wait()
        second = await load(instances, "other", "mine")
        assert first.gone.is_set()
        assert names(instances) == [second.identifier]


@pytest.mark.parametrize("identifier", ["", "a\nb", "__proto__", "x" * 1025])
async def test_an_invalid_identifier_is_refused(models: ModelsFolder, identifier: str) -> None:
    async with running(models) as instances:
        with pytest.raises(LMStudioServerError, match="identifier"):
            await load(instances, "tiny", identifier)


# -- specifiers


async def test_a_query_finds_an_instance_that_matches_all_members(models: ModelsFolder) -> None:
    async with running(models) as instances:
        tiny = await load(instances, "tiny", "mine")
        other = await load(instances, "other")
        embedding = await load(instances, "embed", domain="embedding")

        def find(namespace: Domain = "llm", **query: Any) -> Instance:
            return instances.find(QuerySpecifier(query=ModelQuery(**query)), namespace)

        assert find() is tiny
        assert find("embedding") is embedding
        assert find(identifier="mine") is tiny
        assert find(identifier="other") is other
        assert find(identifier="TINY") is tiny
        assert find(identifier="acme/OTHER") is other
        assert find(path="acme/other-GGUF") is other
        assert find(path=OTHER) is other
        assert find(domain="llm", vision=False) is tiny
        nothing: list[dict[str, Any]] = [
            {"identifier": "nothing"},
            {"identifier": "m"},
            {"identifier": "embed"},
            {"identifier": "mine", "path": OTHER},
            {"path": "acme/oth"},
            {"vision": True},
            {"domain": "embedding"},
            {"device_identifier": "laptop"},
        ]
        for query in nothing:
            with pytest.raises(LMStudioModelNotFoundError) as caught:
                find(**query)
            assert caught.value.display_data["query"]["domain"] == "llm"
            assert caught.value.candidates == ["mine", "other"]


async def test_an_instance_reference_finds_one_instance_and_never_its_successor(models: ModelsFolder) -> None:
    async with running(models) as instances:
        first = await load(instances)
        specifier = InstanceReferenceSpecifier(instance_reference=first.reference)
        assert instances.find(specifier, "llm") is first
        with pytest.raises(LMStudioInstanceUnloadedError):
            instances.find(specifier, "embedding")
        await instances.unload("tiny", "llm")
        await load(instances)
        with pytest.raises(LMStudioInstanceUnloadedError):
            instances.find(specifier, "llm")


async def test_a_specifier_of_an_unknown_kind_is_an_error(models: ModelsFolder) -> None:
    async with running(models) as instances:
        with pytest.raises(LMStudioServerError, match="newest"):
            instances.find(Unknown(extra={"type": "newest"}), "llm")
