"""Server side of a worker process: its start, its requests and its end."""

from __future__ import annotations

import json
import math
import os
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NoReturn

import anyio
import anyio.to_thread
import attrs

from lmstudio_async.embedded._engine._engine_http_client import (
    EngineConnectionLost,
    EngineHttpClient,
    EngineRequestError,
    Exchange,
)
from lmstudio_async.embedded._engine._engine_load_progress import EngineLoadProgress
from lmstudio_async.embedded._engine._engine_spec import EngineSpec, default_threads
from lmstudio_async.embedded._engine._engine_stream import EngineStream
from lmstudio_async.embedded._engine._pulse import ObservedWorker, Pulse
from lmstudio_async.embedded._engine._worker import Failed, Loading, ReadAhead, Ready, read_event
from lmstudio_async.embedded._engine._worker_process import WorkerProcess
from lmstudio_async.embedded._machine._main_memory import available_memory
from lmstudio_async.embedded._requirements import ILLEGAL_INSTRUCTION
from lmstudio_async.embedded._templates._call_form import CallForm
from lmstudio_async.embedded._templates._reasoning_tags import ThoughtForm
from lmstudio_async.embedded._templates._template_message import TemplateMessage

__all__ = [
    "Engine",
    "EngineFailure",
    "EngineRequestError",
    "EngineSpec",
    "EngineStream",
    "default_threads",
    "worker_instructions",
]

# Number of schemas for which `Engine.follows` is cached.
_REMEMBERED: Final = 256


