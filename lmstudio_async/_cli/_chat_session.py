"""A chat: the conversation, the model, and its answers."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import attrs

from lmstudio_async import Chat
from lmstudio_async._cli._answer import AnswerScreen, stats_text, stop_note
from lmstudio_async._cli._interrupts import interrupts_call
from lmstudio_async._cli._model_access import get_model
from lmstudio_async._cli._progress_line import message_lines
from lmstudio_async._cli._run import message_of
from lmstudio_async._printable import printable_lines
from lmstudio_async.errors import (
    LMStudioError,
    LMStudioInstanceUnloadedError,
    LMStudioModelNotFoundError,
    LMStudioServerError,
)

if TYPE_CHECKING:
    from lmstudio_async import (
        AsyncClient,
        AsyncLLM,
        AsyncPredictionStream,
        FileHandle,
        LlmPredictionConfigDict,
        LlmPredictionStats,
        PredictionResult,
    )
    from lmstudio_async._cli._console import Console
    from lmstudio_async._cli._target import Target

__all__ = ["ChatSession"]

ResultT = TypeVar("ResultT")


@attrs.define(kw_only=True)
class ChatSession:
    """A chat with one model after another.

    :param target: the server as the user has named it.
    :param key: the name by which the user has given the model.
    :param llm: its instance. If that is unloaded, it is loaded again.
    :param chat: the conversation so far.
    :param images: images of the next message.
    :param ttl: idle seconds of new instances; None for the default of the SDK.
    :param load: load config of new instances.
    :param prediction: prediction config of the answers.
    """

    client: AsyncClient
    target: Target
    console: Console
    key: str
    llm: AsyncLLM
    chat: Chat
    images: Sequence[FileHandle]
    ttl: float | None
    load: dict[str, Any]
    prediction: LlmPredictionConfigDict
    shows_reasoning: bool
    shows_stats: bool
    stats: LlmPredictionStats | None = None
    is_over: bool = False
    #: Files that this chat has written or read, and may replace.
    own_files: set[Path] = attrs.field(factory=set)

    def tell(self, text: str) -> None:
        """Print a message that is not an answer."""
        print(message_lines(printable_lines(text, 20_000)), file=sys.stderr, flush=True)

    # -- the conversation

    @property
    def system_prompt(self) -> str | None:
        """The system prompt, if there is one."""
        return self.chat[0].text if len(self.chat) and self.chat[0].role == "system" else None

    def set_system_prompt(self, text: str) -> None:
        """Replace the system prompt, and keep all messages."""
        messages = list(self.chat)[self.system_prompt is not None :]
        self.chat = Chat(text)
        for message in messages:
            self.chat.append(message)

    def clear(self) -> None:
        """Forget all messages, and the images of the next one."""
        self.replace(Chat(self.system_prompt))
        self.images = ()

    def replace(self, chat: Chat) -> None:
        """Go on with another conversation."""
        self.chat = chat
        self.stats = None

    async def change_model(self, key: str) -> None:
        """Go on with another model, if it can be loaded."""
        llm = await self._interruptible(lambda: self._get_model(key))
        if llm is not None:
            self.key, self.llm = key, llm

    # -- answers

    async def reply(self, line: str) -> None:
        """Answer a message. A failure is a message of the chat, and what was said does not count then."""
        before = self.chat.copy()
        self.chat.add_user_message(line, images=self.images)
        try:
            result = await self._answer()
            if result is None or not result.content:
                # Without an answer, the next message would be added to this one.
                self.chat = before
                if result is not None and result.stats.stop_reason != "userStopped":
                    self.tell(
                        f"The answer is empty, and the message is forgotten. {stats_text(result.stats)}"
                    )
                return
            self.chat.append(result)
        except (LMStudioError, OSError) as error:
            self.chat = before
            self._explain(error)
            return
        self.images = ()
        self.stats = result.stats
        if note := stop_note(result.stats, self.llm.info.context_length):
            self.tell(note)
        if self.shows_stats:
            self.tell(stats_text(result.stats))

    async def _answer(self) -> PredictionResult[Any] | None:
        """Return the answer to the last message, with a new instance if the old one is gone; None if that is stopped."""
        try:
            return await self._stream()
        except LMStudioInstanceUnloadedError as error:
            if error.content:
                raise
            self.tell(f"{error.title.rstrip('.')}. Loading it again.")
        llm = await self._interruptible(self._get_model_again)
        if llm is None:
            return None
        self.llm = llm
        return await self._stream()

    async def _stream(self) -> PredictionResult[Any]:
        screen = AnswerScreen(
            streams=True,
            shows_reasoning=self.shows_reasoning,
            shows_progress=self.console.draws_progress,
        )
        async with self.llm.respond_stream(
            self.chat,
            config=self.prediction,
            on_prompt_processing_progress=screen.on_prompt_processing_progress,
        ) as stream:
            return await _until_stopped(stream, screen)

    async def _get_model(self, key: str, *, may_offer: bool = True) -> AsyncLLM:
        return await get_model(
            self.client,
            self.client.llm,
            key,
            self.console,
            ttl=self.ttl,
            config=self.load,
            target=self.target,
            may_offer=may_offer,
        )

    async def _get_model_again(self) -> AsyncLLM:
        try:
            return await self._get_model(self.key, may_offer=False)
        except LMStudioModelNotFoundError:
            # The user has named an instance, not a model.
            return await self._get_model(self.llm.info.model_key, may_offer=False)

    async def _interruptible(self, work: Callable[[], Awaitable[ResultT]]) -> ResultT | None:
        """Run a load that Ctrl-C cancels; None if it did."""
        with anyio.CancelScope() as scope, interrupts_call(scope.cancel):
            return await work()
        self.tell("Stopped.")
        return None

    def _explain(self, error: Exception) -> None:
        self.tell(message_of(error))
        if isinstance(error, LMStudioServerError) and "context" in error.title:
            self.tell("In this chat: /clear begins again, and -c TOKENS loads a model with a longer context.")
        elif isinstance(error, LMStudioServerError) and self.images:
            self.tell(
                "In this chat: /clear forgets the images, which are part of the next message otherwise."
            )


async def _until_stopped(stream: AsyncPredictionStream[Any], screen: AnswerScreen) -> PredictionResult[Any]:
    """Show an answer up to its end, or until Ctrl-C, which keeps the text so far."""
    stopped = anyio.Event()
    error: Exception | None = None

    async def stop() -> None:
        await stopped.wait()
        await stream.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop)
        try:
            with interrupts_call(stopped.set):
                await screen.follow(stream)
                result = await stream.wait_for_result()
        except Exception as failure:  # noqa: BLE001 - raised below, because the task group would wrap it
            error = failure
        tasks.cancel_scope.cancel()
    if error is not None:
        raise error
    return result
