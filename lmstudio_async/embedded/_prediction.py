"""One prediction under way: asks the engine when there is room, and asks on until the answer is whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeAlias

from lmstudio_async.embedded._connection import Channel
from lmstudio_async.embedded._engine import Engine, EngineRequestError
from lmstudio_async.embedded._instance import Use
from lmstudio_async.embedded._request import Request
from lmstudio_async.embedded._said import ChatSaid, Said
from lmstudio_async.embedded._token_budget import TokenBudget
from lmstudio_async.embedded._token_stream import token_frames

__all__ = ["Prediction"]

Frame: TypeAlias = Mapping[str, Any]

# Tokens beyond prompt and answer: the marks around a prompt, and the token that the engine works on.
_MARGIN: Final = 4
# Characters of a prompt whose tokens are counted at once.
_PIECE: Final = 100_000


class Prediction:
    """One request to the engine, from its place in the queue to the last packet of its answer.

    A request reserves its prompt and its limit. One without a limit reserves a share of the context, and the engine
    is told to stop there. The prediction then reserves more and has the engine go on with what was said, which is
    still in its cache unless another prediction needed the room meanwhile. Answers that the engine cannot go on with
    (it holds them to a grammar, or reads tool calls out of them) reserve all that they may ever need.

    An answer that reaches the end of the context ends there, or goes on from what its window keeps. Then it may never
    end; but whenever it reserves anew, predictions that wait have their turn.
    """

    def __init__(
        self, engine: Engine, request: Request, *, use: Use, budget: TokenBudget, channel: Channel
    ) -> None:
        self._engine = engine
        self._request = request
        self._answer = request.answer
        self._body = request.body
        self._window = request.window if request.can_go_on else None
        self._use = use
        self._budget = budget
        self._channel = channel
        self._reservation = budget.reservation()
        self._said = ChatSaid() if request.is_chat else Said()
        self._prompt_length: int | None = None
        self._asked_length: int | None = None
        self._alone = False
        self._is_full = False
        self._needs_each_token = "n_probs" in request.body and self._can_ask_each_token

    async def run(self) -> None:
        """Have the engine answer, and send the client what it says.

        :raises EngineRequestError: the engine refused the request.
        """
        with self._reservation:
            while not self._answer.finished:
                body, said = self._body, self._said.total
                if said:
                    body = self._said.continued(body)
                    self._answer.go_on_after(said)
                body, is_part = await self._admit(body)
                try:
                    await self._ask(body, is_part=is_part)
                except EngineRequestError as error:
                    if not self._recovers_from(error):
                        await self._end_broken(error)
                if self._is_full:
                    await self._go_on_in_window()
                elif is_part and self._said.total == said:
                    # It has said less than a character: to ask for as much again would give as little.
                    self._alone = True

    # -- admission

    async def _admit(self, body: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """Wait until there is room, and give what to ask for, and whether that is less than the whole answer."""
        capacity = self._budget.capacity
        if capacity is None:
            return body, False
        length, share = await self._length(body), self._budget.share
        self._asked_length = length
        margin = _MARGIN + self._draft_length()
        limit: int | None = body.get("n_predict")
        whole = capacity if length is None or limit is None else length + limit + margin
        least = most = min(whole, capacity)
        if least == capacity and length is not None and self._request.can_go_on and not self._alone:
            least, most = length + share // 4 + margin, max(share, length + share // 2) + margin
        self._use.waits = True
        await self._reservation.take(least, most)
        self._use.waits = False
        held = self._reservation.tokens
        if length is None or held >= min(whole, capacity):
            return body, False
        return {**body, "n_predict": held - length - margin}, True

    async def _length(self, body: Mapping[str, Any]) -> int | None:
        """The tokens of prompt and answer so far, or somewhat more; None if only the engine can tell."""
        if self._prompt_length is None:
            prompt = self._request.prompt if self._request.is_chat else self._body["prompt"]
            if prompt is None:
                return None
            # A token has at least one byte. An exact number is worth a call only for long prompts.
            most = len(prompt) if isinstance(prompt, list) else len(prompt.encode(errors="replace"))
            if isinstance(prompt, str) and most > self._budget.share // 2:
                most = await self._count_tokens(prompt)
            self._prompt_length = most
        return await self._said.length(self._engine, body, self._prompt_length)

    async def _count_tokens(self, prompt: str) -> int:
        """Count the tokens of a prompt, or some of them if they are more than can be reserved."""
        count = 0
        # The tokens of a prompt of millions of characters would take the event loop seconds to read.
        for start in range(0, len(prompt), _PIECE):
            piece = prompt[start : start + _PIECE]
            count += len(await self._engine.tokenize(piece, add_special=not start))
            if self._budget.capacity is not None and count > self._budget.capacity:
                break
        return count

    def _draft_length(self) -> int:
        spec = self._engine.spec
        return 0 if spec.draft_model_path is None else spec.draft_max_tokens

    # -- the answer

    @property
    def _can_ask_each_token(self) -> bool:
        # Drafts are counted in a stream only.
        return not self._request.is_chat and self._request.can_go_on and not self._draft_length()

    async def _ask(self, body: dict[str, Any], *, is_part: bool) -> None:
        engine = self._engine
        stream: AbstractAsyncContextManager[AsyncIterator[Frame]]
        if self._request.is_chat:
            stream = engine.chat(body)
        elif self._needs_each_token:
            stream = token_frames(engine, body)
        else:
            stream = engine.complete(body)
        await self._pass_on(stream, body, is_part=is_part)

    async def _pass_on(
        self,
        stream: AbstractAsyncContextManager[AsyncIterator[Frame]],
        body: Mapping[str, Any],
        *,
        is_part: bool,
    ) -> None:
        answer, was_told = self._answer, False
        async with stream as frames:
            async for frame in frames:
                if _is_at_limit(frame):
                    is_full = _ends_at_context(frame, body)
                    self._is_full = self._window is not None and is_full
                    if is_part or self._is_full:
                        break
                    if not is_full and self._lacks_tokens(frame):
                        self._needs_each_token = True
                        break
                was_reading = not answer.generating
                for packet in answer.feed(frame):
                    await self._channel.send(packet)
                self._said.feed(frame)
                if not was_told and answer.generating:
                    was_told = True
                    self._learn_length(body)
                if was_reading:
                    self._channel.repeat_when_silent(answer.latest_progress)
                    if answer.generating:
                        self._use.status = "generating"
                if answer.finished:
                    break

    def _lacks_tokens(self, frame: Frame) -> bool:
        """Whether the engine, at the limit, has kept the last letters, because they end within a character."""
        return self._can_ask_each_token and isinstance(self._said, Said) and self._said.lacks(frame)

    def _learn_length(self, body: Mapping[str, Any]) -> None:
        """Give back what was reserved for a longer prompt than the engine has seen."""
        if not self._said.asked_at and (told := self._answer.prompt_length):
            self._prompt_length = self._asked_length = told
        limit = body.get("n_predict")
        if self._asked_length is not None and limit is not None:
            margin = _MARGIN + self._draft_length()
            self._reservation.keep(self._asked_length + limit + margin)

    # -- the end of the context

    async def _go_on_in_window(self) -> None:
        """Leave out the oldest of prompt and answer; or end the answer, if that gives no room."""
        self._is_full = False
        changed = None if self._window is None else await self._said.roll(self._window, self._engine)
        if changed is None:
            await self._end("contextLengthReached")
            return
        self._body = {**self._body, **changed}
        self._prompt_length = None

    # -- what goes wrong

    def _recovers_from(self, error: EngineRequestError) -> bool:
        """Whether the answer can be had all the same: alone, if others had a part of the context."""
        if not error.context_is_full or self._has_all():
            return False
        self._alone = True
        return self._request.can_go_on or not self._answer.generating

    def _has_all(self) -> bool:
        """Whether no other prediction has a part of the context."""
        capacity = self._budget.capacity
        return capacity is None or self._reservation.tokens >= capacity

    async def _end_broken(self, error: EngineRequestError) -> None:
        request, answer = self._request, self._answer
        is_full = error.context_is_full or error.type == "exceed_context_size_error"
        if is_full and answer.generating and self._has_all():
            self._is_full = True
            return
        body = request.after_broken_call(error)
        if body is None:
            raise error
        if body:
            await self._pass_on(self._engine.complete(body), body, is_part=False)
        else:
            await self._end("failed")

    async def _end(self, reason: str) -> None:
        for packet in self._answer.stop(reason):
            await self._channel.send(packet)
        self._answer.finished = True


def _is_at_limit(frame: Frame) -> bool:
    """Whether it is the last frame of an answer that might have been longer."""
    if choices := frame.get("choices"):
        return any(choice.get("finish_reason") == "length" for choice in choices)
    return bool(frame.get("stop")) and frame.get("stop_type") == "limit"


def _ends_at_context(frame: Frame, body: Frame) -> bool:
    """Whether an answer has come to the end of the context, and not to its limit."""
    limit = body.get("n_predict")
    if "choices" in frame:
        return limit is None or int(frame["timings"]["predicted_n"]) < limit
    return bool(frame.get("truncated")) and (limit is None or int(frame["tokens_predicted"]) < limit)
