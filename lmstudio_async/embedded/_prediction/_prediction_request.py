"""Conversion of a chat or a prompt to a request to the engine, and the parser of its response."""

from __future__ import annotations

import re
from typing import Any, Final

import attrs

from lmstudio_async._protocol._errors import server_error
from lmstudio_async.embedded._engine._engine import Engine, EngineRequestError
from lmstudio_async.embedded._instances._instance import Instance
from lmstudio_async.embedded._prediction._answer import Answer
from lmstudio_async.embedded._prediction._call_finder import CallFinder
from lmstudio_async.embedded._prediction._default_tools import RequestScanner, grammar, with_tools
from lmstudio_async.embedded._prediction._mark_scanners import ReasoningParser
from lmstudio_async.embedded._prediction._overflow import shorten_messages, shorten_prompt
from lmstudio_async.embedded._prediction._rolling_window import ChatWindow, TextWindow, Window
from lmstudio_async.embedded._prediction._sampling import Sampling
from lmstudio_async.embedded._prediction._template_form import call_form
from lmstudio_async.embedded._prediction._template_messages import ToolNames, has_images
from lmstudio_async.embedded._prediction._tool_schemas import loosened, tool_fields
from lmstudio_async.embedded._templates._reasoning_tags import with_thoughts_apart
from lmstudio_async.embedded._templates._template_message import TemplateMessage

__all__ = ["NO_TOOLS", "PredictionRequest", "chat_request", "for_template", "raw_request", "template_prompt"]

NO_TOOLS: Final = ToolNames((), "passThrough")

_BROKEN_CALL: Final = re.compile(
    r"Unexpected empty grammar stack after accepting piece: (?P<piece>.*) \(\d+\)$"
    r"|The model produced output that does not match the expected |Invalid diff: ",
    re.DOTALL,
)


@attrs.frozen(kw_only=True)
class PredictionRequest:
    """A request to the engine: a prompt to continue (``/completion``) or a chat to answer.

    :ivar prompt: the text that the model reads; None if the chat has images, which have no form as text.
    :ivar window: decides which tokens of prompt and answer stay when they reach the end of the context; None to end the
        answer there.
    """

    body: dict[str, Any]
    answer: Answer
    is_chat: bool
    prompt: str | None
    sampling: Sampling
    window: Window | None = None

    @property
    def can_continue(self) -> bool:
        """Whether the engine can continue an answer after a part of it.

        It cannot if it has state beyond the text: a position in a grammar or in a tool call, a budget for reasoning, or
        the state of mirostat. It cannot either if the chat has images, or ends with a beginning of the answer.
        """
        if self.prompt is None or self.body.get("mirostat"):
            return False
        if self.is_chat and self.body["messages"][-1]["role"] == "assistant":
            # The client has begun the answer itself, and the engine accepts only one prefilled answer.
            return False
        return not {"grammar", "json_schema", "tools", "thinking_budget_tokens"} & self.body.keys()

    def after_broken_call(self, error: EngineRequestError) -> dict[str, Any] | None:
        """Return a request for the rest of an answer that the engine ended because of an invalid tool call.

        The engine's grammar restricts a model to the tools of the request, but it starts only after the mark that
        begins a call. If one token contains the mark and also text that the grammar forbids, such as the name of an
        unknown tool, the engine ends the whole answer with an error. The new request continues the answer from there,
        without tools, so that the engine parses nothing.

        :return: the body of the new request; an empty one if no request can help; None if the error has another cause.
        """
        found = _BROKEN_CALL.search(error.message)
        if found is None:
            return None
        if "tools" not in self.body:
            # The model called a tool although the request has none: only the text before the call can be returned.
            return {} if found["piece"] is None else None
        if self.prompt is None or self.answer.has_called:
            # The answer cannot be continued: the prompt is unknown, or it is unknown how the engine has parsed the
            # earlier calls.
            if found["piece"] is not None or not self.answer.has_called:
                self.answer.break_call(found["piece"] or "")
            return {}
        answered = self.answer.text
        if tag := _opened_thought(self.prompt, self.sampling):
            answered = answered.removeprefix(tag)
        self.answer.continue_with(_call_finder(self.body["tools"], self.sampling, bare=True))
        body = {**self.sampling.body, "prompt": self.prompt + answered, "return_tokens": True}
        body |= _visible_tags(self.sampling)
        if self.sampling.limit is not None:
            body["n_predict"] = max(self.sampling.limit - self.answer.predicted, 1)
        return body


