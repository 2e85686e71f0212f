"""The part of an answer that the client has received, in the form that the engine needs to continue it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lmstudio_async.embedded._engine._engine import Engine
from lmstudio_async.embedded._prediction._rolling_window import ChatWindow, Window

__all__ = ["ChatContinuation", "TextContinuation", "after", "with_tokens"]


class TextContinuation:
    """The tokens of an answer to a prompt so far, without the tokens that a window has left out.

    :ivar total: the number of tokens of the answer so far.
    :ivar asked_at: the number of tokens of the answer at the time of the latest request to the engine.
    """

    def __init__(self) -> None:
        self.total = 0
        self.asked_at = 0
        # The tokens that the window kept when it last left some out, and then the tokens and the text since.
        self._kept: list[int] = []
        self._tokens: list[int] = []
        self._text = ""
        self._total_when_left_out = 0

    def feed(self, frame: Mapping[str, Any]) -> None:
        """Add a frame of ``/completion``."""
        if (tokens := frame.get("tokens")) and "prompt_progress" not in frame:
            self._tokens += tokens
            self._text += frame.get("content", "")
            self.total = self.asked_at + int(frame.get("tokens_predicted", 0))

    def lacks(self, frame: Mapping[str, Any]) -> bool:
        """Whether the engine has withheld the last tokens before its last frame."""
        return self.total < self.asked_at + int(frame.get("tokens_predicted", 0))

    def continued(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the request for the rest of an answer."""
        self.asked_at = self.total
        new = self._tokens if self._is_exact else [self._text]
        prompt = with_tokens(body["prompt"], [*self._kept, *new])
        return {**body, "prompt": prompt, **after(self.total, body)}

    async def length(self, engine: Engine, body: Mapping[str, Any], prompt_length: int) -> int:  # noqa: ARG002
        """Return the number of tokens of the prompt and of the answer that the model sees."""
        return prompt_length + len(self._kept) + self._new

    async def roll(self, window: Window, engine: Engine) -> dict[str, Any] | None:
        """Leave out the oldest tokens; return the changed members of the request, or None if no tokens become free."""
        if not self._new:
            # The answer has not grown since the last time: rolling again would loop without progress.
            return None
        new = self._tokens if self._is_exact else await engine.tokenize(self._text, add_special=False)
        rolled = await window.roll([*self._kept, *new])
        if rolled is None:
            return None
        prompt, self._kept = rolled
        self._tokens, self._text = [], ""
        self._total_when_left_out = self.total
        return {"prompt": prompt}

    @property
    def _new(self) -> int:
        """The number of tokens since a part was last left out."""
        return self.total - self._total_when_left_out

    @property
    def _is_exact(self) -> bool:
        """Whether all tokens are known. The engine does not report the tokens of an incomplete character.

        If they are not known, the text is used instead.
        """
        return len(self._tokens) == self._new


class ChatContinuation:
    """The text of an answer to a chat so far, as the engine has parsed it.

    :ivar total: the number of tokens of the answer so far.
    :ivar asked_at: the number of tokens of the answer at the time of the latest request to the engine.
    """

    def __init__(self) -> None:
        self.total = 0
        self.asked_at = 0
        self._thought = ""
        self._content = ""
        self._total_when_left_out = 0

    def feed(self, frame: Mapping[str, Any]) -> None:
        """Add a frame of ``/v1/chat/completions``."""
        for choice in frame.get("choices", ()):
            delta = choice.get("delta") or {}
            thought, content = delta.get("reasoning_content") or "", delta.get("content") or ""
            if thought or content:
                self._thought += thought
                self._content += content
                self.total = self.asked_at + int((frame.get("timings") or {}).get("predicted_n", 0))

    def continued(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the request for the rest of an answer."""
        self.asked_at = self.total
        message = {"role": "assistant", "content": self._content}
        if self._thought:
            message["reasoning_content"] = self._thought
        return {
            **body,
            "messages": [*body["messages"], message],
            "add_generation_prompt": False,
            "continue_final_message": "content" if self._content else "reasoning_content",
            **after(self.total, body),
        }

    async def length(self, engine: Engine, body: Mapping[str, Any], prompt_length: int) -> int:
        """Return the number of tokens of prompt and answer together, after the chat template is applied to both."""
        if not self.total:
            return prompt_length
        prompt = await engine.apply_template(
            body["messages"],
            template_kwargs=body.get("chat_template_kwargs"),
            add_generation_prompt=False,
            continue_final_message=body["continue_final_message"],
        )
        return len(await engine.tokenize(prompt, add_special=True))

    async def roll(self, window: Window, engine: Engine) -> dict[str, Any] | None:
        """Leave out the oldest tokens; return the changed members of the request, or None if no tokens become free."""
        assert isinstance(window, ChatWindow)
        if self.total == self._total_when_left_out:
            # The answer has not grown since the last time: rolling again would loop without progress.
            return None
        thought = await engine.tokenize(self._thought, add_special=False)
        content = await engine.tokenize(self._content, add_special=False)
        shortened = await window.shorten(len(thought) + len(content))
        if shortened is None:
            return None
        _, room = shortened
        self._content = await _end_of(engine, self._content, content, room)
        self._thought = await _end_of(engine, self._thought, thought, room - len(content))
        self._total_when_left_out = self.total
        return {"messages": window.messages}


async def _end_of(engine: Engine, text: str, tokens: list[int], most: int) -> str:
    """Return the end of a text, of at most ``most`` tokens."""
    if len(tokens) <= most:
        return text
    # The first token may be the rest of a character, which is decoded as U+FFFD.
    return (await engine.detokenize(tokens[len(tokens) - most :])).lstrip("\ufffd") if most > 0 else ""


def with_tokens(prompt: str | list[Any], answer: Sequence[int | str]) -> str | list[Any]:
    """Return the prompt followed by the tokens or the text of an answer."""
    whole = [*([prompt] if isinstance(prompt, str) else prompt), *answer]
    # Join a list of texts, because the engine would read it as several prompts.
    return "".join(whole) if all(isinstance(part, str) for part in whole) else whole


def after(generated: int, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limit and the seed for the rest of an answer.

    :param generated: the number of tokens of the answer so far.
    """
    more: dict[str, Any] = {}
    if (limit := body.get("n_predict")) is not None:
        more["n_predict"] = max(limit - generated, 1)
    if (seed := body.get("seed")) is not None:
        # Use another seed than before, so that the random numbers do not repeat; but derive it, to be reproducible.
        more["seed"] = (seed + generated) % (2**32 - 1)
    return more
