"""The notation of a model for reasoning and tool calls, as the engine renders it with the chat template."""

from __future__ import annotations

from lmstudio_async.embedded._engine._engine import Engine, EngineRequestError
from lmstudio_async.embedded._prediction._sampling import Sampling
from lmstudio_async.embedded._templates._call_form import PROBES, CallForm, read_call_form
from lmstudio_async.embedded._templates._reasoning_tags import SAMPLE, ThoughtForm, read_thought_form

__all__ = ["call_form", "with_thought_form"]


async def with_thought_form(engine: Engine, sampling: Sampling) -> Sampling:
    """Return the settings with the reasoning tags of the chat template, unless the client has chosen other tags."""
    if not sampling.has_usual_tags:
        return sampling
    if engine.thought_form is None:
        engine.thought_form = await _read_thought_form(engine)
    return sampling.with_thought_form(engine.thought_form)


async def _read_thought_form(engine: Engine) -> ThoughtForm:
    question, answer = SAMPLE
    try:
        prompt = await engine.apply_template([question])
        return read_thought_form(prompt, await engine.apply_template([question, answer]))
    except EngineRequestError:
        # The template rejects the sample: it may require tools or a system message.
        return ThoughtForm()


async def call_form(engine: Engine) -> CallForm:
    """Return the form in which the chat template writes the tool calls of earlier turns."""
    if engine.call_form is None:
        engine.call_form = await _read_call_form(engine)
    return engine.call_form


async def _read_call_form(engine: Engine) -> CallForm:
    try:
        before, with_call = [await engine.apply_template(chat) for chat in PROBES]
    except EngineRequestError:
        # The template rejects the short sample chat with a call.
        return "marked"
    return read_call_form(before, with_call)
