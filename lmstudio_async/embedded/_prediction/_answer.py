"""Conversion of the engine's frames to the packets of a prediction: text, thoughts, tool calls and statistics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import StringIO
from typing import Any

import anyio

from lmstudio_async._wire._predict import (
    FragmentPacket,
    LlmPredictionFragment,
    LlmPredictionStats,
    PromptProcessingDetails,
    PromptProcessingProgressPacket,
    TokenCandidate,
    TokenInfo,
)
from lmstudio_async._wire._struct import WireObject
from lmstudio_async.embedded._engine._engine_stream import Frame
from lmstudio_async.embedded._prediction._call_finder import BrokenCall, CallFinder, Found
from lmstudio_async.embedded._prediction._default_tools import RequestScanner
from lmstudio_async.embedded._prediction._mark_scanners import ReasoningParser, StopScanner
from lmstudio_async.embedded._prediction._template_messages import ToolNames
from lmstudio_async.embedded._prediction._tool_call_packets import ToolCallPackets

__all__ = ["Answer"]


class Answer:
    """One answer that is being generated. Feed it the engine's frames, and send the packets that it yields.

    :param limit: the most tokens that the answer may have; None for no limit.
    :param candidates: the number of candidate tokens to report at each position; None to report no tokens at all, not
        even the chosen ones.
    :param reasoning: separates thoughts from the rest of the text.
    :param names: the names of the tools at the client.
    :param stop_strings: the strings that end the answer, but not a thought. The engine does not get them, because it
        would also stop within a thought.
    :param requests: finds the tool calls in the form of LM Studio's default tool use.
    :param calls: finds the tool calls in the model's own form, where the engine does not parse them.
    :ivar generating: whether the prompt is processed and tokens arrive.
    :ivar finished: whether the answer is complete, so that no further frame is needed.
    """

    def __init__(
        self,
        *,
        limit: int | None,
        candidates: int | None,
        reasoning: ReasoningParser,
        names: ToolNames,
        stop_strings: Sequence[str] = (),
        requests: RequestScanner | None = None,
        calls: CallFinder | None = None,
    ) -> None:
        self.generating = False
        self.finished = False
        # A buffer, because a string would be copied for each appended token.
        self._text = StringIO()
        self.stop_reason = "failed"
        self._limit = limit
        self._candidates = candidates
        self._reasoning = reasoning
        self._stops = StopScanner(stop_strings)
        self._tool_calls = ToolCallPackets(names)
        self._requests = requests
        self._calls = calls
        self._started_at = anyio.current_time()
        self._first_token_at: float | None = None
        self._stop_string: str | None = None
        self._prompt = PromptProcessingDetails()
        self._progress = 0.0
        self._predicted = 0
        self._uncounted = 0
        self._thoughts_apart = False
        self._unsent_tokens: list[TokenInfo] = []
        self._timings: Frame = {}
        self._broken_call: str | None = None
        self._predicted_before = 0
        self._accepted = 0
        self._accepted_before = 0
        self._drafted_before = 0
        self._drafted_left = 0

    def begin(self) -> PromptProcessingProgressPacket:
        """Return the first packet."""
        return PromptProcessingProgressPacket(progress=0.0, details=self._prompt)

    @property
    def latest_progress(self) -> PromptProcessingProgressPacket:
        """The latest progress of prompt processing, as a packet."""
        return PromptProcessingProgressPacket(progress=self._progress, details=self._prompt)

    @property
    def text(self) -> str:
        """The text of all fragments so far, including thoughts and their tags, but no tool calls."""
        return self._text.getvalue()

    @property
    def predicted(self) -> int:
        """Number of generated tokens."""
        return self._predicted

    @property
    def prompt_length(self) -> int:
        """Number of tokens in the prompt; 0 until the engine reports it."""
        return self._prompt.total_prompt_token_count

    def continue_after(self, predicted: int) -> None:
        """Treat all later frames as the continuation of the first ``predicted`` tokens of the answer."""
        repeated = self._predicted - predicted
        self._predicted = self._predicted_before = predicted
        self._uncounted = max(self._uncounted - repeated, 0)
        self._unsent_tokens = self._unsent_tokens[: len(self._unsent_tokens) - repeated]
        # The engine counts the drafts of each request from 0.
        self._drafted_before += int(self._timings.get("draft_n", 0))
        self._accepted_before += int(self._timings.get("draft_n_accepted", 0))
        self._accepted, self._timings = 0, {}

    def feed(self, frame: Frame) -> Iterator[WireObject]:
        """Process one frame of ``/completion`` or ``/v1/chat/completions``, and yield packets."""
        self._timings = frame.get("timings") or self._timings
        if "prompt_progress" in frame:
            yield from self._prompt_progress(frame["prompt_progress"])
        elif "choices" in frame:
            for choice in frame["choices"]:
                yield from self._chat(choice)
        else:
            yield from self._completion(frame)
        if self._stop_string is not None and self.stop_reason != "stopStringFound":
            self.finished = True
            self.stop_reason = "stopStringFound"
            yield from self._tool_calls.finish()

    def _prompt_progress(self, progress: Frame) -> Iterator[WireObject]:
        if self.generating:
            return  # The continuation of an answer: its prompt includes the text that was generated before.
        total, done = int(progress["total"]), int(progress["processed"])
        self._prompt = PromptProcessingDetails(
            cached_token_count=int(progress["cache"]),
            total_prompt_token_count=total,
            processed_prompt_token_count=done,
            unprocessed_prompt_token_count=max(total - done, 0),
        )
        fraction = done / total if total else 1.0
        if fraction > self._progress:
            self._progress = min(fraction, 1.0)
            yield self.latest_progress

    def _completion(self, frame: Frame) -> Iterator[WireObject]:
        """Process a frame of ``/completion``."""
        predicted = self._predicted_before + int(frame.get("tokens_predicted", 0))
        self._count_prompt(int(frame.get("tokens_evaluated", 0)))
        yield from self._tokens(predicted, frame.get("completion_probabilities"))
        text = frame.get("content", "")
        if self._calls is not None and self.has_called:
            # From the first call on, no thoughts: the arguments of a call may contain the start tag of thoughts.
            text = "".join(piece for piece, _ in self._reasoning.flush()) + text
            self._reasoning = ReasoningParser(None)
        yield from self._content(text)
        if frame.get("stop"):
            self.finished = True
            self.stop_reason = "eosFound" if frame.get("stop_type") == "eos" else self._limit_reached()
            yield from self._flush()

    def _chat(self, choice: Frame) -> Iterator[WireObject]:
        """Process a frame of ``/v1/chat/completions``."""
        delta, timings = choice.get("delta") or {}, self._timings
        if timings:
            self._count_prompt(int(timings.get("prompt_n", 0)) + int(timings.get("cache_n", 0)))
        content, thought = delta.get("content"), delta.get("reasoning_content")
        if content or thought or delta.get("tool_calls"):
            logprobs = (choice.get("logprobs") or {}).get("content")
            yield from self._tokens(self._predicted_by(timings, self._predicted + 1), logprobs)
        if thought:
            self._thoughts_apart = True
            yield from self._read(self._reasoning.feed_thought(thought))
        if content:
            yield from self._end_thought()
            yield from self._content(content)
        if delta.get("tool_calls"):
            yield from self._end_thought()
            yield from self._read(self._reasoning.flush())
            yield from self._end_calls()
            yield from self._held_fragments()
            yield from self._tool_calls.feed(delta["tool_calls"])
        if reason := choice.get("finish_reason"):
            self.finished = True
            self._predicted = self._predicted_by(timings, self._predicted)
            self.stop_reason = {"stop": "eosFound", "tool_calls": "toolCalls"}.get(
                reason
            ) or self._limit_reached()
            yield from self._flush()

    def _predicted_by(self, timings: Frame, otherwise: int) -> int:
        """Return the token count of the whole answer, or ``otherwise`` if the engine reports no count."""
        return self._predicted_before + int(timings["predicted_n"]) if "predicted_n" in timings else otherwise

    def _content(self, text: str) -> Iterator[WireObject]:
        """Process a piece of generated text, which may contain thoughts and tool calls."""
        calls: list[dict[str, Any]] = []
        if self._requests is not None:
            text, calls = self._requests.feed(text)
        yield from self._read(self._reasoning.feed(text))
        yield from self._tool_calls.feed(calls)

    def _read(self, pieces: Sequence[tuple[str, str]]) -> Iterator[WireObject]:
        """Yield packets for pieces of thoughts and of the answer. A stop string ends the answer, but no thought."""
        for text, kind in pieces:
            if self._stop_string is not None:
                return
            if kind == "none":
                yield from self._answer_packets([text] if self._calls is None else self._calls.feed(text))
            else:
                yield from self._end_calls()
                yield from self._held_fragments()
                yield from self._fragments([(text, kind)])

    def _answer_packets(self, found: Sequence[Found]) -> Iterator[WireObject]:
        """Yield packets for pieces of the answer: text or tool calls."""
        for each in found:
            if self._stop_string is not None:
                return
            if isinstance(each, str):
                visible, self._stop_string = self._stops.feed(each)
                yield from self._fragments([(visible, "none")])
            else:
                yield from self._held_fragments()
                yield from self._tool_calls.feed_found(each)

    def _end_calls(self) -> Iterator[WireObject]:
        if self._calls is not None:
            yield from self._answer_packets(self._calls.flush())

    def _held_fragments(self) -> Iterator[WireObject]:
        """Yield the part of the answer that was held back, because it has no stop string after all."""
        yield from self._fragments([(self._stops.flush(), "none")])

    def _flush(self) -> Iterator[WireObject]:
        """Yield everything that was held back, at the end of the answer."""
        if self._requests is not None:
            yield from self._read(self._reasoning.feed(self._requests.flush()))
            if self._requests.found_any and self.stop_reason == "eosFound":
                self.stop_reason = "toolCalls"
        yield from self._read(self._reasoning.flush())
        yield from self._end_calls()
        if self._calls is not None and self._calls.found_any and self.stop_reason == "eosFound":
            self.stop_reason = "toolCalls"
        yield from self._held_fragments()
        yield from self._tool_calls.finish()
        if self.stop_reason == "failed" and self._tool_calls.any_whole:
            self.stop_reason = "toolCalls"
        if self._broken_call is not None:
            yield from self._tool_calls.feed_found(BrokenCall(self._broken_call))

    def _end_thought(self) -> Iterator[WireObject]:
        if self._thoughts_apart:
            yield from self._read(self._reasoning.end_thought())

    @property
    def has_called(self) -> bool:
        """Whether the model has called a tool."""
        return self._tool_calls.any

    def break_call(self, raw: str) -> None:
        """Record a tool call that the engine could not parse, to be reported as broken at the end of the answer.

        :param raw: the text at which the engine's parser failed.
        """
        self._broken_call = raw

    def continue_with(self, calls: CallFinder | None) -> None:
        """Treat all later frames as the continuation of :attr:`text`, in which the engine parses no tool calls.

        :param calls: finds the tool calls in the continuation.
        """
        self._predicted_before = self._predicted
        # Drop the text that was held back, because the model generates it again.
        self._stops.flush()
        self._reasoning.flush()
        self._calls = calls

    def stop(self, reason: str) -> Iterator[WireObject]:
        """End the answer early for ``reason``, and yield everything that was held back."""
        self.stop_reason = reason
        yield from self._flush()

    def _limit_reached(self) -> str:
        within = self._limit is None or self._predicted < self._limit
        return "contextLengthReached" if within else "maxPredictedTokensReached"

    def _count_prompt(self, total: int) -> None:
        if not self._prompt.total_prompt_token_count and total:
            self._prompt = PromptProcessingDetails(
                total_prompt_token_count=total, processed_prompt_token_count=total
            )

    def _tokens(self, predicted: int, probabilities: Sequence[Frame] | None) -> Iterator[WireObject]:
        if not self.generating:
            self.generating = True
            self._first_token_at = anyio.current_time()
            if self._progress < 1:
                # The engine reports no progress for a prompt that is still in its cache.
                self._progress = 1.0
                yield self.latest_progress
        accepted = int(self._timings.get("draft_n_accepted", 0))
        self._drafted_left += max(accepted - self._accepted, 0)
        self._accepted = accepted
        self._uncounted += max(predicted - self._predicted, 0)
        self._predicted = max(predicted, self._predicted)
        if self._candidates is not None:
            self._unsent_tokens += [_token_info(each, self._candidates) for each in probabilities or ()]

    def _fragments(self, pieces: Sequence[tuple[str, str]]) -> Iterator[WireObject]:
        """Yield a packet for each piece, with all tokens since the packet before."""
        for text, kind in pieces:
            if not text:
                continue
            structural = kind.endswith("Tag")
            self._text.write(text)
            yield FragmentPacket(
                fragment=LlmPredictionFragment(
                    content=text,
                    tokens_count=self._uncounted,
                    contains_drafted=self._drafted_left > 0,
                    reasoning_type=kind,
                    is_structural=structural,
                    tokens=self._unsent_tokens if self._candidates is not None else None,
                )
            )
            # The engine counts all accepted drafts in the frame of the first one, and sends one of them per frame.
            self._drafted_left = max(self._drafted_left - self._uncounted, 0)
            self._uncounted, self._unsent_tokens = 0, []

    def stats(self, gpu_layers: float | None, draft_key: str | None) -> LlmPredictionStats:
        """Return the statistics of the answer so far."""
        now = anyio.current_time()
        prompt = self._prompt.total_prompt_token_count
        first = self._first_token_at
        speed = self._timings.get("predicted_per_second")
        if not self.finished or not isinstance(speed, int | float):
            elapsed = 0.0 if first is None else now - first
            speed = self._predicted / elapsed if elapsed > 0 else None
        drafts: dict[str, Any] = {}
        if draft_key is not None:
            # The engine omits these numbers if no token was drafted.
            drafted = self._drafted_before + int(self._timings.get("draft_n", 0))
            accepted = self._accepted_before + int(self._timings.get("draft_n_accepted", 0))
            drafts = {
                "used_draft_model_key": draft_key,
                "total_draft_tokens_count": drafted,
                "accepted_draft_tokens_count": accepted,
                "rejected_draft_tokens_count": drafted - accepted,
                "ignored_draft_tokens_count": 0,
            }
        return LlmPredictionStats(
            stop_reason=self.stop_reason,
            stop_string=self._stop_string,
            tokens_per_second=speed,
            num_gpu_layers=gpu_layers,
            time_to_first_token_sec=None if first is None else first - self._started_at,
            total_time_sec=now - self._started_at,
            prompt_tokens_count=prompt,
            predicted_tokens_count=self._predicted,
            total_tokens_count=prompt + self._predicted,
            **drafts,
        )


def _token_info(token: Frame, candidates: int) -> TokenInfo:
    others = [
        TokenCandidate(text=each["token"], id=int(each["id"]), log_prob=float(each["logprob"]))
        for each in (token.get("top_logprobs") or ())[:candidates]
    ]
    return TokenInfo(
        text=token["token"], id=int(token["id"]), log_prob=float(token["logprob"]), candidates=others or None
    )
