"""Continuation of a prompt with one frame for each token, also for tokens that end within a character."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import anyio

from lmstudio_async.embedded._engine._engine import Engine
from lmstudio_async.embedded._engine._engine_stream import Frame
from lmstudio_async.embedded._prediction._continuation import after, with_tokens

__all__ = ["token_frames"]

#: Seconds that one request should take at most, and its maximum number of tokens. Its tokens are delayed until its end.
_LONGEST: Final = 0.1
_MOST: Final = 16
#: Number of likeliest tokens to search for the sampled one. At a very high temperature it may be none of them; then all
#: tokens are searched.
_LIKELIEST: Final = 200
_ALL: Final = 10_000_000
_REPLACED: Final = "\ufffd"


@asynccontextmanager
async def token_frames(engine: Engine, body: Mapping[str, Any]) -> AsyncIterator[AsyncIterator[Frame]]:
    """Stream the frames of ``/completion``, with one frame for each token, and all text of the last token.

    The engine streams no frame for a token that ends within a character, so that its text and its probabilities are
    lost. Without streaming, the engine returns all tokens. Therefore this function requests a few tokens at a time
    without streaming, continues from them, and requests the missing probabilities.

    :param engine: the engine.
    :param body: the request. It must not have a grammar, because the engine cannot continue an answer under a grammar.
    """
    async with aclosing(_frames(engine, body)) as frames:
        yield frames


async def _frames(engine: Engine, body: Mapping[str, Any]) -> AsyncGenerator[Frame, None]:
    limit: int | None = body.get("n_predict")
    # The engine's rounding depends on the number of tokens that it processes at once. For a reproducible answer this
    # number must not depend on the time.
    is_reproducible = body.get("cache_prompt") is False
    tokens: list[int] = []
    last: Frame = {}
    # Stream the first token, because the engine reports the progress of the prompt only in a stream.
    async with engine.complete({**body, "n_predict": 1}) as frames:
        async for frame in frames:
            if frame.get("stop"):
                last = frame
            else:
                tokens += () if "prompt_progress" in frame else frame["tokens"]
                yield frame
    count = 1
    while last["stop_type"] == "limit" and not last["truncated"] and (limit is None or len(tokens) < limit):
        rest = after(len(tokens), body)
        count = min(count, rest.get("n_predict", count))
        began = anyio.current_time()
        prompt = with_tokens(body["prompt"], tokens)
        last = await engine.complete_at_once(
            {"n_probs": 1, **body, "prompt": prompt, **rest, "n_predict": count}
        )
        is_fast = is_reproducible or anyio.current_time() - began < _LONGEST / 2
        known = dict(_placed(last))
        if last["stop_type"] == "limit" and count < rest.get("n_predict", _MOST):
            # Drop tokens of an incomplete character: the engine cannot continue within it, as its first bytes are lost.
            last["tokens"] = last["tokens"][: max(known, default=-1) + 1]
        count = min(count * 2, _MOST) if is_fast or not known else max(count // 2, 1)
        unsent = last["content"]
        for place, token in enumerate(last["tokens"]):
            probabilities = known.get(place)
            text = "" if probabilities is None else probabilities["token"]
            if probabilities is None and "n_probs" in body:
                probabilities = await _probabilities(engine, body, tokens, token)
            unsent = unsent.removeprefix(text)
            tokens.append(token)
            yield {
                "content": text,
                "tokens": [token],
                "tokens_predicted": len(tokens),
                "completion_probabilities": [probabilities] if probabilities else [],
            }
        if limit is not None and len(tokens) >= limit:
            yield {"content": unsent.rstrip(_REPLACED), "tokens_predicted": len(tokens)}
    yield {
        "stop": True,
        "stop_type": last["stop_type"],
        "truncated": last["truncated"],
        "tokens_predicted": len(tokens),
    }


def _placed(answer: Frame) -> Iterator[tuple[int, Frame]]:
    """Yield the probabilities in an answer, each with the index of its token.

    Tokens that end within a character have no probabilities.
    """
    known = deque(answer.get("completion_probabilities", ()))
    for place, token in enumerate(answer["tokens"]):
        if known and known[0]["id"] == token:
            yield place, known.popleft()


async def _probabilities(
    engine: Engine, body: Mapping[str, Any], before: Sequence[int], token: int
) -> Frame | None:
    """Return the log probabilities of a token that ends within a character, and of the likeliest tokens there."""
    # The engine reports the likeliest tokens only with a token that ends a character. A bias makes it choose such a
    # token; the reported probabilities are those without the bias.
    prompt = with_tokens(body["prompt"], before)
    for count in (_LIKELIEST, _ALL):
        _, answer = await engine.prefer_plain_token(
            {**body, "prompt": prompt, "n_probs": max(count, body["n_probs"])}
        )
        likeliest = answer["completion_probabilities"][0]["top_logprobs"]
        found: Frame | None = next((each for each in likeliest if each["id"] == token), None)
        if found is not None:
            return {**found, "top_logprobs": likeliest}
    return None
