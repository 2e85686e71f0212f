"""Every key of a load config is honoured or refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
import attrs
import pytest

import lmstudio_async.embedded._instances._load_config as load_config_module
from lmstudio_async._wire._kv import KEYS, check, default
from lmstudio_async.embedded._catalog._catalog import Catalog, CatalogEntry
from lmstudio_async.embedded._engine._engine import Engine
from lmstudio_async.embedded._engine._engine_spec import EngineSpec, default_threads
from lmstudio_async.embedded._instances._load_config import LoadPlan, draft_model_key, plan_load
from lmstudio_async.errors import LMStudioServerError, LMStudioUnsupportedFeatureError
from lmstudio_async.testing import ModelsFolder

LLAMA = "llm.load.llama."
DRAFT = "llm.load.llama.speculativeDecoding."
LOAD_KEYS = [key for key in KEYS if not key.startswith(("llm.prediction.", "retrieval."))]
LLM_KEYS = [key for key in LOAD_KEYS if not key.startswith("embedding.")]
EMBEDDING_KEYS = [key for key in LOAD_KEYS if not key.startswith("llm.")]


@pytest.fixture
def llm(models: ModelsFolder) -> CatalogEntry:
    models.add_llm("acme/tiny-GGUF/tiny-Q4_K_M.gguf", context_length=8192, blocks=4)
    return Catalog(models.folder).resolve("tiny", "llm")[0]


@pytest.fixture
def embedding(models: ModelsFolder) -> CatalogEntry:
    models.add_embedding("acme/embed-GGUF/embed-F32.gguf", context_length=512)
    return Catalog(models.folder).resolve("embed", "embedding")[0]


def spec(entry: CatalogEntry, values: Mapping[str, Any], **more: Any) -> EngineSpec:
    return plan_load(entry, values, **more).spec


def load_error(entry: CatalogEntry, values: Mapping[str, Any]) -> str:
    with pytest.raises(LMStudioServerError) as caught:
        plan_load(entry, values)
    return str(caught.value)


def changed(entry: CatalogEntry, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the instructions to the engine that differ because of these values."""
    usual, now = attrs.asdict(spec(entry, {})), attrs.asdict(spec(entry, values))
    return {name: now[name] for name in now if now[name] != usual[name]}


# -- supported settings


def test_the_default_context_length_fits_most_machines(llm: CatalogEntry, embedding: CatalogEntry) -> None:
    assert spec(llm, {}).context_length == 4096
    assert spec(embedding, {}).context_length == 512


@pytest.mark.parametrize(
    ("key", "value", "instructions"),
    [
        ("llm.load.contextLength", 8192, {"context_length": 8192}),
        ("llm.load.seed", {"checked": True, "value": 7}, {"seed": 7}),
        ("llm.load.seed", {"checked": True, "value": -1}, {}),
        ("llm.load.seed", {"checked": False, "value": 7}, {}),
        (
            "llm.load.promptTemplate",
            {"type": "jinja", "jinjaPromptTemplate": {"template": "{{ 1 }}"}},
            {"chat_template": "{{ 1 }}"},
        ),
        ("llm.load.offloadKVCacheToGpu", False, {"offload_kv_cache": False}),
        ("llm.load.numParallelSessions", 2, {"parallel_sessions": 2}),
        ("llm.load.useUnifiedKvCache", False, {"unified_kv_cache": False}),
        ("llm.load.llama.acceleration.offloadRatio", "off", {"gpu_ratio": "off"}),
        ("llm.load.llama.acceleration.offloadRatio", 0.5, {"gpu_ratio": 0.5}),
        ("llm.load.llama.cpuThreadPoolSize", 3, {"threads": 3}),
        ("llm.load.llama.evalBatchSize", 64, {"eval_batch_size": 64}),
        ("llm.load.llama.physicalBatchSize", 64, {"physical_batch_size": 64}),
        ("llm.load.llama.physicalBatchSize", 512, {"physical_batch_size": 512, "eval_batch_size": 512}),
        ("llm.load.llama.flashAttention", True, {"flash_attention": "on"}),
        ("llm.load.llama.flashAttention", False, {"flash_attention": "off"}),
        ("llm.load.llama.contextCheckpoints", 5, {"context_checkpoints": 5}),
        ("llm.load.llama.ropeFrequencyBase", {"checked": True, "value": 1e6}, {"rope_frequency_base": 1e6}),
        ("llm.load.llama.ropeFrequencyBase", {"checked": False, "value": 1e6}, {}),
        ("llm.load.llama.ropeFrequencyScale", {"checked": True, "value": 0.5}, {"rope_frequency_scale": 0.5}),
        ("llm.load.llama.keepModelInMemory", True, {"mlock": True}),
        ("llm.load.llama.useFp16ForKVCache", False, {"k_cache_type": "f32", "v_cache_type": "f32"}),
        ("llm.load.llama.tryMmap", False, {"mmap": False}),
        ("llm.load.llama.tryDirectIO", True, {"direct_io": True, "mmap": False}),
        (
            "llm.load.llama.kCacheQuantizationType",
            {"checked": True, "value": "q8_0"},
            {"k_cache_type": "q8_0"},
        ),
        (
            "llm.load.llama.vCacheQuantizationType",
            {"checked": True, "value": "q4_0"},
            {"v_cache_type": "q4_0"},
        ),
        ("llm.load.llama.vCacheQuantizationType", {"checked": False, "value": "q4_0"}, {}),
    ],
)
def test_a_setting_reaches_the_engine(
    llm: CatalogEntry, key: str, value: Any, instructions: dict[str, Any]
) -> None:
    assert check(key, value) is None
    assert changed(llm, {key: value}) == instructions