async def raw_request(
    instance: Instance,
    sampling: Sampling,
    prompt: str,
    *,
    thinking: bool = False,
    names: ToolNames = NO_TOOLS,
    requests: RequestScanner | None = None,
    window: Window | None = None,
    calls: CallFinder | None = None,
) -> PredictionRequest:
    """Make a request that continues a prompt.

    :param thinking: whether the prompt ends with the tag that begins reasoning.
    :param requests: the scanner for tool calls in the form of LM Studio's default tool use.
    :param calls: the finder of tool calls in the model's own form.
    :param window: the window for a prompt that was made of a chat, and fits.
    """
    prompt = await _without_second_bos(instance.engine, prompt)
    answer = Answer(
        limit=sampling.limit,
        candidates=sampling.candidates,
        reasoning=ReasoningParser(sampling.reasoning, thinking=thinking),
        names=names,
        stop_strings=_stop_strings(sampling),
        requests=requests,
        calls=calls,
    )
    if not prompt and not await instance.engine.tokenize("", add_special=True):
        raise server_error(
            "There is nothing to complete: the text is empty, and this model has no token that begins a text."
        )
    fitting: str | list[int] = prompt
    if window is None and sampling.overflow != "stopAtLimit":
        fitting = await shorten_prompt(instance, prompt, sampling)
        window = TextWindow(instance, sampling, fitting)
    body = {**sampling.body, "prompt": fitting, "return_tokens": True}
    if sampling.schema_grammar is not None:
        del body["json_schema"]
        body["grammar"] = sampling.schema_grammar
    body |= _visible_tags(sampling)
    if instance.engine.spec.draft_model_path is not None:
        # Only the timings have the numbers of drafted and accepted tokens.
        body["timings_per_token"] = True
    return PredictionRequest(
        body=body, answer=answer, is_chat=False, prompt=prompt, sampling=sampling, window=window
    )


def _visible_tags(sampling: Sampling) -> dict[str, Any]:
    """Return the parameters that keep the reasoning tags in the engine's output, even if they are special tokens."""
    return {} if sampling.reasoning is None else {"preserved_tokens": list(sampling.reasoning)}


async def _without_second_bos(engine: Engine, prompt: str) -> str:
    """Remove the BOS token at the beginning of a prompt if the tokenizer adds another one.

    A prompt from ``applyPromptTemplate`` begins with a BOS token.
    """
    begin = str((await engine.properties()).get("bos_token", ""))
    if begin and prompt.startswith(begin) and await engine.tokenize("", add_special=True):
        return prompt.removeprefix(begin)
    return prompt


async def chat_request(
    instance: Instance, sampling: Sampling, messages: list[TemplateMessage], names: ToolNames
) -> PredictionRequest:
    """Make a request that answers a chat."""
    engine = instance.engine
    messages, tools, sampling, requests = await for_template(engine, messages, names, sampling)

    async def formatted(some: list[TemplateMessage]) -> str:
        return await template_prompt(engine, some, tools, sampling)

    form = await call_form(engine) if tools else "marked"
    # The engine's parser treats any brace as the beginning of a bare call, and then sends no text until the end of the
    # answer. It is still used if a call is required, because its grammar forces the model to make one.
    calls_are_bare = form == "bare" and sampling.tool_choice == "auto"
    prompt, thinking, window = None, False, None
    if not has_images(messages):
        messages, prompt = await shorten_messages(instance, messages, sampling, formatted)
        thinking = bool(_opened_thought(prompt, sampling))
        if sampling.overflow != "stopAtLimit":
            window = ChatWindow(instance, sampling, messages, formatted, thinking=thinking)
        reads_text = not tools or calls_are_bare
        if requests or (reads_text and not _needs_engine(sampling, thinking=thinking)):
            # A grammar of the client applies to the whole answer, so that the model cannot reason under it.
            thinking = thinking and (requests is not None or "grammar" not in sampling.body)
            calls = _call_finder(tools, sampling, bare=True)
            return await raw_request(
                instance,
                sampling,
                prompt,
                thinking=thinking,
                names=names,
                requests=requests,
                calls=calls,
                window=window,
            )
    splits = sampling.thought_form is not None
    body = {name: value for name, value in sampling.body.items() if name != "n_probs"}
    body |= {
        "messages": messages,
        "timings_per_token": True,
        "reasoning_format": "deepseek" if splits else "none",
    }
    if calls_are_bare:
        # Pass the tools to the template only, so that the engine does not parse the calls.
        body["chat_template_kwargs"] = {**sampling.template_variables, "tools": tools}
    else:
        body |= tool_fields(tools, sampling.template_variables)
        if tools:
            body |= {"tool_choice": sampling.tool_choice, "parallel_tool_calls": True}
    if sampling.candidates is not None:
        body |= {"logprobs": True, "top_logprobs": max(sampling.candidates, 1)}
    if sampling.budget is not None:
        body["thinking_budget_tokens"] = sampling.budget
        if sampling.budget_message:
            body["reasoning_budget_message"] = sampling.budget_message
    answer = Answer(
        limit=sampling.limit,
        candidates=sampling.candidates,
        reasoning=ReasoningParser(sampling.reasoning, thinking=thinking and not splits),
        names=names,
        stop_strings=_stop_strings(sampling),
        requests=requests,
        calls=_call_finder(tools, sampling, bare=calls_are_bare or form == "unknown"),
    )
    return PredictionRequest(
        body=body, answer=answer, is_chat=True, prompt=prompt, sampling=sampling, window=window
    )


