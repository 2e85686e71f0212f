"""One loaded or loading model, and its description in the protocol."""

from __future__ import annotations

import logging
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, Literal, TypeAlias

import anyio
import attrs

from lmstudio_async._printable import printable
from lmstudio_async._protocol._errors import instance_unloaded, server_error
from lmstudio_async._wire._infos import (
    EmbeddingModelInfo,
    EmbeddingModelInstanceInfo,
    LlmInfo,
    LlmInstanceInfo,
    Quantization,
)
from lmstudio_async._wire._usage import ProcessingState
from lmstudio_async.embedded._catalog._catalog import CatalogEntry
from lmstudio_async.embedded._engine._engine import Engine, EngineFailure
from lmstudio_async.embedded._engine._engine_keeper import EngineKeeper
from lmstudio_async.embedded._engine._engine_spec import EngineSpec
from lmstudio_async.embedded._engine._pulse import Pulse
from lmstudio_async.embedded._instances._departures import Departure
from lmstudio_async.embedded._instances._token_budget import TokenBudget
from lmstudio_async.errors import LMStudioServerError

__all__ = ["Domain", "Instance", "State", "Use", "model_info"]

logger = logging.getLogger("lmstudio_async.embedded")

Domain: TypeAlias = Literal["llm", "embedding"]
State: TypeAlias = Literal["loading", "ready", "unloading", "gone"]

_MOST_HANDOUTS: Final = 1024
# Seconds in which the registry learns that a worker process has ended, also on a busy machine.
_MOST_CRASH_SECONDS: Final = 5.0


def model_info(entry: CatalogEntry) -> LlmInfo | EmbeddingModelInfo:
    """Return the protocol's description of a downloaded model."""
    if entry.type == "llm":
        return LlmInfo(**_model_members(entry), **_llm_members(entry))
    return EmbeddingModelInfo(**_model_members(entry))


def _model_members(entry: CatalogEntry) -> dict[str, Any]:
    return {
        "model_key": entry.model_key,
        "format": "gguf",
        "display_name": entry.display_name,
        "publisher": entry.publisher,
        "path": entry.path,
        "size_bytes": entry.size_bytes,
        "indexed_model_identifier": entry.path,
        "params_string": entry.params_string,
        "architecture": entry.architecture,
        "quantization": entry.quantization
        and Quantization(name=entry.quantization[0], bits=entry.quantization[1]),
        "max_context_length": entry.max_context_length,
    }


def _llm_members(entry: CatalogEntry) -> dict[str, Any]:
    return {"vision": entry.vision, "trained_for_tool_use": entry.trained_for_tool_use}


class Use:
    """One request to an instance.

    :ivar status: the state of the request: ``processingPrompt``, ``generating`` or ``computingEmbedding``.
    :ivar waits: whether the request is queued, for an engine with the settings it needs or for space in the context.
    :ivar prompt_progress: how much of its prompt is processed, from 0.0 to 1.0; None for a request without a prompt, and
        before the engine has told it.
    """

    __slots__ = ("prompt_progress", "status", "waits")

    def __init__(self, status: str) -> None:
        self.status = status
        self.waits = False
        self.prompt_progress: float | None = None


