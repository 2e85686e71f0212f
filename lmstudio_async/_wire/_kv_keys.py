"""The keys of the KV config: the values that each of them accepts, and its default.

A *kind* is a plain tuple, and its first item is the kind's name. It has no class of its own, because the table is
built at import, and making several dozen objects would cost more than all later uses of them.
"""

from __future__ import annotations

from typing import Any, TypeAlias

__all__ = ["KEYS", "Kind"]

Kind: TypeAlias = tuple[Any, ...]

_BOOL: Kind = ("bool",)
_STR: Kind = ("str",)
_JSON: Kind = ("json",)


def _int(low: int | None = None, high: int | None = None) -> Kind:
    return ("int", low, high)


def _num(low: float | None = None, high: float | None = None) -> Kind:
    return ("num", low, high)


def _one_of(*values: str | int) -> Kind:
    return ("enum", values)


def _list(item: Kind) -> Kind:
    return ("list", item)


def _checkbox(value: Kind) -> Kind:
    return ("checkbox", value)


def _object(optional: dict[str, Kind] | None = None, /, **required: Kind) -> Kind:
    """Make the kind of an object. Further members are accepted, because a newer reader may know them."""
    return ("object", {**required, **(optional or {})}, frozenset(required))


_RATIO: Kind = ("either", _num(0, 1), _one_of("max", "off"))
_CACHE_TYPE = _checkbox(_one_of("f32", "f16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"))
_JINJA = _object(template=_STR)
_TOOL = _object(
    type=_one_of("function"),
    function=_object({"description": _STR, "parameters": _JSON}, name=_STR),
)
_PROMPT_TEMPLATE = _object(
    {
        "manualPromptTemplate": _object(
            beforeSystem=_STR,
            afterSystem=_STR,
            beforeUser=_STR,
            afterUser=_STR,
            beforeAssistant=_STR,
            afterAssistant=_STR,
        ),
        "jinjaPromptTemplate": _JINJA,
    },
    type=_one_of("manual", "jinja"),
    stopStrings=_list(_STR),
)


def _off(value: Any) -> dict[str, Any]:
    return {"checked": False, "value": value}


def _on(value: Any) -> dict[str, Any]:
    return {"checked": True, "value": value}