@pytest.mark.parametrize(
    ("key", "value", "instructions"),
    [
        ("embedding.load.contextLength", 256, {"context_length": 256, "eval_batch_size": 256}),
        ("embedding.load.seed", {"checked": True, "value": 7}, {"seed": 7}),
        ("embedding.load.llama.acceleration.offloadRatio", 0, {"gpu_ratio": 0}),
        ("embedding.load.llama.evalBatchSize", 1024, {"eval_batch_size": 1024}),
        (
            "embedding.load.llama.ropeFrequencyBase",
            {"checked": True, "value": 1e6},
            {"rope_frequency_base": 1e6},
        ),
        (
            "embedding.load.llama.ropeFrequencyScale",
            {"checked": True, "value": 2},
            {"rope_frequency_scale": 2},
        ),
        ("embedding.load.llama.keepModelInMemory", True, {"mlock": True}),
        ("embedding.load.llama.tryMmap", False, {"mmap": False}),
    ],
)
def test_a_setting_of_an_embedding_model_reaches_the_engine(
    embedding: CatalogEntry, key: str, value: Any, instructions: dict[str, Any]
) -> None:
    assert changed(embedding, {key: value}) == instructions


@pytest.mark.parametrize(
    ("split", "instructions"),
    [
        ({"strategy": "evenly"}, {}),
        ({"strategy": "evenly", "disabledGpus": [1]}, {"tensor_split": (1.0, 0.0, *[1.0] * 14)}),
        ({"strategy": "priorityOrder", "priority": [2]}, {"split_mode": "none", "main_gpu": 2}),
        ({"strategy": "priorityOrder"}, {"split_mode": "none"}),
        ({"strategy": "tensor"}, {"split_mode": "tensor"}),
        ({"strategy": "custom", "customRatio": [3, 1]}, {"tensor_split": (3.0, 1.0)}),
    ],
)
def test_the_gpu_split_config_reaches_the_engine(
    llm: CatalogEntry, split: dict[str, Any], instructions: dict[str, Any]
) -> None:
    whole = {"disabledGpus": [], "priority": [], "customRatio": [], **split}
    assert changed(llm, {"load.gpuSplitConfig": whole}) == instructions


def test_the_threads_of_the_server_are_the_default_of_a_config(llm: CatalogEntry) -> None:
    assert spec(llm, {}, threads=1).threads == 1
    assert spec(llm, {"llm.load.llama.cpuThreadPoolSize": 2}, threads=1).threads == 2


