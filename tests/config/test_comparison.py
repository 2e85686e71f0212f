"""The load config that is asked for, compared with the one that a server reports; and keys compared with models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lmstudio_async import LlmInfo
from lmstudio_async._config import load_config_fields, load_settings, mismatched_settings
from lmstudio_async._model_keys import is_beginning_of, is_key_of, is_only_beginning
from lmstudio_async._wire._kv import collapse, stack, to_fields
from lmstudio_async.embedded._catalog._catalog import Catalog, CatalogEntry
from lmstudio_async.embedded._instances._instance import model_info
from lmstudio_async.embedded._instances._load_config import draft_model_key, plan_load
from lmstudio_async.errors import LMStudioConfigError, LMStudioModelNotFoundError
from lmstudio_async.testing import ModelsFolder

TEMPLATE = {"type": "jinja", "jinja_prompt_template": {"template": "{{ messages }}"}}


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    models = ModelsFolder(tmp_path / "models")
    models.add_llm("acme/tiny-GGUF/tiny-Q8_0.gguf", blocks=4)
    models.add_llm("acme/tiny-large-GGUF/tiny-large-Q8_0.gguf")
    models.add_llm("acme/helper-GGUF/helper-Q8_0.gguf")
    models.add_llm("solo/deep-GGUF/sub/deep-Q8_0.gguf")
    models.add_llm("acme/Two-GGUF/Two-Q4_K_M.gguf")
    models.add_llm("acme/Two-GGUF/Two-Q8_0.gguf")
    models.add_embedding("nomic/Nomic-Embed-GGUF/nomic-embed-F32.gguf")
    return Catalog(models.folder)


def mismatches(
    wanted: Any, effective: dict[str, Any], kind: Any = "llm", context_length: int = 0
) -> dict[str, tuple[Any, Any]]:
    """Compare a config with the values that a server reports by wire key."""
    return mismatched_settings(load_settings(wanted, kind), to_fields(effective), context_length)


@pytest.mark.parametrize(
    "config",
    [
        {"context_length": 1000},
        {"context_length": 1000, "auto_fit": False},
        {"max_parallel_predictions": 2},
        {"use_unified_kv_cache": False},
        {"offload_kv_cache_to_gpu": False},
        {"eval_batch_size": 64, "physical_batch_size": 32},
        {"flash_attention": True},
        {"flash_attention": False},
        {"context_checkpoints": 3},
        {"keep_model_in_memory": False},
        {"try_mmap": False},
        {"try_mmap": True, "try_direct_io": True},
        {"seed": 3},
        {"seed": False},
        {"num_experts": 0},
        {"use_fp16_for_kv_cache": False},
        {"use_fp16_for_kv_cache": True, "llama_k_cache_quantization_type": "q8_0"},
        {"llama_k_cache_quantization_type": "q8_0"},
        {"llama_k_cache_quantization_type": False, "llama_v_cache_quantization_type": "f16"},
        {"rope_frequency_base": 12345.678, "rope_frequency_scale": 0.3},
        {"rope_frequency_base": False},
        {"prompt_template": TEMPLATE},
        {"reasoning_budget_message": "Enough."},
        {"speculative_draft_model": "helper", "speculative_draft_max_tokens": 5},
        {"speculative_draft_mtp": False},
        {"llama_cpp_arguments_override": False},
        {"mlx_kv_cache_quantization": False, "mlx_disk_cache": True},
        {"gpu": {"ratio": "off", "num_cpu_expert_layers_ratio": "off"}},
        {"gpu_strict_vram_cap": False},
        {"extra": {"llm.load.llama.cpuThreadPoolSize": 3}},
    ],
    ids=str,
)
def test_an_instance_that_was_loaded_with_a_config_fulfils_it(catalog: Catalog, config: Any) -> None:
    assert mismatches(config, effective_of(catalog, config)) == {}


@pytest.mark.parametrize(
    "config",
    [
        {"gpu": {"ratio": 0.5, "main_gpu": 1, "split_strategy": "favorMainGpu"}},
        {"gpu": {"ratio": "max", "disabled_gpus": [1]}},
        {"gpu": {"ratio": 1}, "offload_kv_cache_to_gpu": True},
    ],
    ids=str,
)
def test_settings_of_gpus_are_fulfilled_only_on_a_server_with_gpus(catalog: Catalog, config: Any) -> None:
    assert mismatches(config, effective_of(catalog, config, gpu=True)) == {}
    found = mismatches(config, effective_of(catalog, config, gpu=False))
    assert found["gpu.ratio"] == (config["gpu"]["ratio"], "off")


def effective_of(catalog: Catalog, config: Any, *, gpu: bool = False) -> dict[str, Any]:
    """Return the values that the embedded server reports of an instance that was loaded with a config."""
    values = collapse(stack(load_config_fields(config, "llm")))
    key = draft_model_key(values)
    draft: CatalogEntry | None = None if key is None else catalog.resolve(key, "llm")[0]
    return plan_load(catalog.resolve("tiny", "llm")[0], values, draft=draft).effective(gpu=gpu)


@pytest.mark.parametrize(
    ("config", "effective", "expected"),
    [
        ({"context_length": 512}, {"llm.load.contextLength": 767}, {}),
        ({"context_length": 512}, {"llm.load.contextLength": 768}, {"context_length": (512, 768)}),
        ({"context_length": 512}, {"llm.load.contextLength": 511}, {"context_length": (512, 511)}),
        ({"context_length": 512}, {"llm.load.contextLength": "512"}, {"context_length": (512, "512")}),
        ({"seed": 3}, {"llm.load.seed": {"checked": False, "value": 3}}, {"seed": (3, False)}),
        ({"seed": False}, {"llm.load.seed": {"checked": True, "value": 3}}, {"seed": (False, 3)}),
        ({"flash_attention": False}, {}, {"flash_attention": (False, None)}),
        ({"context_checkpoints": 32}, {}, {"context_checkpoints": (32, None)}),
        ({"try_mmap": True, "num_experts": 0}, {}, {}),
        ({"try_mmap": False, "num_experts": 8}, {}, {"try_mmap": (False, None), "num_experts": (8, None)}),
        ({"max_parallel_predictions": 1}, {"llm.load.numParallelSessions": True}, {"max_parallel_predictions": (1, True)}),
        ({"auto_fit": False}, {"llm.load.mlx.autoFit": False}, {}),
        ({"auto_fit": False}, {"llm.load.mlx.autoFit": False, "llm.load.llama.autoFit": True}, {"auto_fit": (False, True)}),
        ({"gpu": {"ratio": 1}}, {"llm.load.llama.acceleration.offloadRatio": "max"}, {}),
        ({"gpu": {"ratio": "off"}}, {"llm.load.llama.acceleration.offloadRatio": 0}, {}),
        ({"gpu": {"ratio": 0.3}}, {"llm.load.llama.acceleration.offloadRatio": 0.30000001192092896}, {}),
        ({"rope_frequency_base": 1000000}, {"llm.load.llama.ropeFrequencyBase": {"checked": True, "value": 1000001}},
         {"rope_frequency_base": (1000000, 1000001)}),
        ({"gpu": {"main_gpu": 1}},
         {"load.gpuSplitConfig": {"strategy": "tensor", "disabledGpus": [], "priority": [1], "customRatio": []}}, {}),
        ({"gpu": {"main_gpu": 1}},
         {"load.gpuSplitConfig": {"strategy": "tensor", "disabledGpus": [], "priority": [0], "customRatio": []}},
         {"gpu.main_gpu": (1, [0])}),
        ({"extra": {"llm.load.brandNew": 3}}, {"llm.load.brandNew": 3}, {}),
        ({"extra": {"llm.load.brandNew": 3}}, {}, {"llm.load.brandNew": (3, None)}),
        ({"llama_k_cache_quantization_type": False},
         {"llm.load.llama.kCacheQuantizationType": {"checked": True, "value": "q8_0"}},
         {"llama_k_cache_quantization_type": (False, "q8_0")}),
    ],
    ids=str,
)  # fmt: skip
def test_mismatched_settings_are_told_by_the_names_of_users(
    config: Any, effective: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert mismatches(config, effective) == expected


def test_the_context_length_of_the_info_counts_if_the_config_has_none() -> None:
    config = {"context_length": 512}
    assert mismatches(config, {}, "embedding", context_length=512) == {}
    assert mismatches(config, {}, "embedding", context_length=300) == {"context_length": (512, 300)}
    assert mismatches(config, {}, "embedding") != {}


def test_settings_that_come_with_another_one_are_not_asked_for() -> None:
    settings = load_settings(
        {"context_length": 512, "gpu": {"ratio": "max"}, "speculative_draft_model": "x"}, "llm"
    )

    assert set(settings) == {"context_length", "gpu.ratio", "speculative_draft_model"}


@pytest.mark.parametrize(
    "config", [{"context": 3}, {"context_length": "long"}, {"gpu": {"ratio": 2}}, 3], ids=str
)
def test_a_config_with_a_mistake_is_refused(config: Any) -> None:
    with pytest.raises(LMStudioConfigError):
        load_settings(config, "llm")


KEYS = [
    "tiny",
    "TINY",
    "tiny@q8_0",
    "tiny:Q8_0",
    "tiny@8bit",
    "tiny@q4_0",
    "tiny@4bit",
    "acme/tiny",
    "acme/tiny@q8_0",
    "acme/tiny-GGUF",
    "acme/tiny-GGUF/tiny-Q8_0.gguf",
    "acme\\tiny-GGUF\\tiny-Q8_0.gguf",
    "tiny-large",
    "acme/tiny-large",
    "acme/ti",
    "acme/tiny-l",
    "acme/tiny-l@q8_0",
    "acme/tiny-l@q4_0",
    "acme/h",
    "acme",
    "a",
    "other/tiny",
    "solo",
    "solo/deep",
    "solo/deep-gguf",
    "solo/deep-gguf/su",
    "solo/deep-gguf/sub",
    "/",
    "two",
    "two@q4_k_m",
    "two@q8_0",
    "acme/Two-GGUF/Two-Q8_0.gguf",
    "acme/two-gguf",
    "helper",
    "nomic-embed",
    "text-embedding-nomic-embed",
    "nomic/nomic-embed",
    "nomic/Nomic-Embed-GGUF/",
    "embed",
]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_means_the_models_that_the_server_would_load_by_it(catalog: Catalog, key: str) -> None:
    kind: Any = "embedding" if "embed" in key.lower() else "llm"
    infos = [model_info(entry) for entry in catalog.scan()]
    named = {
        info.model_key
        for info in infos
        if is_key_of(key, info) or (is_beginning_of(key, info) and is_only_beginning(key, info, infos))
    }
    try:
        found, others = catalog.resolve(key, kind)
    except LMStudioModelNotFoundError:
        assert named == set()
    else:
        assert named == set(others or [found.model_key])


def test_a_key_of_a_variant_means_the_selected_one_only() -> None:
    info = LlmInfo(
        model_key="qwen/qwen3-4b",
        variants=["qwen/qwen3-4b@q4_k_m", "qwen/qwen3-4b@q8_0"],
        selected_variant="qwen/qwen3-4b@q8_0",
    )
    keys = ("qwen/qwen3-4b", "qwen3-4b", "qwen/qwen3-4b@q8_0", "qwen/qwen3-4b@q4_k_m", "qwen3-8b")

    assert [is_key_of(key, info) for key in keys] == [True, True, True, False, False]