async def for_template(
    engine: Engine, messages: list[TemplateMessage], names: ToolNames, sampling: Sampling
) -> tuple[list[TemplateMessage], list[dict[str, Any]], Sampling, RequestScanner | None]:
    """Convert chat, tools and sampling to a form that the model's chat template supports.

    :return: the messages, the tools, the sampling, and the scanner for tool calls if the engine does not parse them.
    """
    messages, tools = with_thoughts_apart(messages, sampling.reasoning), names.renamed_tools(sampling.tools)
    if not tools and not any(message["role"] == "tool" or "tool_calls" in message for message in messages):
        return messages, [], sampling, None
    properties = await engine.properties()
    if properties.get("chat_template_caps", {}).get("supports_tools"):
        return messages, tools, sampling, None
    if not tools or sampling.tool_choice == "none":
        return with_tools(messages, []), [], sampling, None
    rules = grammar(
        loosened(tools), required=sampling.tool_choice == "required", end=str(properties.get("eos_token", ""))
    )
    sampling = attrs.evolve(sampling, body={**sampling.body, "grammar": rules})
    return with_tools(messages, tools), [], sampling, RequestScanner()


async def template_prompt(
    engine: Engine, messages: list[TemplateMessage], tools: list[dict[str, Any]], sampling: Sampling
) -> str:
    """Apply the model's chat template to a chat, and return the prompt."""
    fields = tool_fields(tools, sampling.template_variables)
    return await engine.apply_template(
        messages, tools=fields.get("tools"), template_kwargs=fields.get("chat_template_kwargs")
    )


def _call_finder(tools: list[dict[str, Any]], sampling: Sampling, *, bare: bool) -> CallFinder | None:
    return CallFinder(tools, bare=bare) if tools and sampling.tool_choice != "none" else None


def _stop_strings(sampling: Sampling) -> list[str]:
    """Return the stop strings.

    :raises LMStudioServerError: one has a lone surrogate. The engine would reject it, but it never receives them.
    """
    try:
        "".join(sampling.stop_strings).encode()
    except UnicodeEncodeError:
        raise server_error(
            "A stop string has half a character in it (a lone surrogate), which no answer can have.",
            "Leave it out.",
        ) from None
    return sampling.stop_strings


def _needs_engine(sampling: Sampling, *, thinking: bool) -> bool:
    """Whether the engine must make the prompt itself, and parse the answer.

    Only then can it limit the reasoning, find reasoning without plain tags, and apply a schema to the answer alone if
    the prompt ends within the reasoning.
    """
    form = sampling.thought_form
    return (
        sampling.budget is not None
        or (form is not None and form.needs_parser)
        or (thinking and "json_schema" in sampling.body)
    )


def _opened_thought(prompt: str, sampling: Sampling) -> str:
    """Return the tag that begins reasoning if a prompt ends with it, or else an empty text.

    The chat templates of models that always reason end with it.
    """
    tag = "" if sampling.reasoning is None else sampling.reasoning[0]
    return tag if tag and prompt.rstrip().endswith(tag) else ""