_LLM_LOAD: dict[str, tuple[Kind, Any]] = {
    "contextLength": (_int(1), 2048),
    "autoFitMinContextLength": (_int(0), 0),
    "numExperts": (_int(0), 0),
    "seed": (_checkbox(_int(-1)), _off(-1)),
    "promptTemplate": (
        _object(type=_one_of("jinja"), jinjaPromptTemplate=_JINJA),
        {
            "type": "jinja",
            "jinjaPromptTemplate": {
                "template": (
                    "{% for message in messages %}"
                    "{{ {'system': 'Instruct: ', 'user': 'Human: ', 'assistant': 'AI: '}[message['role']]"
                    " + message['content'] + '\\n' }}"
                    "{% endfor %}{% if add_generation_prompt %}{{ 'AI: ' }}{% endif %}"
                )
            },
        },
    ),
    "offloadKVCacheToGpu": (_BOOL, True),
    "numCpuExpertLayersRatio": (_RATIO, "off"),
    "numParallelSessions": (_int(1, 1023), 4),
    "useUnifiedKvCache": (_BOOL, True),
    "llama.autoFit": (_BOOL, True),
    "llama.acceleration.offloadRatio": (_RATIO, "max"),
    "llama.cpuThreadPoolSize": (_num(1), 4),
    "llama.evalBatchSize": (_int(1), 2048),
    "llama.physicalBatchSize": (_int(1), 512),
    "llama.flashAttention": (_BOOL, False),
    "llama.contextCheckpoints": (_int(0), 32),
    "llama.reasoningBudgetMessage": (_STR, ""),
    "llama.speculativeDecoding.draftMtp": (_BOOL, False),
    "llama.speculativeDecoding.draftSimple": (_BOOL, False),
    "llama.speculativeDecoding.draftDflashSidecar": (_BOOL, False),
    "llama.speculativeDecoding.draftDsparkSidecar": (_BOOL, False),
    "llama.speculativeDecoding.draftMtpSidecar": (_BOOL, False),
    "llama.speculativeDecoding.draftModel": (_STR, ""),
    "llama.speculativeDecoding.draftMaxTokens": (_int(0), 3),
    "llama.speculativeDecoding.draftMinTokens": (_int(0), 0),
    "llama.speculativeDecoding.draftMinContinueProbability": (_num(0, 1), 0),
    "llama.ropeFrequencyBase": (_checkbox(_num(0)), _off(0)),
    "llama.ropeFrequencyScale": (_checkbox(_num(0)), _off(0)),
    "llama.keepModelInMemory": (_BOOL, True),
    "llama.useFp16ForKVCache": (_BOOL, True),
    "llama.tryMmap": (_BOOL, True),
    "llama.tryDirectIO": (_BOOL, False),
    "llama.kCacheQuantizationType": (_CACHE_TYPE, _off("f16")),
    "llama.vCacheQuantizationType": (_CACHE_TYPE, _off("f16")),
    "llama.argumentsOverride": (
        _object(
            enabled=_BOOL,
            disabledParameters=_list(_STR),
            overrideParameters=_list(_object(key=_STR, value=_STR)),
            excludeAllConfig=_BOOL,
        ),
        {"enabled": False, "disabledParameters": [], "overrideParameters": [], "excludeAllConfig": False},
    ),
    "mlx.autoFit": (_BOOL, True),
    "mlx.diskCache": (_BOOL, True),
    "mlx.kvCacheQuantization": (
        _object(
            enabled=_BOOL,
            bits=_one_of(8, 6, 4, 3, 2),
            groupSize=_one_of(32, 64, 128),
            quantizedStart=_int(0),
        ),
        {"enabled": False, "bits": 8, "groupSize": 64, "quantizedStart": 5000},
    ),
    "yuzu.autoFit": (_BOOL, True),
    "vllm.gpuMemoryUtilization": (_num(0, 1), 0.92),
    "vllm.reasoningParser": (_STR, ""),
    "vllm.toolCallParser": (_STR, ""),
}

_SHARED_LOAD: dict[str, tuple[Kind, Any]] = {
    "load.gpuSplitConfig": (
        _object(
            strategy=_one_of("evenly", "priorityOrder", "tensor", "custom"),
            disabledGpus=_list(_int(0)),
            priority=_list(_int(0)),
            customRatio=_list(_num(0)),
        ),
        {"strategy": "evenly", "disabledGpus": [], "priority": [], "customRatio": []},
    ),
    "load.gpuStrictVramCap": (_BOOL, False),
    "envVars": (_object({"HSA_OVERRIDE_GFX_VERSION": _STR}), {}),
}

_EMBEDDING_LOAD: dict[str, tuple[Kind, Any]] = {
    name: _LLM_LOAD[name]
    for name in (
        "contextLength",
        "seed",
        "llama.acceleration.offloadRatio",
        "llama.evalBatchSize",
        "llama.ropeFrequencyBase",
        "llama.ropeFrequencyScale",
        "llama.keepModelInMemory",
        "llama.tryMmap",
    )
}

