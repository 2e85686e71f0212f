"""Settings of a prediction: the effect of each, or the reason why it is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lmstudio_async.testing import HERMES, ModelsFolder, tool_call
from tests.embedded.conftest import new_server
from tests.embedded.raw_client import Json, RawClient, Refused, query, text_of
from tests.embedded.raw_predictions import PREFIX, TOOLS, ask, checked, need


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("acme/tiny-GGUF/tiny-Q8_0.gguf", script="Hello there my friend")
    folder.add_llm("acme/dice-GGUF/dice-Q8_0.gguf", script=None, endless=True)
    folder.add_llm(
        "acme/tools-GGUF/tools-Q8_0.gguf",
        script=["Let me ", *tool_call("add", a=1, b=2)],
        then=["The sum is 3."],
        chat_template=HERMES,
    )
    return folder.folder


server = pytest.fixture(new_server, scope="module")


# -- settings


async def test_a_seed_makes_sampling_repeatable(client: RawClient) -> None:
    config = {"maxPredictedTokens": checked(12), "temperature": 1.5}
    answers = [text_of(await ask(client, "dice", {**config, "seed": checked(seed)})) for seed in (1, 1, 2)]
    assert answers[0] == answers[1] != answers[2]


async def test_temperature_zero_needs_no_seed(client: RawClient) -> None:
    config = {"maxPredictedTokens": checked(12), "temperature": 0}
    assert text_of(await ask(client, "dice", config)) == text_of(await ask(client, "dice", config))


@pytest.mark.parametrize(
    "config",
    [
        {"topKSampling": 1},
        {"topPSampling": checked(0.0)},
        {"minPSampling": checked(1.0)},
    ],
)
async def test_samplers_that_leave_one_token_make_the_answer_repeatable(
    client: RawClient, config: Json
) -> None:
    config = {
        "temperature": 1.0,
        "maxPredictedTokens": checked(8),
        "repeatPenalty": {"checked": False, "value": 1},
        **config,
    }
    assert text_of(await ask(client, "dice", config)) == text_of(await ask(client, "dice", config))


@pytest.mark.parametrize(
    "config",
    [
        {"repeatPenalty": checked(1.5)},
        {"llama.presencePenalty": checked(1.5)},
        {"llama.frequencyPenalty": checked(1.5)},
        {"llama.logitBias": [[260, 90.0]]},
        {"llama.mirostatSampling": {"version": 2, "learningRate": 0.9, "targetEntropy": 1.0}},
        {"llama.xtcProbability": checked(1.0), "llama.xtcThreshold": checked(0.0)},
        {"llama.locallyTypicalSampling": checked(0.1)},
        {"topKSampling": 2},
        {"topPSampling": checked(0.2)},
        {"minPSampling": checked(0.9)},
        {"temperature": 0.3},
    ],
)
async def test_every_sampler_changes_the_answer(client: RawClient, config: Json) -> None:
    base = {
        "temperature": 1.5, "seed": checked(7), "maxPredictedTokens": checked(40), "topKSampling": 0,
        "repeatPenalty": {"checked": False, "value": 1}, "minPSampling": {"checked": False, "value": 0},
        "topPSampling": {"checked": False, "value": 1},
    }  # fmt: skip
    assert text_of(await ask(client, "dice", base)) != text_of(await ask(client, "dice", {**base, **config}))


async def test_a_checked_false_from_the_official_package_turns_a_setting_off(client: RawClient) -> None:
    settings = ("maxPredictedTokens", "repeatPenalty", "minPSampling", "topPSampling")
    packets = await ask(client, "tiny", {name: checked(False) for name in settings})
    applied = {field["key"]: field["value"] for field in packets[-1]["predictionConfig"]["fields"]}
    assert [applied[PREFIX + name]["checked"] for name in settings] == [False] * 4


async def test_a_token_can_be_forbidden(client: RawClient) -> None:
    tokens = (await client_tokens(client, "tiny", " there"))[:1]
    packets = await ask(
        client, "tiny", {"llama.logitBias": [[tokens[0], "-inf"]], "maxPredictedTokens": checked(3)}
    )
    assert " there" not in text_of(packets)


async def client_tokens(client: RawClient, key: str, text: str) -> list[int]:
    """Return the token ids of a scripted piece, from an answer with probabilities."""
    packets = await ask(client, key, {"logProbs": checked(0)})
    infos = [
        info for packet in packets if packet["type"] == "fragment" for info in packet["fragment"]["tokens"]
    ]
    return [info["id"] for info in infos if info["text"] == text]


async def test_probabilities_come_with_the_tokens_if_requested(client: RawClient) -> None:
    for count in (0, 3):
        fragments = [
            packet["fragment"]
            for packet in await ask(client, "tiny", {"logProbs": checked(count)})
            if packet["type"] == "fragment"
        ]
        (info,) = fragments[0]["tokens"]
        assert (info["text"], info["logProb"]) == ("Hello", pytest.approx(0, abs=1e-6))
        assert len(info.get("candidates", [])) == count


async def test_tokens_that_only_begin_a_stop_string_have_probabilities(client: RawClient) -> None:
    packets = await ask(
        client, "tiny", {"logProbs": checked(0), "stopStrings": [" there is", "lo there, you"]}
    )
    infos = [
        info for packet in packets if packet["type"] == "fragment" for info in packet["fragment"]["tokens"]
    ]
    assert [info["text"] for info in infos] == ["Hello", " there", " my", " friend"]
    assert text_of(packets) == "Hello there my friend"


async def test_an_answer_follows_a_json_schema(client: RawClient) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"enum": ["x", "y"]}},
        "required": ["a"],
        "additionalProperties": False,
    }
    packets = await ask(
        client,
        "dice",
        {"structured": {"type": "json", "jsonSchema": schema}, "maxPredictedTokens": checked(200)},
    )
    assert packets[-1]["stats"]["stopReason"] == "eosFound"
    assert json.loads(text_of(packets))["a"] in ("x", "y")


async def test_an_answer_follows_a_grammar(client: RawClient) -> None:
    grammar = 'root ::= "yes" | "no"'
    packets = await ask(client, "tiny", {"structured": {"type": "gbnf", "gbnfGrammar": grammar}})
    assert text_of(packets) in ("yes", "no")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"structured": {"type": "gbnf", "gbnfGrammar": "root ::= ("}}, "not valid GBNF"),
        ({"structured": {"type": "gbnf", "gbnfGrammar": "%llguidance {}\nstart: nothing"}}, "not in GBNF"),
        ({"structured": {"type": "json", "jsonSchema": {"type": "nope"}}}, "nope"),
        ({"structured": {"type": "json", "jsonSchema": {"items": {"$ref": "http://x/y"}}}}, "http://x/y"),
        ({"structured": {"type": "json", "jsonSchema": {"type": "object"}}, **TOOLS}, "tools"),
        ({"nonsense": 1}, r"llm\.prediction\.nonsense"),
        ({"temperature": -1}, r"llm\.prediction\.temperature"),
        ({"topKSampling": {"checked": True, "value": 4}}, r"llm\.prediction\.topKSampling"),
        ({"llama.tailFreeSampling": checked(0.5)}, "tailFreeSampling"),
        ({"toolCallStopStrings": ["x"]}, "toolCallStopStrings"),
        ({"reasoning.enableThinking": False}, "enableThinking"),
        ({"reasoning.budgetTokens": checked(5)}, "budgetTokens"),
        ({"llama.cpuThreads": 1000}, "cpuThreads"),
        ({"reasoning.budgetTokens": checked(5), "reasoning.parsing": {"enabled": True, "startString": "", "endString": ""}}, "budgetTokens"),
        ({"repeatPenalty": checked(0)}, "repeatPenalty must be above 0"),
        # The engine would use only the lower 32 bits of these seeds, or a random seed.
        ({"seed": checked(2**32 - 1)}, r"llm\.prediction\.seed must be below 4294967295"),
        ({"seed": checked(2**40)}, r"llm\.prediction\.seed must be below 4294967295"),
        ({"contextPrefill": [{"type": "jsonFile", "absPath": "/etc/passwd"}]}, "contextPrefill"),
        ({"promptTemplate": {"type": "jinja", "stopStrings": []}}, "promptTemplate"),
        ({"promptTemplate": {"type": "manual", "stopStrings": []}}, "promptTemplate"),
        ({"speculativeDecoding.numReuseTokens": 7}, "numReuseTokens"),
        ({"vision.userMaxImageDimensionPixels": checked(100)}, "userMaxImageDimensionPixels"),
    ],
)  # fmt: skip
async def test_an_invalid_or_unsupported_setting_is_refused_by_name(
    client: RawClient, config: Json, words: str
) -> None:
    with pytest.raises(Refused, match=words):
        await ask(client, "tiny", config)
    assert text_of(await ask(client, "tiny")) == "Hello there my friend"


async def test_half_a_surrogate_pair_is_refused_with_the_reason(client: RawClient) -> None:
    with pytest.raises(Refused, match="half a character"):
        await ask(client, "tiny", {"stopStrings": ["\ud83d"]})


@pytest.mark.parametrize("limit", [2**31, 2**32, 2**63])
async def test_max_tokens_above_the_range_of_the_engine_is_no_limit(client: RawClient, limit: int) -> None:
    packets = await ask(client, "tiny", {"maxPredictedTokens": checked(limit)})
    assert text_of(packets) == "Hello there my friend"
    applied = {field["key"]: field["value"] for field in packets[-1]["predictionConfig"]["fields"]}
    assert applied[PREFIX + "maxPredictedTokens"] == checked(limit)


async def test_settings_without_an_effect_are_accepted(client: RawClient) -> None:
    harmless = {
        "llama.tailFreeSampling": {"checked": False, "value": 0.5},
        "speculativeDecoding.draftModel": "",
        "speculativeDecoding.numDraftTokensExact": 2,
        "toolCallStopStrings": [],
        "tools": {"type": "none"},
        "structured": {"type": "none"},
        "reasoning.enableThinking": True,
        "vision.userMaxImageDimensionPixels": checked(1024),
    }
    assert text_of(await ask(client, "tiny", harmless)) == "Hello there my friend"


async def test_a_preset_is_refused_as_not_found(client: RawClient) -> None:
    with pytest.raises(Refused, match="mine") as refused:
        await ask(client, "tiny", fuzzyPresetIdentifier="mine")
    assert refused.value.code == "generic.presetNotFound"


async def test_the_base_config_contains_the_defaults(client: RawClient) -> None:
    await need(client, "tiny")
    config = await client.call("getBasePredictionConfig", {"specifier": query("tiny")})
    assert {"key": "llm.prediction.contextOverflowPolicy", "value": "stopAtLimit"} in config["fields"]
