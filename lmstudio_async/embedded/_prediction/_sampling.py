"""Conversion of a prediction config of the wire to a request to the engine.

The server applies every key or rejects it with a reason. It accepts an unsupported key if the value requests no effect,
because clients send whole configs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from lmstudio_async._protocol._errors import server_error, unsupported_feature
from lmstudio_async._wire._kv import KEYS, check, checked, default
from lmstudio_async.embedded._instances._load_config import MOST_THREADS
from lmstudio_async.embedded._prediction._json_bounds import size_problem
from lmstudio_async.embedded._prediction._structured import structure
from lmstudio_async.embedded._templates._reasoning_tags import USUAL_TAGS, ThoughtForm, thought_tags
from lmstudio_async.embedded._templates._thinking_switch import ThinkingSwitch, thinking_switch
from lmstudio_async.embedded._versions import engine_version

__all__ = ["Sampling", "base_config", "check_tools_size", "read_sampling"]

_PREFIX = "llm.prediction."
_PARSING = _PREFIX + "reasoning.parsing"

#: The settings whose defaults are those of LM Studio. Two other defaults differ (see `base_config`): a chat that is too
#: long is an error unless the client sets another overflow policy, and the reasoning tags depend on the model.
_BASE = (
    "temperature",
    "maxPredictedTokens",
    "stopStrings",
    "structured",
    "seed",
    "topKSampling",
    "repeatPenalty",
    "minPSampling",
    "topPSampling",
    "logProbs",
)

_UNSUPPORTED = {
    "toolCallStopStrings": "the engine ends tool calls by the model's own format",
    "contextPrefill": "this server reads no files for its clients",
    "vision.userMaxImageDimensionPixels": "this server does not scale images",
    "vision.ignoreModelPreferredMaxImageDimension": "this server does not scale images",
    "llama.tailFreeSampling": "the engine has no tail-free sampling any more; use minPSampling",
    "speculativeDecoding.numReuseTokens": "the engine decides itself how much of a draft model's cache it uses again",
}

#: The engine counts with 32 bits, and uses the highest seed as "choose a random seed".
_MOST_TOKENS = 2**31 - 1
_SEEDS = 2**32 - 1
#: Stop strings are limited, because every fragment of an answer is compared with all of them.
_MOST_STOP_STRINGS = 1000
_LONGEST_STOP_STRINGS = 100_000


@attrs.frozen(kw_only=True)
class Sampling:
    """The settings for the answer to one request.

    :ivar values: the config in effect, by wire key.
    :ivar body: the parameters for the engine.
    :ivar stop_strings: texts that end the answer. They are not in the body, because the engine would search the
        reasoning for them too.
    :ivar chat_template: the Jinja template that makes the prompt.
    :ivar manual_template: the texts around the messages of each role, used instead of the Jinja template.
    :ivar thinking: whether the model shall reason; None if the request has no such setting.
    :ivar draft_key: the key of the draft model; None if the request has none.
    :ivar threads: the threads of the engine; None if the request has no such setting.
    :ivar reasoning: the tags around reasoning; None if reasoning is not separated from the answer.
    :ivar thought_form: the form in which the chat template marks reasoning; None until it is known, or if the client
        has chosen other tags.
    :ivar schema_grammar: the grammar that replaces the JSON schema in the body if the request is a prompt; None if the
        engine makes the grammar of the schema itself.
    """

    values: dict[str, Any]
    body: dict[str, Any]
    stop_strings: list[str]
    candidates: int | None
    reasoning: tuple[str, str] | None
    budget: int | None
    budget_message: str
    tools: list[dict[str, Any]]
    tool_choice: str
    tool_naming: str
    chat_template: str
    manual_template: Mapping[str, str] | None
    thinking: bool | None
    template_variables: dict[str, Any]
    system_prompt: str
    overflow: str
    draft_key: str | None
    threads: int | None
    thought_form: ThoughtForm | None = None
    schema_grammar: str | None = None

    @property
    def limit(self) -> int | None:
        """Maximum number of tokens of the answer."""
        return self.body.get("n_predict")

    @property
    def own_thought(self) -> tuple[str, str] | None:
        """The tags of reasoning at the beginning of an answer; None if the model does not reason by itself."""
        if self.reasoning is None or self.thinking is False:
            return None
        return self.reasoning if all(tag and tag in self.chat_template for tag in self.reasoning) else None

    @property
    def has_usual_tags(self) -> bool:
        """Whether the reasoning tags are the default ones, and not chosen by the client."""
        return self.reasoning in (USUAL_TAGS, thought_tags(self.chat_template))

    def with_thought_form(self, form: ThoughtForm) -> Sampling:
        """Return the settings with the reasoning tags of the chat template."""
        if form.tags is None:
            return attrs.evolve(self, thought_form=form)
        values = {**self.values, _PARSING: _parsing(form.tags)}
        return attrs.evolve(self, thought_form=form, reasoning=form.tags, values=values)

    def refuse_chat_settings(self) -> None:
        """Reject settings that would change a prompt, because the client has made the prompt itself.

        :raises LMStudioServerError: there is such a setting.
        """
        for name, is_set in (
            ("tools", self.tools),
            ("systemPrompt", self.system_prompt),
            ("reasoning.budgetTokens", self.budget is not None),
            ("reasoning.enableThinking", self.thinking is False),
        ):
            if is_set:
                raise server_error(
                    f"{_PREFIX}{name} cannot be used for the completion of a text: use a chat."
                )


def base_config(template: str) -> dict[str, Any]:
    """Return the config in effect for a request without settings, by wire key.

    :param template: the chat template that makes the prompt.
    """
    base = {_PREFIX + name: default(_PREFIX + name) for name in _BASE}
    return base | {
        _PREFIX + "contextOverflowPolicy": "stopAtLimit",
        _PARSING: _parsing(thought_tags(template)),
    }


def _parsing(tags: tuple[str, str]) -> dict[str, Any]:
    start, end = tags
    return {"enabled": True, "startString": start, "endString": end}


def read_sampling(given: Mapping[str, Any], *, template: str, loaded: Mapping[str, Any]) -> Sampling:
    """Read a prediction config.

    :param given: the prediction config by wire key, its layers collapsed.
    :param template: the chat template that the model was loaded with.
    :param loaded: the load config in effect, by wire key.
    :raises LMStudioServerError: a key has an invalid value.
    :raises LMStudioUnsupportedFeatureError: a key is unknown, or requests a feature that this server does not have.
    """
    for key, value in given.items():
        if key not in KEYS or not key.startswith(_PREFIX):
            raise _unsupported(key, "this server knows no such prediction setting")
        if reason := check(key, value):
            raise server_error(reason)
        name = key.removeprefix(_PREFIX)
        if name in _UNSUPPORTED and value != default(key) and not _is_off(value):
            raise _unsupported(key, _UNSUPPORTED[name])
    own = given.get(_PREFIX + "promptTemplate")
    jinja, manual = _templates(own, template)
    values = base_config(jinja) | dict(given)

    def get(name: str) -> Any:
        key = _PREFIX + name
        return values[key] if key in values else default(key)

    candidates = checked(get("logProbs"))
    parsing = get("reasoning.parsing")
    tools = get("tools")
    thinking = given.get(_PREFIX + "reasoning.enableThinking")
    body = _sampler(get)
    if candidates is not None:
        body["n_probs"] = max(candidates, 1)
    if _is_reproducible(checked(get("seed")), loaded):
        body["cache_prompt"] = False
    body |= structure(get("structured"))
    budget = checked(get("reasoning.budgetTokens"))
    if budget is not None and (not parsing["startString"] or parsing["startString"] not in jinja):
        raise _unsupported(
            _PREFIX + "reasoning.budgetTokens",
            f"the chat template of this model has no {parsing['startString']!r}",
        )
    switch = None if thinking is None else thinking_switch(jinja)
    if thinking is False and switch is None:
        raise _unsupported(
            _PREFIX + "reasoning.enableThinking", "the chat template of this model has no switch for thinking"
        )
    definitions = list(tools.get("tools") or []) if tools["type"] == "toolArray" else []
    check_tools_size(definitions)
    if definitions and get("structured")["type"] != "none":
        raise server_error("Structured output and tools cannot be combined: leave one of them out.")
    if definitions and candidates is not None:
        raise _unsupported(
            _PREFIX + "logProbs", "the engine has no log probabilities for answers that may call tools"
        )
    return Sampling(
        values=values,
        body=body,
        stop_strings=_stop_strings([*get("stopStrings"), *(own or {}).get("stopStrings", [])]),
        candidates=candidates,
        reasoning=(parsing["startString"], parsing["endString"]) if parsing["enabled"] else None,
        budget=budget,
        budget_message=loaded.get("llm.load.llama.reasoningBudgetMessage", ""),
        tools=definitions,
        tool_choice=get("toolChoice")["mode"],
        tool_naming=get("toolNaming"),
        chat_template=jinja,
        manual_template=manual,
        thinking=thinking,
        template_variables=_thinking_variables(switch, thinking=thinking),
        system_prompt=get("systemPrompt"),
        overflow=get("contextOverflowPolicy"),
        draft_key=given.get(_PREFIX + "speculativeDecoding.draftModel") or None,
        threads=_threads(given),
    )


def check_tools_size(definitions: list[dict[str, Any]]) -> None:
    """Check that the definitions of tools are small enough to be walked.

    :raises LMStudioServerError: they are too large.
    """
    if problem := size_problem(definitions):
        raise server_error(f"The definitions of the tools cannot be used: {problem}.")


def _stop_strings(texts: list[str]) -> list[str]:
    if len(texts) > _MOST_STOP_STRINGS or sum(map(len, texts)) > _LONGEST_STOP_STRINGS:
        raise server_error(
            f"There are {len(texts)} stop strings of {sum(map(len, texts))} characters all together; the most are "
            f"{_MOST_STOP_STRINGS} and {_LONGEST_STOP_STRINGS}."
        )
    return [text for text in texts if text]


def _sampler(get: Callable[[str], Any]) -> dict[str, Any]:
    mirostat = get("llama.mirostatSampling")
    seed = checked(get("seed"))
    penalty = _or(checked(get("repeatPenalty")), 1.0)
    if penalty <= 0:
        raise server_error(f"{_PREFIX}repeatPenalty must be above 0, not {penalty}. No penalty is 1.")
    if seed is not None and seed >= _SEEDS:
        raise server_error(f"{_PREFIX}seed must be below {_SEEDS}, not {seed}.")
    body = {
        "temperature": get("temperature"),
        "top_k": get("topKSampling"),
        "repeat_penalty": penalty,
        "min_p": _or(checked(get("minPSampling")), 0.0),
        "top_p": _or(checked(get("topPSampling")), 1.0),
        "typical_p": _or(checked(get("llama.locallyTypicalSampling")), 1.0),
        "xtc_probability": _or(checked(get("llama.xtcProbability")), 0.0),
        "xtc_threshold": _or(checked(get("llama.xtcThreshold")), 0.1),
        "presence_penalty": _or(checked(get("llama.presencePenalty")), 0.0),
        "frequency_penalty": _or(checked(get("llama.frequencyPenalty")), 0.0),
        "mirostat": mirostat["version"],
        "mirostat_eta": mirostat["learningRate"],
        "mirostat_tau": mirostat["targetEntropy"],
        # The engine uses false for a token that must never be chosen.
        "logit_bias": [[token, False if bias == "-inf" else bias] for token, bias in get("llama.logitBias")],
    }
    limit = checked(get("maxPredictedTokens"))
    if limit is not None:
        body["n_predict"] = min(limit, _MOST_TOKENS)
    # Without a seed the engine uses the seed of the load config, or a new one for each request.
    if seed is not None:
        body["seed"] = seed
    return body


def _templates(own: Mapping[str, Any] | None, loaded: str) -> tuple[str, Mapping[str, str] | None]:
    """Return the Jinja template in effect, and the manual one that replaces it, if the request has one."""
    if own is None:
        return loaded, None
    key = _PREFIX + "promptTemplate"
    if own["type"] == "manual":
        manual: Mapping[str, str] | None = own.get("manualPromptTemplate")
        if manual is None:
            raise server_error(f"{key} of type manual must have a manualPromptTemplate.")
        return loaded, manual
    template = (own.get("jinjaPromptTemplate") or {}).get("template")
    if not template:
        raise server_error(f"{key} of type jinja must have a jinjaPromptTemplate with a template.")
    return template, None


def _is_reproducible(seed: int | None, loaded: Mapping[str, Any]) -> bool:
    """Whether equal requests must have equal answers: a seed is set, and requests are computed one at a time.

    The cache of the prompt must then be off: the engine's rounding differs if a part of a prompt comes from the cache,
    and if several requests are computed together.
    """
    if seed is None:
        seed = checked(loaded.get("llm.load.seed"))
    # A seed of -1 means a new one for each request.
    return loaded.get("llm.load.numParallelSessions") == 1 and seed not in (None, -1)


def _thinking_variables(switch: ThinkingSwitch | None, *, thinking: bool | None) -> dict[str, Any]:
    if thinking is None:
        return {}
    # Always set this variable: the engine reads it too, to know how the answer begins.
    variables: dict[str, Any] = {"enable_thinking": thinking}
    if switch is not None:
        variables[switch.name] = switch.on if thinking else switch.off
    return variables


def _threads(given: Mapping[str, Any]) -> int | None:
    key = _PREFIX + "llama.cpuThreads"
    threads: int | None = given.get(key)
    if threads is not None and threads > MOST_THREADS:
        raise server_error(f"{key} must be at most {MOST_THREADS}, not {threads}.")
    return threads


def _is_off(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("checked") is False


def _or(value: Any, otherwise: float) -> Any:
    return otherwise if value is None else value


def _unsupported(key: str, reason: str) -> Exception:
    return unsupported_feature(key, engine_version(), reason)