_PREDICTION: dict[str, tuple[Kind, Any]] = {
    "temperature": (_num(0), 0.8),
    "contextOverflowPolicy": (_one_of("stopAtLimit", "truncateMiddle", "rollingWindow"), "truncateMiddle"),
    "maxPredictedTokens": (_checkbox(_int(1)), _off(1000)),
    "stopStrings": (_list(_STR), []),
    "toolCallStopStrings": (_list(_STR), []),
    "structured": (
        _object({"jsonSchema": _JSON, "gbnfGrammar": _STR}, type=_one_of("none", "json", "gbnf")),
        {"type": "none"},
    ),
    "speculativeDecoding.draftModel": (_STR, ""),
    "speculativeDecoding.minDraftLengthToConsider": (_int(0), 0),
    "speculativeDecoding.numReuseTokens": (_int(1), 256),
    "speculativeDecoding.minContinueDraftingProbability": (_num(0, 1), 0.75),
    "speculativeDecoding.maxTokensToDraft": (_int(1), 16),
    "speculativeDecoding.numDraftTokensExact": (_int(1), 2),
    "tools": (
        _object({"tools": _list(_TOOL), "force": _BOOL}, type=_one_of("none", "toolArray")),
        {"type": "none"},
    ),
    "toolChoice": (
        _object(type=_one_of("generic"), mode=_one_of("none", "auto", "required")),
        {"type": "generic", "mode": "auto"},
    ),
    "toolNaming": (_one_of("passThrough", "removeSpecial", "snakeCase", "camelCase"), "removeSpecial"),
    "promptTemplate": (
        _PROMPT_TEMPLATE,
        {
            "type": "manual",
            "manualPromptTemplate": {
                "beforeSystem": "Instruct: ",
                "afterSystem": "\n",
                "beforeUser": "Human: ",
                "afterUser": "\n",
                "beforeAssistant": "AI: ",
                "afterAssistant": "\n",
            },
            "stopStrings": [],
        },
    ),
    "systemPrompt": (_STR, ""),
    "seed": (_checkbox(_int(-1)), _off(-1)),
    "contextPrefill": (_list(_object(type=_one_of("jsonFile", "yamlFile"), absPath=_STR)), []),
    "topKSampling": (_int(-1, 500), 40),
    "repeatPenalty": (_checkbox(_num(-1)), _on(1.1)),
    "minPSampling": (_checkbox(_num(0, 1)), _on(0.05)),
    "topPSampling": (_checkbox(_num(0, 1)), _on(0.95)),
    "logProbs": (_checkbox(_int(0, 100)), _off(0)),
    "reasoning.enableThinking": (_BOOL, True),
    "reasoning.budgetTokens": (_checkbox(_int(0)), _off(1024)),
    "reasoning.parsing": (
        _object(enabled=_BOOL, startString=_STR, endString=_STR),
        {"enabled": True, "startString": "<think>", "endString": "</think>"},
    ),
    "vision.userMaxImageDimensionPixels": (_checkbox(_int(1)), _on(1024)),
    "vision.ignoreModelPreferredMaxImageDimension": (_BOOL, False),
    "llama.cpuThreads": (_int(1), 4),
    "llama.frequencyPenalty": (_checkbox(_num()), _off(0)),
    "llama.xtcProbability": (_checkbox(_num(0, 1)), _off(0.5)),
    "llama.xtcThreshold": (_checkbox(_num(0, 1)), _off(0.1)),
    "llama.presencePenalty": (_checkbox(_num()), _off(0)),
    "llama.mirostatSampling": (
        _object(version=_one_of(0, 1, 2), learningRate=_num(), targetEntropy=_num()),
        {"version": 0, "learningRate": 0.1, "targetEntropy": 5},
    ),
    "llama.tailFreeSampling": (_checkbox(_num(0, 1)), _off(0.95)),
    "llama.locallyTypicalSampling": (_checkbox(_num(0, 1)), _off(0.9)),
    "llama.logitBias": (_list(("pair", _int(), ("either", _num(), _one_of("-inf")))), []),
}

_RETRIEVAL: dict[str, tuple[Kind, Any]] = {
    "databaseFile": (_STR, ""),
    "chunkingMethod": (
        _object(type=_one_of("recursive-v1"), chunkSize=_int(), chunkOverlap=_int()),
        {"type": "recursive-v1", "chunkSize": 512, "chunkOverlap": 100},
    ),
    "limit": (_int(1), 5),
    "embeddingModel": (_STR, ""),
}

KEYS: dict[str, tuple[Kind, Any]] = {
    prefix + name: entry
    for prefix, table in (
        ("llm.load.", _LLM_LOAD),
        ("", _SHARED_LOAD),
        ("embedding.load.", _EMBEDDING_LOAD),
        ("llm.prediction.", _PREDICTION),
        ("retrieval.", _RETRIEVAL),
    )
    for name, entry in table.items()
}
"""Wire key -> (kind, default)."""
