"""The part of an answer that the client has got, as the engine has to be told it to go on from there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmstudio_async.embedded._engine import Engine

__all__ = ["Said"]


class Said:
    """The tokens of an answer so far, without those that a window has left out.

    :ivar total: all its tokens.
    """

    def __init__(self) -> None:
        self.total = 0
        self._kept: list[int] = []
        self._tokens: list[int] = []
        self._text = ""
        self._total_when_left_out = 0
        self._total_when_asked = 0

    @property
    def length(self) -> int:
        """The tokens that the model sees."""
        return len(self._kept) + self.new

    @property
    def new(self) -> int:
        """The tokens since a part was left out."""
        return self.total - self._total_when_left_out

    def feed(self, frame: Mapping[str, Any]) -> None:
        """Take a frame of ``/completion``; those of chats are of no use here."""
        if "choices" in frame or "prompt_progress" in frame:
            return
        if tokens := frame.get("tokens"):
            self._tokens += tokens
            self._text += frame.get("content", "")
            self.total = self._total_when_asked + int(frame.get("tokens_predicted", 0))

    def continued(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The request for the rest of an answer."""
        self._total_when_asked = self.total
        prompt = body["prompt"]
        said = self._tokens if self._is_exact else [self._text]
        more: dict[str, Any] = {
            "prompt": [*(prompt if isinstance(prompt, list) else [prompt]), *self._kept, *said]
        }
        if (limit := body.get("n_predict")) is not None:
            more["n_predict"] = max(limit - self.total, 1)
        if (seed := body.get("seed")) is not None:
            # Not the same dice again, but the same ones whenever it is asked.
            more["seed"] = (seed + self.total) % (2**32 - 1)
        return {**body, **more}

    async def seen(self, engine: Engine) -> list[int]:
        """The tokens that the model sees."""
        new = self._tokens if self._is_exact else await engine.tokenize(self._text, add_special=False)
        return [*self._kept, *new]

    def leave_out_all_but(self, kept: list[int]) -> None:
        """Go on with these tokens, the last ones."""
        self._kept, self._tokens, self._text = kept, [], ""
        self._total_when_left_out = self.total

    @property
    def _is_exact(self) -> bool:
        """Whether all tokens are known. The engine does not tell those of half a character; then the text has to do."""
        return len(self._tokens) == self.new
