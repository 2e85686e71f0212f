"""The config of a prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs

from lmstudio_async._config._dicts import (
    PromptTemplateDict,
    RawToolsDict,
    ReasoningParsingDict,
    StructuredDict,
    ToolChoiceDict,
)
from lmstudio_async._config._types import ContextOverflowPolicy, Off, Settings, ToolChoiceMode, ToolNaming

__all__ = ["LlmPredictionConfig"]


@attrs.frozen(kw_only=True, repr=False)
class LlmPredictionConfig(Settings):
    """Config of a prediction.

    Every setting is optional; ``None``, the default, leaves it to the server, which uses the user's setting for the
    model, the model's own preference, or the *server's default* given below. ``False`` switches a setting off, where
    that is possible. A plain dict with the same keys (or their camelCase spellings) is accepted wherever this class is.

    :param max_tokens: how many tokens to predict at most; ``False``: no limit.
        Server's default: ``False``.
    :param temperature: randomness of the choice of tokens, at least 0. 0 always chooses the likeliest token; higher
        values choose more freely.
        Server's default: 0.8.
    :param stop_strings: the answer ends before any of these. Server's default: none.
    :param context_overflow_policy: action when the context is full: ``"stopAtLimit"`` ends the answer,
        ``"truncateMiddle"`` keeps the system prompt and the first user message and drops the tokens after them,
        ``"rollingWindow"`` drops the oldest tokens. With the latter two, an answer continues beyond the end of the
        context. The embedded server ends it there all the same if the prediction uses structured output, tools, images,
        a reasoning budget or mirostat. Server's default: ``"truncateMiddle"``; the embedded server's: ``"stopAtLimit"``.
    :param structured: format of the answer: ``{"type": "json", "json_schema": {…}}`` or
        ``{"type": "gbnf", "gbnf_grammar": "…"}``. Not together with the parameter ``response_format``, which also
        takes classes.
    :param top_k_sampling: choose among this many tokens, a whole number from -1 to 500. Server's default: 40.
    :param top_p_sampling: choose among the likeliest tokens that together have this probability, from 0 to 1;
        ``False``: among all. Server's default: 0.95.
    :param min_p_sampling: choose among tokens of at least this probability, from 0 to 1; ``False``: among all.
        Server's default: 0.05.
    :param repeat_penalty: penalty for tokens that were used already; 1 or ``False``: no penalty.
        Server's default: 1.1.
    :param presence_penalty: penalty for tokens that occur in the answer; 0 or ``False``: no penalty.
        Server's default: ``False``.
    :param xtc_probability: how often, from 0 to 1, the likeliest tokens are left out of the choice; ``False``:
        never. Server's default: ``False``.
    :param xtc_threshold: how likely, from 0 to 1, a token must be to be left out by XTC. Server's default:
        ``False``.
    :param log_probs: for how many candidates the logarithm of the probability is reported, from 0 to 100;
        ``False``: none. Each token has an entry, except, on the embedded server, tokens that end within a character
        if the answer is structured or the model is of a family with channels. Server's default: ``False``.
    :param cpu_threads: how many threads to compute with, at least 1. Server's default: 4, or by the hardware.
    :param enable_thinking: whether a reasoning model reasons, if its chat template offers the choice.
        Server's default: ``True``.
    :param reasoning_budget: how many tokens of reasoning the model may generate; ``False``: no limit.
        Server's default: ``False``.
    :param reasoning_parsing: how reasoning is separated from the answer: a dict of ``start_string`` and
        ``end_string``; ``False``: not at all. Server's default: ``"<think>"`` and ``"</think>"``.
    :param raw_tools: the tools that are described to the model: ``{"type": "toolArray", "tools": […]}``. ``act``
        sets this itself.
    :param tool_choice: ``"auto"``: the model uses tools as it likes; ``"required"``: it must; ``"none"``: it must
        not. Server's default: ``"auto"``.
    :param tool_naming: how the server rewrites names of tools for the model: ``"passThrough"``,
        ``"removeSpecial"``, ``"snakeCase"`` or ``"camelCase"``. Server's default: ``"removeSpecial"``.
    :param tool_call_stop_strings: the answer ends before any of these, with the stop reason ``toolCalls``.
        Server's default: none.
    :param prompt_template: how the chat becomes a prompt, instead of the model's own way: a dict with ``type``
        ``"jinja"`` or ``"manual"``, ``stop_strings``, and ``jinja_prompt_template`` or ``manual_prompt_template``.
    :param draft_model: model key of a smaller model for speculative decoding; ``""``: none.
        Server's default: none.
    :param speculative_decoding_num_draft_tokens_exact: how many tokens are drafted, at least 1.
        Server's default: 2.
    :param speculative_decoding_min_draft_length_to_consider: minimum length of a draft; a shorter one is not verified.
        Server's default: 0.
    :param speculative_decoding_min_continue_drafting_probability: how probable, from 0 to 1, a drafted token must
        be for drafting to go on. Server's default: 0.75.
    :param user_max_image_dimension_pixels: larger images are made smaller, to this many pixels in their longer
        direction; ``False``: only if the model prefers it. Server's default: 1024.
    :param ignore_model_preferred_max_image_dimension: do not shrink images to the size that the model prefers.
        Server's default: ``False``.
    :param raw: settings that have no parameter here, as a KV config (``{"fields": [{"key": …, "value": …}]}``) or as
        a mapping by wire key. The parameters above take precedence.
    :param extra: settings that a server reported and this version has no parameter for, by wire key. They are sent back
        unchanged; all other settings take precedence.

    Example::

        config = LlmPredictionConfig(temperature=0.2, max_tokens=100, top_p_sampling=False)
        result = await llm.respond("Hello", config=config)
    """

    _title: ClassVar[str] = "prediction config"

    max_tokens: int | Off | None = None
    temperature: float | None = None
    stop_strings: Sequence[str] | None = None
    context_overflow_policy: ContextOverflowPolicy | None = None
    structured: StructuredDict | None = None
    top_k_sampling: float | None = None
    top_p_sampling: float | Off | None = None
    min_p_sampling: float | Off | None = None
    repeat_penalty: float | Off | None = None
    presence_penalty: float | Off | None = None
    xtc_probability: float | Off | None = None
    xtc_threshold: float | Off | None = None
    log_probs: int | Off | None = None
    cpu_threads: int | None = None
    enable_thinking: bool | None = None
    reasoning_budget: int | Off | None = None
    reasoning_parsing: ReasoningParsingDict | Off | None = None
    raw_tools: RawToolsDict | None = None
    tool_choice: ToolChoiceMode | ToolChoiceDict | None = None
    tool_naming: ToolNaming | None = None
    tool_call_stop_strings: Sequence[str] | None = None
    prompt_template: PromptTemplateDict | None = None
    draft_model: str | None = None
    speculative_decoding_num_draft_tokens_exact: int | None = None
    speculative_decoding_min_draft_length_to_consider: int | None = None
    speculative_decoding_min_continue_drafting_probability: float | None = None
    user_max_image_dimension_pixels: int | Off | None = None
    ignore_model_preferred_max_image_dimension: bool | None = None
    raw: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = attrs.field(factory=dict, hash=False)
