"""One prediction in progress: it reserves tokens, and sends requests to the engine until the answer is complete."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from lmstudio_async.embedded._connections._connection import Channel
from lmstudio_async.embedded._engine._engine import Engine, EngineRequestError
from lmstudio_async.embedded._engine._engine_stream import Frame
from lmstudio_async.embedded._instances._instance import Use
from lmstudio_async.embedded._instances._token_budget import TokenBudget
from lmstudio_async.embedded._prediction._continuation import ChatContinuation, TextContinuation
from lmstudio_async.embedded._prediction._prediction_request import PredictionRequest
from lmstudio_async.embedded._prediction._token_stream import token_frames

__all__ = ["Prediction"]

# Tokens beyond prompt and answer: special tokens around a prompt, and the token that the engine is computing.
_MARGIN: Final = 4
# Characters of a prompt that are tokenized in one call to count their tokens.
_PIECE: Final = 100_000


class Prediction:
    """One answer of the engine, from its place in the queue to its last packet.

    A prediction reserves tokens of the context for its prompt and its limit. A prediction without a limit reserves a
    share of the context, and the engine stops at the end of the share. The prediction then reserves more, and the
    engine continues the answer, which is still in its cache unless another prediction has displaced it meanwhile. The
    engine cannot continue some answers, such as those under a grammar (see `PredictionRequest.can_continue`): their
    predictions reserve from the start all tokens that they may need.

    An answer that reaches the end of the context ends there, or continues with the tokens that its window keeps. With
    a window it may never end; but predictions in the queue get their turn whenever it makes a new reservation.
    """

    def __init__(
        self, engine: Engine, request: PredictionRequest, *, use: Use, budget: TokenBudget, channel: Channel
    ) -> None:
        self._engine = engine
        self._request = request
        self._answer = request.answer
        self._body = request.body
        self._window = request.window if request.can_continue else None
        self._use = use
        self._budget = budget
        self._channel = channel
        self._reservation = budget.reservation()
        self._continuation = ChatContinuation() if request.is_chat else TextContinuation()
        self._prompt_length: int | None = None
        self._asked_length: int | None = None
        # Whether to reserve the whole context, because a part of it was not enough.
        self._alone = False
        self._is_full = False
        self._needs_each_token = "n_probs" in request.body and self._can_ask_each_token

    async def run(self) -> None:
        """Send requests to the engine, and the packets of the answer to the client.

        :raises EngineRequestError: the engine rejected the request.
        """
        with self._reservation:
            while not self._answer.finished:
                body, generated = self._body, self._continuation.total
                if generated:
                    body = self._continuation.continued(body)
                    self._answer.continue_after(generated)
                body, is_part = await self._admit(body)
                try:
                    await self._ask(body, is_part=is_part)
                except EngineRequestError as error:
                    if not self._recovers_from(error):
                        await self._end_on_error(error)
                if self._is_full:
                    await self._roll_window()
                elif is_part and self._continuation.total == generated:
                    # The part ended within a character, and another part of the same size would end there again.
                    self._alone = True

    # -- admission

    async def _admit(self, body: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """Wait until tokens can be reserved; return the request body, and whether it is for a part of the answer."""
        capacity = self._budget.capacity
        if capacity is None:
            return body, False
        length, share = await self._length(body), self._budget.share
        self._asked_length = length
        margin = _MARGIN + self._draft_length()
        limit: int | None = body.get("n_predict")
        whole = capacity if length is None or limit is None else length + limit + margin
        least = most = min(whole, capacity)
        if least == capacity and length is not None and self._request.can_continue and not self._alone:
            least, most = length + share // 4 + margin, max(share, length + share // 2) + margin
        self._use.waits = True
        await self._reservation.take(least, most)
        self._use.waits = False
        held = self._reservation.tokens
        if length is None or held >= min(whole, capacity):
            return body, False
        return {**body, "n_predict": held - length - margin}, True

    async def _length(self, body: Mapping[str, Any]) -> int | None:
        """Return an upper bound of the tokens of prompt and answer so far, or None if only the engine knows it."""
        if self._prompt_length is None:
            prompt = self._request.prompt if self._request.is_chat else self._body["prompt"]
            if prompt is None:
                return None
            # A token has at least one byte, so that the number of bytes is an upper bound. The exact number is worth a
            # call to the engine only for long prompts.
            most = len(prompt) if isinstance(prompt, list) else len(prompt.encode(errors="replace"))
            if isinstance(prompt, str) and most > self._budget.share // 2:
                most = await self._count_tokens(prompt)
            self._prompt_length = most
        return await self._continuation.length(self._engine, body, self._prompt_length)

    async def _count_tokens(self, prompt: str) -> int:
        """Count the tokens of a prompt; stop counting when they are more than can be reserved."""
        count = 0
        # Tokenize in pieces: parsing the tokens of millions of characters would block the event loop for seconds.
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
        # With a draft model the answer must be streamed, because the engine counts drafted tokens only in a stream.
        return not self._request.is_chat and self._request.can_continue and not self._draft_length()

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
        answer, has_begun = self._answer, False
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
                self._continuation.feed(frame)
                if not has_begun and answer.generating:
                    has_begun = True
                    self._learn_length(body)
                if was_reading:
                    latest = answer.latest_progress
                    self._use.prompt_progress = latest.progress
                    self._channel.repeat_when_silent(latest)
                    if answer.generating:
                        self._use.status = "generating"
                if answer.finished:
                    break

    def _lacks_tokens(self, frame: Frame) -> bool:
        """Whether the engine has withheld the last tokens at the limit, because they end within a character."""
        return (
            self._can_ask_each_token
            and isinstance(self._continuation, TextContinuation)
            and self._continuation.lacks(frame)
        )

    def _learn_length(self, body: Mapping[str, Any]) -> None:
        """Release the reserved tokens that the prompt, as the engine has counted it, does not need."""
        if not self._continuation.asked_at and (length := self._answer.prompt_length):
            self._prompt_length = self._asked_length = length
        limit = body.get("n_predict")
        if self._asked_length is not None and limit is not None:
            margin = _MARGIN + self._draft_length()
            self._reservation.keep(self._asked_length + limit + margin)

    # -- the end of the context

    async def _roll_window(self) -> None:
        """Leave out the oldest tokens of prompt and answer; end the answer if that is not possible."""
        self._is_full = False
        changed = None if self._window is None else await self._continuation.roll(self._window, self._engine)
        if changed is None:
            await self._end("contextLengthReached")
            return
        self._body = {**self._body, **changed}
        self._prompt_length = None

    # -- errors

    def _recovers_from(self, error: EngineRequestError) -> bool:
        """Return whether a retry can succeed, because other predictions had a part of the context.

        The retry then reserves the whole context.
        """
        if not error.context_is_full or self._has_all():
            return False
        self._alone = True
        return self._request.can_continue or not self._answer.generating

    def _has_all(self) -> bool:
        """Whether no other prediction has a part of the context."""
        capacity = self._budget.capacity
        return capacity is None or self._reservation.tokens >= capacity

    async def _end_on_error(self, error: EngineRequestError) -> None:
        """End the answer, or continue it in a window or after a broken tool call.

        :raises EngineRequestError: nothing of this is possible.
        """
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
    """Whether a frame is the last one of an answer that the engine cut off at a limit."""
    if choices := frame.get("choices"):
        return any(choice.get("finish_reason") == "length" for choice in choices)
    return bool(frame.get("stop")) and frame.get("stop_type") == "limit"


def _ends_at_context(frame: Frame, body: Frame) -> bool:
    """Whether an answer was cut off at the end of the context, and not at its own limit."""
    limit = body.get("n_predict")
    if "choices" in frame:
        return limit is None or int(frame["timings"]["predicted_n"]) < limit
    return bool(frame.get("truncated")) and (limit is None or int(frame["tokens_predicted"]) < limit)
