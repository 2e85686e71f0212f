"""From a chat or a prompt to what the engine is asked, and the answer that is made of what it says."""

from __future__ import annotations

import re
from typing import Any, Final

import attrs

from lmstudio_async._protocol._errors import server_error
from lmstudio_async.embedded._answer import Answer
from lmstudio_async.embedded._call_finder import CallFinder
from lmstudio_async.embedded._chat import ToolNames, has_images
from lmstudio_async.embedded._default_tools import RequestScanner, grammar, with_tools
from lmstudio_async.embedded._engine import Engine, EngineRequestError
from lmstudio_async.embedded._instance import Instance
from lmstudio_async.embedded._overflow import shorten_messages, shorten_prompt
from lmstudio_async.embedded._sampling import Sampling
from lmstudio_async.embedded._template_form import call_form
from lmstudio_async.embedded._text import ReasoningParser
from lmstudio_async.embedded._thoughts import with_thoughts_apart
from lmstudio_async.embedded._tool_schemas import loosened, tool_fields
from lmstudio_async.embedded._window import ChatWindow, TextWindow, Window

__all__ = ["NO_TOOLS", "Request", "chat_request", "for_template", "raw_request", "template_prompt"]

NO_TOOLS: Final = ToolNames((), "passThrough")

_BROKEN_CALL: Final = re.compile(
    r"Unexpected empty grammar stack after accepting piece: (?P<piece>.*) \(\d+\)$"
    r"|The model produced output that does not match the expected |Invalid diff: ",
    re.DOTALL,
)