def test_a_draft_model_is_loaded_with_the_model(llm: CatalogEntry) -> None:
    values = {
        DRAFT + "draftModel": "tiny",
        DRAFT + "draftMaxTokens": 8,
        DRAFT + "draftMinTokens": 2,
        DRAFT + "draftMinContinueProbability": 0.5,
    }
    assert draft_model_key(values) == "tiny"
    plan = plan_load(llm, values, draft=llm)
    assert plan.spec.draft_model_path == llm.file
    assert (plan.spec.draft_max_tokens, plan.spec.draft_min_tokens) == (8, 2)
    assert plan.spec.draft_min_probability == 0.5
    effective = plan.effective(gpu=False)
    assert {key: effective[key] for key in values} == values
    assert effective[DRAFT + "draftSimple"] is True


@pytest.mark.parametrize(
    "values", [{}, {DRAFT + "draftModel": ""}, {DRAFT + "draftModel": "x", DRAFT + "draftSimple": False}]
)
def test_a_config_without_an_enabled_draft_model_has_no_key(values: dict[str, Any]) -> None:
    assert draft_model_key(values) is None


def test_a_projector_is_loaded_with_its_model(llm: CatalogEntry) -> None:
    seeing = attrs.evolve(llm, projector=llm.file, vision=True)
    assert spec(seeing, {}).projector_path == llm.file


# -- refused settings


@pytest.mark.parametrize("key", LOAD_KEYS)
def test_a_value_of_a_wrong_type_is_refused_by_name(
    llm: CatalogEntry, embedding: CatalogEntry, key: str
) -> None:
    assert key in load_error(embedding if key.startswith("embedding.") else llm, {key: [object]})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llm.load.autoFitMinContextLength", 512),
        ("llm.load.llama.autoFit", True),
        ("llm.load.numExperts", 4),
        ("llm.load.numCpuExpertLayersRatio", "max"),
        ("llm.load.numCpuExpertLayersRatio", 0.5),
        (DRAFT + "draftMtp", True),
        (DRAFT + "draftDflashSidecar", True),
        (DRAFT + "draftDsparkSidecar", True),
        (DRAFT + "draftMtpSidecar", True),
        (
            LLAMA + "argumentsOverride",
            {"enabled": True, "disabledParameters": [], "overrideParameters": [], "excludeAllConfig": False},
        ),
        ("llm.load.mlx.diskCache", False),
        (
            "llm.load.mlx.kvCacheQuantization",
            {"enabled": True, "bits": 8, "groupSize": 64, "quantizedStart": 0},
        ),
        ("llm.load.vllm.gpuMemoryUtilization", 0.5),
        ("llm.load.vllm.reasoningParser", "qwen3"),
        ("llm.load.vllm.toolCallParser", "hermes"),
        ("load.gpuStrictVramCap", True),
        ("envVars", {"HSA_OVERRIDE_GFX_VERSION": "10.3.0"}),
        ("llm.load.llama.newestSetting", 1),
        ("llm.prediction.temperature", 0.5),
        ("embedding.load.contextLength", 128),
        ("ext.virtualModel.customField.acme.tiny.mood", "good"),
    ],
)
def test_an_unsupported_setting_is_refused_by_name(llm: CatalogEntry, key: str, value: Any) -> None:
    with pytest.raises(LMStudioUnsupportedFeatureError) as caught:
        plan_load(llm, {key: value})
    assert key in str(caught.value)
    assert caught.value.display_data["feature"] == key


def test_a_setting_of_language_models_is_refused_for_embedding_models(embedding: CatalogEntry) -> None:
    assert "'embedding'" in load_error(embedding, {"llm.load.contextLength": 128})


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"llm.load.contextLength": 8193}, "8192"),
        ({"llm.load.contextLength": 1}, "at least 2"),
        ({LLAMA + "evalBatchSize": 3}, "numParallelSessions"),
        ({LLAMA + "cpuThreadPoolSize": 513}, "512"),
        ({"llm.load.seed": {"checked": True, "value": 2**32 - 1}}, "seed"),
        ({LLAMA + "cpuThreadPoolSize": 1.5}, "whole number"),
        ({LLAMA + "evalBatchSize": 128, LLAMA + "physicalBatchSize": 256}, "evalBatchSize"),
        ({LLAMA + "evalBatchSize": 2**40}, "evalBatchSize"),
        ({LLAMA + "tryDirectIO": True, LLAMA + "keepModelInMemory": True}, "keepModelInMemory"),
        (
            {
                LLAMA + "vCacheQuantizationType": {"checked": True, "value": "q8_0"},
                LLAMA + "flashAttention": False,
            },
            "flash attention",
        ),
        ({DRAFT + "draftSimple": True}, "draftModel"),
        ({DRAFT + "draftMaxTokens": 9}, "draftModel"),
    ],
)
def test_an_invalid_value_is_refused_with_the_reason(
    llm: CatalogEntry, values: dict[str, Any], word: str
) -> None:
    assert word in load_error(llm, values)


