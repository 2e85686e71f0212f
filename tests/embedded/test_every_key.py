"""Every key of every config makes a difference or is refused; only ``autoFit`` of other engines is ignored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from lmstudio_async._wire._kv import KEYS, check, default
from lmstudio_async.embedded._catalog._catalog import Catalog, CatalogEntry
from lmstudio_async.embedded._instances._draft import with_draft
from lmstudio_async.embedded._instances._load_config import plan_load
from lmstudio_async.embedded._prediction._sampling import read_sampling
from lmstudio_async.errors import LMStudioServerError, LMStudioUnsupportedFeatureError
from lmstudio_async.testing import ModelsFolder
from tests.embedded.raw_predictions import checked

THINKING = "{% if enable_thinking %}<think>{% endif %}"
TOOL = {"type": "function", "function": {"name": "add-up"}}
MANUAL = {
    f"{place}{role}": "|" for place in ("before", "after") for role in ("System", "User", "Assistant")
}  # fmt: skip

#: For each key a value that is not the default.
PREDICTION: dict[str, Any] = {
    "temperature": 0.5,
    "contextOverflowPolicy": "rollingWindow",
    "maxPredictedTokens": checked(7),
    "stopStrings": ["x"],
    "structured": {"type": "json"},
    "speculativeDecoding.draftModel": "helper",
    "speculativeDecoding.minDraftLengthToConsider": 2,
    "speculativeDecoding.minContinueDraftingProbability": 0.5,
    "speculativeDecoding.maxTokensToDraft": 5,
    "speculativeDecoding.numDraftTokensExact": 5,
    "tools": {"type": "toolArray", "tools": [TOOL]},
    "toolChoice": {"type": "generic", "mode": "required"},
    "toolNaming": "snakeCase",
    "promptTemplate": {"type": "manual", "manualPromptTemplate": MANUAL, "stopStrings": []},
    "systemPrompt": "Be kind.",
    "seed": checked(3),
    "topKSampling": 3,
    "repeatPenalty": checked(1.3),
    "minPSampling": checked(0.3),
    "topPSampling": checked(0.3),
    "logProbs": checked(2),
    "reasoning.enableThinking": False,
    "reasoning.budgetTokens": checked(5),
    "reasoning.parsing": {"enabled": True, "startString": "[", "endString": "]"},
    "llama.cpuThreads": 2,
    "llama.frequencyPenalty": checked(0.3),
    "llama.xtcProbability": checked(0.3),
    "llama.xtcThreshold": checked(0.3),
    "llama.presencePenalty": checked(0.3),
    "llama.mirostatSampling": {"version": 2, "learningRate": 0.2, "targetEntropy": 3},
    "llama.locallyTypicalSampling": checked(0.3),
    "llama.logitBias": [[5, 1.0]],
}
REFUSED_PREDICTION: dict[str, Any] = {
    "toolCallStopStrings": ["x"],
    "contextPrefill": [{"type": "jsonFile", "absPath": "/x"}],
    "vision.userMaxImageDimensionPixels": checked(100),
    "vision.ignoreModelPreferredMaxImageDimension": True,
    "llama.tailFreeSampling": checked(0.5),
    "speculativeDecoding.numReuseTokens": 7,
}

LOAD: dict[str, Any] = {
    "llm.load.contextLength": 1000,
    "llm.load.seed": checked(3),
    "llm.load.promptTemplate": {"type": "jinja", "jinjaPromptTemplate": {"template": "x"}},
    "llm.load.offloadKVCacheToGpu": False,
    "llm.load.numParallelSessions": 2,
    "llm.load.useUnifiedKvCache": False,
    "llm.load.llama.acceleration.offloadRatio": 0.5,
    "llm.load.llama.cpuThreadPoolSize": 3,
    "llm.load.llama.evalBatchSize": 64,
    "llm.load.llama.physicalBatchSize": 64,
    "llm.load.llama.flashAttention": True,
    "llm.load.llama.contextCheckpoints": 3,
    "llm.load.llama.reasoningBudgetMessage": "Enough.",
    "llm.load.llama.speculativeDecoding.draftModel": "helper",
    "llm.load.llama.speculativeDecoding.draftMaxTokens": 5,
    "llm.load.llama.speculativeDecoding.draftMinTokens": 2,
    "llm.load.llama.speculativeDecoding.draftMinContinueProbability": 0.5,
    "llm.load.llama.ropeFrequencyBase": checked(1000.0),
    "llm.load.llama.ropeFrequencyScale": checked(0.5),
    "llm.load.llama.keepModelInMemory": True,
    "llm.load.llama.useFp16ForKVCache": False,
    "llm.load.llama.tryMmap": False,
    "llm.load.llama.tryDirectIO": True,
    "llm.load.llama.kCacheQuantizationType": checked("q8_0"),
    "llm.load.llama.vCacheQuantizationType": checked("q8_0"),
    "load.gpuSplitConfig": {"strategy": "tensor", "disabledGpus": [], "priority": [], "customRatio": []},
    "embedding.load.contextLength": 300,
    "embedding.load.seed": checked(3),
    "embedding.load.llama.acceleration.offloadRatio": 0.5,
    "embedding.load.llama.evalBatchSize": 1024,
    "embedding.load.llama.ropeFrequencyBase": checked(1000.0),
    "embedding.load.llama.ropeFrequencyScale": checked(0.5),
    "embedding.load.llama.keepModelInMemory": True,
    "embedding.load.llama.tryMmap": False,
}
REFUSED_LOAD: dict[str, Any] = {
    "llm.load.autoFitMinContextLength": 5,
    "llm.load.numExperts": 2,
    "llm.load.numCpuExpertLayersRatio": 0.5,
    "llm.load.llama.autoFit": True,
    "llm.load.llama.speculativeDecoding.draftMtp": True,
    "llm.load.llama.speculativeDecoding.draftDflashSidecar": True,
    "llm.load.llama.speculativeDecoding.draftDsparkSidecar": True,
    "llm.load.llama.speculativeDecoding.draftMtpSidecar": True,
    "llm.load.llama.argumentsOverride": {
        "enabled": True, "disabledParameters": [], "overrideParameters": [], "excludeAllConfig": False
    },
    "llm.load.mlx.diskCache": False,
    "llm.load.mlx.kvCacheQuantization": {"enabled": True, "bits": 8, "groupSize": 64, "quantizedStart": 0},
    "llm.load.vllm.gpuMemoryUtilization": 0.5,
    "llm.load.vllm.reasoningParser": "x",
    "llm.load.vllm.toolCallParser": "x",
    "load.gpuStrictVramCap": True,
    "envVars": {"HSA_OVERRIDE_GFX_VERSION": "10"},
}  # fmt: skip
#: Keys in none of the tables: draftSimple only switches the use of draftModel, and the server ignores autoFit of other
#: engines, which clients send beside that of the engine that they mean. `test_load_config` tests them.
IN_NO_TABLE = {
    "llm.load.llama.speculativeDecoding.draftSimple",
    "llm.load.mlx.autoFit",
    "llm.load.yuzu.autoFit",
}


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    models = ModelsFolder(tmp_path / "models")
    models.add_llm("acme/tiny-GGUF/tiny-Q8_0.gguf", blocks=4)
    models.add_llm("acme/helper-GGUF/helper-Q8_0.gguf")
    models.add_embedding("acme/embed-GGUF/embed-F32.gguf")
    return Catalog(models.folder)


@pytest.fixture
def tiny(catalog: Catalog) -> CatalogEntry:
    return catalog.resolve("tiny", "llm")[0]


def effects_of(catalog: Catalog, entry: CatalogEntry, values: Mapping[str, Any]) -> list[Any]:
    """Return everything that a prediction config determines."""
    given = {f"llm.prediction.{name}": value for name, value in values.items()}
    sampling = read_sampling(given, template=THINKING, loaded={})
    draft = None if sampling.draft_key is None else catalog.resolve(sampling.draft_key, "llm")[0]
    spec = with_draft(plan_load(entry, {}).spec, given, draft)
    return [attrs.evolve(sampling, values={}), spec]


def test_the_tables_have_every_key() -> None:
    predictions = {f"llm.prediction.{name}" for name in PREDICTION.keys() | REFUSED_PREDICTION.keys()}
    assert predictions == {key for key in KEYS if key.startswith("llm.prediction.")}
    loads = LOAD.keys() | REFUSED_LOAD.keys() | IN_NO_TABLE
    # The keys of retrieval are settings of neither a load nor a prediction.
    assert loads | predictions == {key for key in KEYS if not key.startswith("retrieval.")}


@pytest.mark.parametrize("name", PREDICTION)
def test_a_prediction_setting_makes_a_difference(catalog: Catalog, tiny: CatalogEntry, name: str) -> None:
    key, value = f"llm.prediction.{name}", PREDICTION[name]
    assert check(key, value) is None
    assert value != default(key)
    beside = {}
    if name.startswith("speculativeDecoding.") and name != "speculativeDecoding.draftModel":
        beside["speculativeDecoding.draftModel"] = "helper"
    usual = effects_of(catalog, tiny, beside)
    assert effects_of(catalog, tiny, {**beside, name: value}) != usual


@pytest.mark.parametrize("name", REFUSED_PREDICTION)
def test_a_prediction_setting_that_cannot_be_honoured_is_refused(
    catalog: Catalog, tiny: CatalogEntry, name: str
) -> None:
    key, value = f"llm.prediction.{name}", REFUSED_PREDICTION[name]
    assert check(key, value) is None
    with pytest.raises(LMStudioUnsupportedFeatureError) as refused:
        effects_of(catalog, tiny, {name: value})
    assert refused.value.display_data["feature"] == key
    effects_of(catalog, tiny, {name: default(key)})


@pytest.mark.parametrize("key", LOAD)
def test_a_load_setting_makes_a_difference(catalog: Catalog, key: str) -> None:
    embeds = key.startswith("embedding.")
    entry = catalog.resolve("embed" if embeds else "tiny", "embedding" if embeds else "llm")[0]
    assert check(key, LOAD[key]) is None
    beside, draft = {}, None
    if "speculativeDecoding" in key:
        beside, draft = (
            {"llm.load.llama.speculativeDecoding.draftModel": "helper"},
            catalog.resolve("helper", "llm")[0],
        )
    usual = plan_load(entry, {} if key in beside else beside, draft=None if key in beside else draft)
    assert plan_load(entry, {**beside, key: LOAD[key]}, draft=draft) != usual


@pytest.mark.parametrize("key", REFUSED_LOAD)
def test_a_load_setting_that_cannot_be_honoured_is_refused(tiny: CatalogEntry, key: str) -> None:
    assert check(key, REFUSED_LOAD[key]) is None
    with pytest.raises(LMStudioUnsupportedFeatureError) as refused:
        plan_load(tiny, {key: REFUSED_LOAD[key]})
    assert refused.value.display_data["feature"] == key


def test_a_switch_for_drafting_needs_a_draft_model(tiny: CatalogEntry) -> None:
    with pytest.raises(LMStudioServerError, match="draftModel"):
        plan_load(tiny, {"llm.load.llama.speculativeDecoding.draftSimple": True})


@pytest.mark.parametrize("key", ["retrieval.limit", "llm.prediction.newest", "llm.load.seed"])
def test_a_key_that_is_no_prediction_setting_is_refused_by_name(key: str) -> None:
    with pytest.raises(LMStudioUnsupportedFeatureError, match=key):
        read_sampling({key: 1}, template=THINKING, loaded={})
