"""The screen of an answer, and its statistics."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

from lmstudio_async._cli._plain_text import plain
from lmstudio_async._cli._progress_line import ProgressLine, bar_text
from lmstudio_async._printable import printable

if TYPE_CHECKING:
    from lmstudio_async import AsyncPredictionStream, LlmPredictionFragment, LlmPredictionStats

__all__ = ["AnswerScreen", "stats_as_json", "stats_text", "stop_note"]

#: Seconds of prompt processing after which its progress is shown.
_PATIENCE = 0.5


class AnswerScreen:
    """Shows an answer as it comes: the answer on standard output, everything else on standard error.

    :param streams: whether to print the answer piece by piece.
    :param shows_reasoning: whether to print the model's thoughts.
    :param shows_progress: whether to draw the processing of a long prompt.
    """

    def __init__(self, *, streams: bool, shows_reasoning: bool, shows_progress: bool) -> None:
        is_terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._progress = ProgressLine() if shows_progress else None
        self._streams = streams
        self._shows_reasoning = shows_reasoning
        self._is_coloured = is_terminal and not os.environ.get("NO_COLOR")
        self._began = time.monotonic()
        self._is_thinking = False
        self._has_answer = False
        self._ends_line = True

    async def follow(self, stream: AsyncPredictionStream[Any]) -> None:
        """Show the fragments of an answer up to its end."""
        try:
            async for fragment in stream:
                self._show(fragment)
        finally:
            self._erase_progress()
            if self._is_thinking:
                self._end_thoughts()
        if self._has_answer and not self._ends_line:
            self._ends_line = True
            sys.stdout.write("\n")
            sys.stdout.flush()

    def on_prompt_processing_progress(self, fraction: float) -> None:
        """Show how much of the prompt is processed, if that takes a while."""
        if self._progress is not None and time.monotonic() - self._began > _PATIENCE and fraction < 1.0:
            self._progress.show(bar_text("reading the prompt", fraction, (), self._progress.width))

    def _show(self, fragment: LlmPredictionFragment) -> None:
        self._erase_progress()
        text = plain(fragment.content)
        if fragment.reasoning_type == "reasoning":
            if self._shows_reasoning and (self._is_thinking or text.strip()):
                self._think(text if self._is_thinking else text.lstrip())
            return
        if fragment.reasoning_type != "none" or fragment.is_structural or not self._streams:
            return
        if not self._has_answer:
            # Chat templates put blank lines between thoughts and answer.
            text = text.lstrip("\n")
            if not text:
                return
            if self._is_thinking:
                self._end_thoughts()
        self._has_answer = True
        self._ends_line = text.endswith("\n")
        sys.stdout.write(text)
        sys.stdout.flush()

    def _think(self, text: str) -> None:
        self._is_thinking = True
        sys.stderr.write(f"\x1b[2m{text}\x1b[22m" if self._is_coloured else text)
        sys.stderr.flush()

    def _end_thoughts(self) -> None:
        self._is_thinking = False
        sys.stderr.write("\n\n")
        sys.stderr.flush()

    def _erase_progress(self) -> None:
        if self._progress is not None:
            self._progress.erase()


def stats_text(stats: LlmPredictionStats) -> str:
    """Return the statistics of an answer as one line."""
    counts = {"prompt": stats.prompt_tokens_count, "answer": stats.predicted_tokens_count}
    known = ", ".join(f"{name} {count}" for name, count in counts.items() if count is not None)
    parts = [f"{known} tokens"] if known else []
    if stats.tokens_per_second is not None:
        parts.append(f"{stats.tokens_per_second:,.1f} tokens/s")
    if stats.time_to_first_token_sec is not None:
        parts.append(f"first token {stats.time_to_first_token_sec:.2f} s")
    if stats.used_draft_model_key:
        accepted, total = stats.accepted_draft_tokens_count, stats.total_draft_tokens_count
        parts.append(
            f"draft by {printable(stats.used_draft_model_key)}: {accepted} of {total} tokens accepted"
        )
    parts.append(f"stop: {printable(stats.stop_reason)}")
    return ", ".join(parts)


def stats_as_json(stats: LlmPredictionStats) -> dict[str, Any]:
    """Return the statistics of an answer."""
    import attrs

    return {
        field.name: getattr(stats, field.name) for field in attrs.fields(type(stats)) if field.name != "extra"
    }


def stop_note(stats: LlmPredictionStats, context_length: int) -> str | None:
    """Return why an answer is not complete, and what to do; None if it is, or if the user wanted it so."""
    if stats.stop_reason == "contextLengthReached":
        return (
            f"The answer is cut off, because the context of {context_length} tokens is full. For a larger one, load the "
            "model with -c TOKENS."
        )
    if stats.stop_reason == "modelUnloaded":
        return "The answer is cut off, because the model was unloaded."
    return None