@pytest.mark.parametrize(
    ("kind", "what_helps"),
    [("llm", "set ropeFrequencyScale or ropeFrequencyBase"), ("embedding", "cannot be extended")],
)
def test_context_above_the_training_is_refused_with_a_way_to_extend_it(
    request: pytest.FixtureRequest, kind: str, what_helps: str
) -> None:
    entry = request.getfixturevalue(kind)
    with pytest.raises(LMStudioServerError, match="which this model was made for") as caught:
        plan_load(entry, {f"{kind}.load.contextLength": 16384})
    assert what_helps in caught.value.server_error["suggestion"]


def test_embedding_batch_is_divided_evenly_among_the_sessions(embedding: CatalogEntry) -> None:
    for context in range(2, 513):
        planned = spec(embedding, {"embedding.load.contextLength": context})
        assert planned.eval_batch_size % planned.parallel_sessions == 0
        assert planned.eval_batch_size >= context
    assert spec(embedding, {"embedding.load.llama.evalBatchSize": 1001}).eval_batch_size == 1004


def test_an_embedding_batch_below_the_context_length_is_refused(embedding: CatalogEntry) -> None:
    assert "512" in load_error(embedding, {"embedding.load.llama.evalBatchSize": 128})


def test_draft_min_tokens_above_draft_max_tokens_is_refused(llm: CatalogEntry) -> None:
    with pytest.raises(LMStudioServerError, match="at most draftMaxTokens"):
        plan_load(llm, {DRAFT + "draftModel": "tiny", DRAFT + "draftMinTokens": 9}, draft=llm)


@pytest.mark.parametrize(
    ("split", "word"),
    [
        ({"strategy": "custom"}, "customRatio"),
        ({"strategy": "priorityOrder", "priority": [0, 1]}, "give one"),
        ({"strategy": "priorityOrder", "priority": [1], "disabledGpus": [1]}, "disabled"),
    ],
)
def test_an_impossible_gpu_split_is_refused(llm: CatalogEntry, split: dict[str, Any], word: str) -> None:
    whole = {"disabledGpus": [], "priority": [], "customRatio": [], **split}
    assert word in load_error(llm, {"load.gpuSplitConfig": whole})


# -- settings that clients always send


@pytest.mark.parametrize("key", [key for key in LLM_KEYS if key != "llm.load.llama.autoFit"])
def test_a_default_is_never_refused(llm: CatalogEntry, key: str) -> None:
    assert isinstance(plan_load(llm, {key: default(key)}), LoadPlan)


@pytest.mark.parametrize("key", [key for key in EMBEDDING_KEYS if key != "embedding.load.contextLength"])
def test_a_default_of_embedding_models_is_never_refused(embedding: CatalogEntry, key: str) -> None:
    assert isinstance(plan_load(embedding, {key: default(key)}), LoadPlan)


@pytest.mark.parametrize("fits", [True, False])
def test_a_setting_of_another_engine_is_ignored(llm: CatalogEntry, fits: bool) -> None:
    written = {"llm.load.mlx.autoFit": fits, "llm.load.yuzu.autoFit": fits}
    assert changed(llm, {LLAMA + "autoFit": False, **written}) == {}


# -- the effective config

#: Settings that have an effect on every machine.
SETTINGS: dict[str, Any] = {
    "llm.load.contextLength": 1024,
    "llm.load.seed": {"checked": True, "value": 7},
    "llm.load.numParallelSessions": 2,
    "llm.load.useUnifiedKvCache": False,
    LLAMA + "evalBatchSize": 64,
    LLAMA + "physicalBatchSize": 32,
    LLAMA + "flashAttention": True,
    LLAMA + "contextCheckpoints": 5,
    LLAMA + "cpuThreadPoolSize": 1,
    LLAMA + "tryMmap": False,
    LLAMA + "kCacheQuantizationType": {"checked": True, "value": "q8_0"},
    LLAMA + "ropeFrequencyBase": {"checked": True, "value": 10000.0},
}