@attrs.frozen(kw_only=True)
class Request:
    """What to ask the engine: a prompt to continue (``/completion``) or a chat to answer.

    :ivar prompt: what the model reads; None if it has images, which are no text.
    :ivar window: what stays of prompt and answer where they reach the end of the context; None to end there.
    """

    body: dict[str, Any]
    answer: Answer
    is_chat: bool
    prompt: str | None
    sampling: Sampling
    window: Window | None = None

    @property
    def can_go_on(self) -> bool:
        """Whether the engine can go on with an answer of which it has said a part.

        It cannot where the part has told it more than the text says: how far a grammar is, or a tool call.
        """
        if self.prompt is None or self.body.get("mirostat"):
            return False
        if self.is_chat and self.body["messages"][-1]["role"] == "assistant":
            # The client has begun the answer, and there can be only one beginning.
            return False
        return not {"grammar", "json_schema", "tools", "thinking_budget_tokens"} & self.body.keys()

    def after_broken_call(self, error: EngineRequestError) -> dict[str, Any] | None:
        """How to hear what the model says where the engine cannot follow a tool call of it.

        Gives the body of another request, an empty one if none can help, or None if the error is another one.

        The engine's grammar holds a model to the tools that it has, but begins only when a call has begun. A token
        that goes further than that, such as to the name of a tool that there is not, ends the whole answer. What
        the model had to say is heard by asking on from where it was, without tools that somebody could parse.
        """
        found = _BROKEN_CALL.search(error.message)
        if found is None:
            return None
        if "tools" not in self.body:
            # It called one although there are none: what it has said before that is all that there is.
            return {} if found["piece"] is None else None
        if self.prompt is None or self.answer.has_called:
            # Nothing tells what the prompt was, or how the engine has read the calls before this one.
            if found["piece"] is not None or not self.answer.has_called:
                self.answer.break_call(found["piece"] or "")
            return {}
        said = self.answer.text
        if tag := _opened_thought(self.prompt, self.sampling):
            said = said.removeprefix(tag)
        self.answer.go_on_with(_call_finder(self.body["tools"], self.sampling, bare=True))
        body = {**self.sampling.body, "prompt": self.prompt + said, "return_tokens": True}
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
) -> Request:
    """Have a prompt continued.

    :param thinking: it ends with the tag that begins thoughts.
    :param requests: finds the tool calls in what comes.
    :param calls: likewise, for a model that has a form of its own to call a tool.
    :param window: for a prompt that was made of a chat, and fits.
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
        # They tell which tokens were drafted.
        body["timings_per_token"] = True
    return Request(body=body, answer=answer, is_chat=False, prompt=prompt, sampling=sampling, window=window)


def _visible_tags(sampling: Sampling) -> dict[str, Any]:
    """Have the engine say the tags around thoughts, also where they are tokens of their own that only steer."""
    return {} if sampling.reasoning is None else {"preserved_tokens": list(sampling.reasoning)}


async def _without_second_bos(engine: Engine, prompt: str) -> str:
    """Drop the BOS that a prompt begins with, as one of ``applyPromptTemplate`` does, if the tokenizer adds one too."""
    begin = str((await engine.properties()).get("bos_token", ""))
    if begin and prompt.startswith(begin) and await engine.tokenize("", add_special=True):
        return prompt.removeprefix(begin)
    return prompt


async def chat_request(
    instance: Instance, sampling: Sampling, messages: list[dict[str, Any]], names: ToolNames
) -> Request:
    """Have a chat answered."""
    engine = instance.engine
    messages, tools, sampling, requests = await for_template(engine, messages, names, sampling)

    async def formatted(some: list[dict[str, Any]]) -> str:
        return await template_prompt(engine, some, tools, sampling)

    form = await call_form(engine) if tools else "marked"
    # The engine takes any brace for the beginning of a bare call, and says no more until the end of the answer. It does
    # hold a model that has to call.
    calls_are_bare = form == "bare" and sampling.tool_choice == "auto"
    prompt, thinking, window = None, False, None
    if not has_images(messages):
        messages, prompt = await shorten_messages(instance, messages, sampling, formatted)
        thinking = bool(_opened_thought(prompt, sampling))
        if sampling.overflow != "stopAtLimit":
            window = ChatWindow(instance, sampling, messages, formatted, thinking=thinking)
        reads_text = not tools or calls_are_bare
        if requests or (reads_text and not _needs_engine(sampling, thinking=thinking)):
            # A grammar of the client's is one of the answer: nothing is thought under it.
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
        # The template is told of the tools, but not the engine.
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
        calls=_call_finder(tools, sampling, bare=calls_are_bare or form == "untold"),
    )
    return Request(body=body, answer=answer, is_chat=True, prompt=prompt, sampling=sampling, window=window)


async def for_template(
    engine: Engine, messages: list[dict[str, Any]], names: ToolNames, sampling: Sampling
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], Sampling, RequestScanner | None]:
    """Chat, tools and sampling as the model's template can take them, and what finds the calls if the engine does not."""
    messages, tools = with_thoughts_apart(messages, sampling.reasoning), names.told(sampling.tools)
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
    engine: Engine, messages: list[dict[str, Any]], tools: list[dict[str, Any]], sampling: Sampling
) -> str:
    """What the model's chat template makes of a chat."""
    fields = tool_fields(tools, sampling.template_variables)
    return await engine.apply_template(
        messages, tools=fields.get("tools"), template_kwargs=fields.get("chat_template_kwargs")
    )


def _call_finder(tools: list[dict[str, Any]], sampling: Sampling, *, bare: bool) -> CallFinder | None:
    return CallFinder(tools, bare=bare) if tools and sampling.tool_choice != "none" else None


def _stop_strings(sampling: Sampling) -> list[str]:
    """Return the stop strings.

    :raises LMStudioServerError: one has a lone surrogate, which the engine, that never sees them, would refuse.
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
    """Whether the engine is to make the prompt itself, and to read what the model says.

    It ends thoughts, and where they are begun already it has a schema apply to the answer behind them only.
    """
    form = sampling.thought_form
    return (
        sampling.budget is not None
        or (form is not None and form.needs_parser)
        or (thinking and "json_schema" in sampling.body)
    )


def _opened_thought(prompt: str, sampling: Sampling) -> str:
    """The tag that begins thoughts, if a prompt ends with it: templates of models that always think do."""
    tag = "" if sampling.reasoning is None else sampling.reasoning[0]
    return tag if tag and prompt.rstrip().endswith(tag) else ""