class EngineFailure(Exception):
    """The worker could not load the model, has ended, or gave an unusable answer.

    :param reason: the reason for a human reader, in the engine's own words if it has logged an error.
    :param exit_code: the exit code of the process, negative for a signal; ``None`` if it did not run or still runs.
    :param log: the last lines of the engine's log.
    :param unloaded: whether the worker ended because the model was unloaded.
    :param missing_engine: whether no usable engine is installed on this machine.
    """

    def __init__(
        self,
        reason: str,
        exit_code: int | None = None,
        log: Sequence[str] = (),
        *,
        unloaded: bool = False,
        missing_engine: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.exit_code = exit_code
        self.log = tuple(log)
        self.unloaded = unloaded
        self.missing_engine = missing_engine


class Engine:
    """One worker process with one loaded model. Its methods may be called from any task."""

    def __init__(self, spec: EngineSpec, worker: WorkerProcess, pulse: Pulse) -> None:
        self._spec = spec
        self._worker = worker
        self._http_client: EngineHttpClient | None = None
        self._has_gpu = False
        self._properties: dict[str, Any] | None = None
        self._followed: dict[str, bool] = {}
        self._plain_token: int | None = None
        # The forms that the chat template shows, set on first use: see ``_template_form``.
        self.thought_form: ThoughtForm | None = None
        self.call_form: CallForm | None = None
        self._pulse = pulse
        self._stall: EngineFailure | None = None
        self._closing = False
        self._closed = anyio.Event()

    @classmethod
    async def start(
        cls, spec: EngineSpec, on_progress: Callable[[float], None], pulse: Pulse | None = None
    ) -> Engine:
        """Start a worker and load the model. If this is cancelled, the worker process is ended.

        :param on_progress: receives fractions from 0 on, and 1 when the engine answers requests.
        :param pulse: detects a stalled worker, and has the limits for that; None for the defaults.
        :raises EngineFailure: the model cannot be loaded (with the engine's reason), or the worker stalls.
        """
        reason = spec.unsupported_reason()
        if reason is not None:
            raise EngineFailure(reason)
        pulse = Pulse() if pulse is None else pulse
        try:
            worker = await WorkerProcess.spawn(pulse.kill_seconds)
        except OSError as error:
            raise EngineFailure(f"no worker process can be started: {error.strerror or error}") from error
        engine = cls(spec, worker, pulse)
        try:
            progress = EngineLoadProgress(on_progress)
            await engine._load_watched(progress)
            progress.reach(1.0)
        except BaseException:
            await engine._end(grace=0)
            raise
        return engine

    @property
    def spec(self) -> EngineSpec:
        """The spec with which the engine was started."""
        return self._spec

    @property
    def pulse(self) -> Pulse:
        """The monitor that detects a stalled worker."""
        return self._pulse

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._worker.pid

    @property
    def has_gpu(self) -> bool:
        """Whether the engine found a GPU; without one, all GPU settings have no effect."""
        return self._has_gpu

    @property
    def log(self) -> tuple[str, ...]:
        """The last lines of the engine's log; see ``EngineSpec.verbose``."""
        return self._worker.log

    async def watch(self) -> str:
        """Wait until the process has ended, and return how, for a message. Kill it if it stalls.

        `EngineKeeper.keep` runs this as long as the engine is used.
        """
        limit = "answer_stall_seconds", self._pulse.answer_seconds
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._end_stalled, self._started_http_client, *limit, tasks.cancel_scope)
            await self._worker.wait()
            tasks.cancel_scope.cancel()
        if self._stall is not None:
            return self._stall.reason.removeprefix("the engine ")
        return f"crashed ({self._worker.ending()})"

    async def aclose(self) -> None:
        """Unload the model: end the process and clean up after it. Idempotent, shielded, and bounded in time."""
        if self._closing:
            await self._closed.wait()
        else:
            # A stalled worker does not react to the end of its input, so kill it at once.
            await self._end(grace=2 if self._stall is None else 0)

    async def properties(self) -> dict[str, Any]:
        """Return the engine's properties of the model: abilities of its chat template, modalities and more."""
        if self._properties is None:
            self._properties = await self._call("GET", "/props")
        return self._properties

    async def tokenize(self, text: str, *, add_special: bool) -> list[int]:
        """Return the tokens of a text, with or without the special ones at its beginning and its end."""
        answer = await self._call("POST", "/tokenize", {"content": text, "add_special": add_special})
        return list(answer["tokens"])

    async def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, including special ones."""
        answer = await self._call("POST", "/detokenize", {"tokens": list(tokens)})
        return str(answer["content"])

    async def embed(self, text: str) -> list[float]:
        """Return the vector of a text, normalized to the length one.

        :raises EngineFailure: the engine returned a vector of a wrong size, or with numbers that are not finite.
        """
        answer = await self._call("POST", "/v1/embeddings", {"input": text})
        vector = answer["data"][0]["embedding"]
        expected = self._spec.vector_length or len(vector)
        if len(vector) != expected:
            raise EngineFailure(
                f"the engine returned a vector of {len(vector)} numbers, and those of this model have {expected}: the "
                "file may be damaged, or of another kind of model"
            )
        # JSON has no infinite numbers: null stands for them.
        if any(value is None or not math.isfinite(value) for value in vector):
            raise EngineFailure(
                "the engine returned a vector with infinite or undefined numbers in it: the weights in the file may "
                "be damaged"
            )
        return [float(value) for value in vector]

    async def apply_template(
        self,
        messages: list[TemplateMessage],
        *,
        tools: list[dict[str, Any]] | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> str:
        """Return the prompt that the chat template makes of a conversation.

        :param messages: the conversation, in the form of OpenAI's chat completions.
        :param tools: the tools, in the same form.
        :param template_kwargs: variables for the template, such as ``enable_thinking``.
        :param more: other fields of the request, such as ``continue_final_message``.
        """
        body: dict[str, Any] = {"messages": messages, **more}
        if tools:
            body["tools"] = tools
        if template_kwargs:
            body["chat_template_kwargs"] = dict(template_kwargs)
        answer = await self._call("POST", "/apply-template", body)
        return str(answer["prompt"])

    async def prefer_plain_token(self, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Generate one token with a bias so high that it is the letter "x", unless a grammar forbids it.

        :param body: fields for ``/completion``; the prompt defaults to the token of the letter.
        :return: the token of the letter, and the engine's answer.
        """
        if self._plain_token is None:
            self._plain_token = (await self.tokenize("x", add_special=False))[-1]
        token = self._plain_token
        forced = {"n_predict": 1, "temperature": 0, "logit_bias": [[token, 1e9]]}
        return token, await self.complete_at_once({"prompt": [token], **body, **forced})

    async def follows(self, form: Mapping[str, Any]) -> bool:
        """Return whether the engine can enforce a form of the answer. It silently ignores a form that it cannot.

        :param form: a ``json_schema``, or a ``grammar``, that allows JSON.
        """
        text = json.dumps(form)
        if text not in self._followed:
            # No JSON begins with the plain token, so the engine generates it only if it ignores the form.
            token, answer = await self.prefer_plain_token({**form, "return_tokens": True})
            if len(self._followed) >= _REMEMBERED:
                self._followed.clear()
            self._followed[text] = answer["tokens"] != [token]
        return self._followed[text]

    def complete(self, body: Mapping[str, Any]) -> EngineStream:
        """Continue a prompt: llama-server's ``/completion``. The last frame has ``stop`` true."""
        return self._stream("/completion", body)

    async def complete_at_once(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Continue a prompt, and return the whole answer in one frame."""
        return await self._call("POST", "/completion", body)

    def chat(self, body: Mapping[str, Any]) -> EngineStream:
        """Answer a conversation: llama-server's ``/v1/chat/completions``."""
        return self._stream("/v1/chat/completions", body)

    async def _load_watched(self, progress: EngineLoadProgress) -> None:
        """Load the model, and kill the worker if it stalls."""
        limit = "load_stall_seconds", self._pulse.load_seconds
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._end_stalled, self._worker, *limit, tasks.cancel_scope)
            try:
                await self._load(progress)
            except Exception as error:  # noqa: BLE001 - the task group would wrap it in an exception group
                failure = error
            tasks.cancel_scope.cancel()
        failure = self._stall or failure
        if failure is not None:
            raise failure

    async def _end_stalled(
        self, worker: ObservedWorker, limit: str, seconds: float, watched: anyio.CancelScope
    ) -> None:
        """Wait until the worker stalls; then kill it and fail its requests.

        The requests fail at once, because a process that waits for a disk or a driver may outlive its kill.

        :param limit: the name of the server limit with these seconds, for the message.
        :param watched: the scope to cancel at the end.
        """
        state = await self._pulse.wait_stall(self.pid, worker, seconds)
        self._stall = EngineFailure(
            f"the engine did not move for {seconds:g} seconds and was killed: {state}. Remove the cause and load the "
            f"model again; if longer pauses are normal on this machine, raise {limit} in ServerLimits"
        )
        self._worker.kill()
        if self._http_client is not None:
            await self._http_client.aclose()
        watched.cancel()

    async def _load(self, progress: EngineLoadProgress) -> None:
        api_key = secrets.token_hex(16)
        instructions = await anyio.to_thread.run_sync(worker_instructions, self._spec, api_key)
        await self._worker.send(json.dumps(instructions).encode() + b"\n")
        while (lines := await self._worker.receive()) is not None:
            for line in lines:
                match read_event(line):
                    case Failed(reason, missing_engine):
                        raise await self._load_failure(reason, missing_engine=missing_engine)
                    case Ready(address, gpu):
                        self._has_gpu = gpu
                        self._http_client = EngineHttpClient(address, api_key)
                        await self._call("GET", "/health")
                        self._refuse_to_go_without_draft()
                        if self._spec.kind == "llm":
                            await self.properties()
                        return
                    case ReadAhead() | Loading() as event:
                        progress.feed(event)
        raise await self._load_failure(None)

    def _refuse_to_go_without_draft(self) -> None:
        """Raise if the engine dropped the draft model: it goes on without one that does not fit, and only logs that."""
        for line in self._worker.log if self._spec.draft_model_path is not None else ():
            _, failed, reason = line.partition("failed to initialize speculative decoding context: ")
            if failed:
                raise EngineFailure(reason, None, self._worker.log)

    async def _load_failure(self, worker_says: str | None, *, missing_engine: bool = False) -> EngineFailure:
        reason = await self._worker.reason() or worker_says
        if self._worker.lacked_instruction:
            reason, missing_engine = ILLEGAL_INSTRUCTION, True
        if reason is None:
            reason = f"the engine ended while it was loading the model ({self._worker.ending()})"
        return EngineFailure(reason, self._worker.returncode, self._worker.log, missing_engine=missing_engine)

    async def _end(self, *, grace: float) -> None:
        self._closing = True
        try:
            with anyio.CancelScope(shield=True):
                await self._worker.end(grace=grace)
        finally:
            self._closed.set()

    # -- requests

    @property
    def _started_http_client(self) -> EngineHttpClient:
        assert self._http_client is not None
        return self._http_client

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            return await self._started_http_client.call(method, path, body)
        except EngineConnectionLost as error:
            await self._raise_gone(error)

    async def _open(self, path: str, body: Mapping[str, Any]) -> Exchange:
        try:
            return await self._started_http_client.open("POST", path, body)
        except EngineConnectionLost as error:
            await self._raise_gone(error)

    def _stream(self, path: str, body: Mapping[str, Any]) -> EngineStream:
        request = {**body, "stream": True, "return_progress": True}
        return EngineStream(partial(self._open, path, request), self._raise_gone)

    async def _raise_gone(self, cause: EngineConnectionLost | None = None) -> NoReturn:
        """Raise the reason why a connection ended before its answer was complete."""
        if self._stall is not None and not self._closing:
            raise EngineFailure(self._stall.reason, None, self._worker.log) from cause
        # Wait for the exit code: a dying process closes its sockets first, on a busy machine seconds before its end.
        with anyio.move_on_after(5):
            await self._worker.wait()
        code = self._worker.returncode
        if self._closing:
            raise EngineFailure("the model was unloaded", code, unloaded=True) from cause
        if code is None:
            raise EngineFailure("the engine broke off its answer", None, self._worker.log) from cause
        raise EngineFailure(
            f"the engine crashed ({self._worker.ending()})", code, self._worker.log
        ) from cause


def worker_instructions(spec: EngineSpec, api_key: str) -> dict[str, Any]:
    """Return the instructions for a worker. Blocks: reads files about the machine.

    :param spec: the model, and how to load it.
    :param api_key: the key for the HTTP server of the worker.
    """
    read_ahead_bytes = 0
    if spec.mmap and not spec.direct_io:
        free = available_memory()
        read_ahead_bytes = sys.maxsize if free is None else free
    instructions = attrs.asdict(spec)
    for name in ("model_path", "projector_path", "draft_model_path"):
        instructions[name] = None if instructions[name] is None else str(instructions[name])
    return {
        **instructions,
        "threads": spec.threads or default_threads(),
        "gpu_layers": spec.gpu_layers,
        "read_ahead_bytes": read_ahead_bytes,
        "api_key": api_key,
        "parent_pid": os.getpid(),
    }