@pytest.mark.parametrize("gpu", [True, False])
def test_every_value_of_an_effective_config_is_valid_for_its_key(
    llm: CatalogEntry, embedding: CatalogEntry, gpu: bool
) -> None:
    for entry in (llm, embedding):
        effective = plan_load(entry, {}).effective(gpu=gpu)
        assert effective
        for key, value in effective.items():
            assert key in KEYS
            assert check(key, value) is None


def test_an_effective_config_can_be_sent_again(llm: CatalogEntry, embedding: CatalogEntry) -> None:
    for entry in (llm, embedding):
        plan = plan_load(entry, {}, threads=1)
        again = plan_load(entry, plan.effective(gpu=True), threads=1)
        assert again.effective(gpu=True) == plan.effective(gpu=True)


def test_the_effective_config_contains_the_requested_values(llm: CatalogEntry) -> None:
    values = {
        **SETTINGS,
        LLAMA + "tryDirectIO": False,
        LLAMA + "reasoningBudgetMessage": "Enough.",
        "llm.load.promptTemplate": {"type": "jinja", "jinjaPromptTemplate": {"template": "{{ 1 }}"}},
    }
    effective = plan_load(llm, values).effective(gpu=False)
    assert {key: effective[key] for key in values} == values


def test_the_effective_config_without_a_gpu_offloads_nothing(llm: CatalogEntry) -> None:
    split = {"strategy": "evenly", "disabledGpus": [], "priority": [], "customRatio": []}
    plan = plan_load(llm, {LLAMA + "acceleration.offloadRatio": 0.5, "load.gpuSplitConfig": split})
    assert plan.effective(gpu=True)[LLAMA + "acceleration.offloadRatio"] == 0.5
    assert plan.effective(gpu=True)["load.gpuSplitConfig"] == split
    effective = plan.effective(gpu=False)
    assert effective[LLAMA + "acceleration.offloadRatio"] == "off"
    assert effective["llm.load.offloadKVCacheToGpu"] is False
    assert "load.gpuSplitConfig" not in effective


def test_the_effective_config_omits_values_that_only_the_engine_knows(llm: CatalogEntry) -> None:
    assert LLAMA + "flashAttention" not in plan_load(llm, {}).effective(gpu=False)


def test_the_effective_config_contains_the_number_of_threads(llm: CatalogEntry) -> None:
    assert plan_load(llm, {}).effective(gpu=False)[LLAMA + "cpuThreadPoolSize"] == default_threads()


@pytest.mark.parametrize("allowed", [True, False])
def test_keep_model_in_memory_is_effective_only_if_the_system_allows_it(
    llm: CatalogEntry, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    monkeypatch.setattr(load_config_module, "_can_lock", lambda size: allowed and size == llm.size_bytes)
    plan = plan_load(llm, {LLAMA + "keepModelInMemory": True})
    assert plan.effective(gpu=False)[LLAMA + "keepModelInMemory"] is allowed


async def test_the_engine_loads_with_every_setting(llm: CatalogEntry) -> None:
    values = {
        **SETTINGS,
        LLAMA + "acceleration.offloadRatio": 0.5,
        LLAMA + "keepModelInMemory": True,
        LLAMA + "vCacheQuantizationType": {"checked": True, "value": "q8_0"},
        LLAMA + "ropeFrequencyScale": {"checked": True, "value": 1},
        "llm.load.promptTemplate": {"type": "jinja", "jinjaPromptTemplate": {"template": "always this"}},
        DRAFT + "draftModel": "tiny",
    }
    with anyio.fail_after(30):
        engine = await Engine.start(plan_load(llm, values, draft=llm).spec, lambda _: None)
        try:
            properties = await engine.properties()
            assert properties["default_generation_settings"]["n_ctx"] == 1024
            assert properties["total_slots"] == 2
            assert await engine.apply_template([{"role": "user", "content": "hi"}]) == "always this"
        finally:
            await engine.aclose()