class Instance:
    """A model under an identifier. The registry changes its state; request handlers only use it.

    :ivar identifier: unique among all instances, including those that are loading.
    :ivar reference: names this instance and never another one.
    :ivar ttl_ms: idle time after which it is unloaded; None for no TTL.
    :ivar just_in_time: whether it was loaded on demand, so that auto-evict may unload it for another such load.
    :ivar config: the load config that really applies, by wire key.
    :ivar no_vision_reason: the reason why the engine runs without the model's vision projector; empty if there is none.
    :ivar unloaded: set when it is being unloaded, or has crashed, so that its requests end at once.
    :ivar departure: why it is gone, or is being unloaded; None while it is loaded.
    :ivar gone: set when its process has ended and its identifier is free.
    :ivar pulse: the monitor that detects a stall of the engine.
    """

    def __init__(
        self,
        *,
        identifier: str,
        entry: CatalogEntry,
        context_length: int,
        parallel_sessions: int,
        ttl_ms: int | None,
        just_in_time: bool,
        queued_predictions: int,
        pulse: Pulse,
    ) -> None:
        self.pulse = pulse
        self.identifier = identifier
        self.reference = secrets.token_urlsafe(18)
        self.entry = entry
        self.context_length = context_length
        self.ttl_ms = ttl_ms
        self.just_in_time = just_in_time
        self.config: dict[str, Any] = {}
        self.last_used_ms: int | None = None
        self.state: State = "loading"
        self.departure: Departure | None = None
        self.no_vision_reason = ""
        self.unloaded = anyio.Event()
        self.gone = anyio.Event()
        self._parallel_sessions = parallel_sessions
        self._keeper: EngineKeeper | None = None
        self._budget: TokenBudget | None = None
        self._spec: EngineSpec | None = None
        self._most_predictions = parallel_sessions + queued_predictions
        self._predictions = 0
        self._uses: list[Use] = []
        self._idle = anyio.Event()
        self._idle_since = 0.0
        # Bounded, because a client may get the instance again and again without using it.
        self._handouts: deque[float] = deque(maxlen=_MOST_HANDOUTS)
        self._handout_used = anyio.Event()

    def __repr__(self) -> str:
        return f"<Instance {self.identifier!r} {self.state}>"

    @property
    def domain(self) -> Domain:
        """The namespace of the instance."""
        return self.entry.type

    @property
    def engine(self) -> Engine:
        """The engine of the instance. It may be replaced at any time, unless :meth:`lend` has lent it.

        :raises LMStudioServerError: the instance has no running engine; see `unloaded_error`.
        """
        engine = None if self._keeper is None else self._keeper.engine
        if engine is None:
            raise self.unloaded_error()
        return engine

    @property
    def spec(self) -> EngineSpec:
        """The settings of the load config, with which the engine starts for a request without settings of its own.

        :raises LMStudioServerError: the instance is not loaded; see `unloaded_error`.
        """
        if self._spec is None:
            raise self.unloaded_error()
        return self._spec

    @property
    def budget(self) -> TokenBudget:
        """The tokens that its predictions share.

        :raises LMStudioServerError: the instance is not loaded; see `unloaded_error`.
        """
        if self._budget is None:
            raise self.unloaded_error()
        return self._budget

    @property
    def chat_template(self) -> str:
        """The chat template for requests that have none of their own; empty if the model has none."""
        return self.spec.chat_template or self.entry.chat_template or ""

    @property
    def is_busy(self) -> bool:
        """Whether any request uses the instance."""
        return bool(self._uses)

    @property
    def failure(self) -> LMStudioServerError | None:
        """The error for the requests that run when the engine crashes, a new one each time; None without a crash."""
        departure = self.departure
        if departure is None or departure.reason != "crashed":
            return None
        return server_error(departure.cause, "The model is not loaded any more. Load it again.")

    def unloaded_error(self) -> LMStudioServerError:
        """Return the error for a request that cannot run or go on, because the instance is being unloaded or gone.

        After a crash it is the `failure`, else an `LMStudioInstanceUnloadedError` with the reason.
        """
        return self.failure or (instance_unloaded() if self.departure is None else self.departure.error())

    def info(self) -> LlmInstanceInfo | EmbeddingModelInstanceInfo:
        """Return the protocol's description of the instance at this moment."""
        own: dict[str, Any] = {
            "identifier": self.identifier,
            "instance_reference": self.reference,
            "ttl_ms": self.ttl_ms,
            "last_used_time": self.last_used_ms,
            "context_length": self.context_length,
        }
        if self.entry.type == "llm":
            return LlmInstanceInfo(**_model_members(self.entry), **_llm_members(self.entry), **own)
        return EmbeddingModelInstanceInfo(**_model_members(self.entry), **own)

    def processing_state(self) -> ProcessingState:
        """Return the state of the requests, and the number of queued ones."""
        if not self._uses:
            return ProcessingState()
        running = [use for use in self._uses if not use.waits]
        waiting = len(self._uses) - min(len(running), self._parallel_sessions)
        first = (running or self._uses)[0]
        progress = first.prompt_progress if first.status == "processingPrompt" else None
        return ProcessingState(status=first.status, queued=waiting, prompt_progress=progress)

    @contextmanager
    def use(self, status: str = "processingPrompt") -> Iterator[Use]:
        """Count the block as a request, so that the instance is not idle meanwhile.

        :raises LMStudioServerError: the instance is not loaded any more; see `unloaded_error`.
        """
        if self.state != "ready":
            raise self.unloaded_error()
        use = Use(status)
        if self._handouts:
            self._handouts.popleft()
        self._handout_used.set()
        self._handout_used = anyio.Event()
        if not self._uses:
            self._idle = anyio.Event()
        self._uses.append(use)
        try:
            yield use
        except EngineFailure as failure:
            if self.departure is None and not failure.unloaded:
                raise
            raise self.unloaded_error() from failure
        finally:
            self._uses.remove(use)
            self.last_used_ms = time.time_ns() // 1_000_000
            if not self._uses:
                self._idle_since = anyio.current_time()
                self._idle.set()

    @contextmanager
    def predict(self) -> Iterator[Use]:
        """Count the block as a prediction, the number of which is limited.

        :raises LMStudioServerError: the instance is not loaded any more (see `unloaded_error`), or too many predictions use
            it or wait for it.
        """
        if self.state == "ready" and self._predictions >= self._most_predictions:
            raise server_error(
                f'{self._predictions} predictions use or wait for "{self.identifier}", and no more are allowed.',
                "Try again when some of them have ended, or load another instance of the model.",
            )
        with self.use() as use:
            self._predictions += 1
            try:
                yield use
            finally:
                self._predictions -= 1

    @asynccontextmanager
    async def lend(
        self, use: Use, spec: EngineSpec | None = None, *, only_template: bool = False
    ) -> AsyncIterator[Engine]:
        """Wait for the engine and lend it to a request; see :meth:`EngineKeeper.lend`."""
        if self._keeper is None:
            raise self.unloaded_error()
        use.waits = True
        async with self._keeper.lend(spec, only_template=only_template) as engine:
            use.waits = False
            try:
                yield engine
            except EngineFailure as failure:
                if failure.exit_code is not None and not failure.unloaded:
                    # The registry learns of the crash at the same time. Then the error names the instance.
                    with anyio.move_on_after(_MOST_CRASH_SECONDS):
                        await self.unloaded.wait()
                raise

    # -- for the registry

    def disable_vision(self, reason: str) -> None:
        """Mark the model as one without vision, because the engine runs without the projector.

        :param reason: the engine's reason.
        """
        assert self.entry.projector is not None
        logger.warning(
            "%s has no vision: the engine cannot use %s: %s",
            self.entry.path,
            self.entry.projector.name,
            printable(reason),
        )
        self.entry = attrs.evolve(self.entry, vision=False, projector=None)
        self.no_vision_reason = reason

    def become_ready(self, engine: Engine, config: dict[str, Any]) -> None:
        """Take over a running engine, and accept requests."""
        self._keeper = EngineKeeper(engine)
        shared = engine.spec.unified_kv_cache and engine.spec.kind == "llm"
        self._budget = TokenBudget(self.context_length if shared else None, self._parallel_sessions)
        self._spec = engine.spec
        self.config = config
        logger.info("%s was loaded as %s", printable(self.entry.model_key), printable(self.identifier))
        self.state = "ready"
        self._idle_since = anyio.current_time()
        self._idle.set()

    def become_unloading(self, departure: Departure) -> None:
        """Refuse new requests, and have the present ones end.

        :param departure: why the instance goes.
        """
        self.state = "unloading"
        self.departure = departure
        self.unloaded.set()
        self._handout_used.set()
        if self._keeper is not None:
            self._keeper.retire()

    def become_gone(self) -> None:
        """Mark the instance as gone, after its process has ended."""
        self.state = "gone"
        self.unloaded.set()
        self.gone.set()
        self._idle.set()

    def hand_out(self, seconds: float) -> None:
        """Protect the instance from auto-evict for the client that gets it now, until it is used or for ``seconds``."""
        self._handouts.append(anyio.current_time() + seconds)

    async def wait_handed_out(self, latest: float) -> None:
        """Wait until all clients that got the instance have used it, or their time is over.

        :param latest: the time on the event loop's clock at which to stop waiting at the latest.
        """
        while self.state == "ready" and self._handouts:
            deadline = min(self._handouts[-1], latest)
            if anyio.current_time() >= deadline:
                return
            with anyio.CancelScope(deadline=deadline):
                await self._handout_used.wait()

    async def wait_idle(self) -> None:
        """Wait until no request uses the instance, or it is gone."""
        while self._uses and self.state != "gone":
            await self._idle.wait()

    async def wait_expired(self) -> bool:
        """Wait until the instance was idle for its TTL; return false if it was unloaded before."""
        assert self.ttl_ms is not None
        while not self.unloaded.is_set():
            await self.wait_idle()
            deadline = self._idle_since + self.ttl_ms / 1000
            if not self._uses and anyio.current_time() >= deadline:
                return not self.unloaded.is_set()
            with anyio.CancelScope(deadline=deadline):
                await self.unloaded.wait()
        return False

    async def keep_engine(self) -> str:
        """Restart the engine whenever a request needs that, until it ends for another reason; return how it ended."""
        assert self._keeper is not None
        return await self._keeper.keep()

    async def stop_engine(self) -> None:
        """End the process of the engine."""
        if self._keeper is not None:
            await self._keeper.aclose()
