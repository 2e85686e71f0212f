"""One model that is loaded, or about to be, and what the protocol says of it."""

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
from lmstudio_async.embedded._catalog import CatalogEntry
from lmstudio_async.embedded._engine import Engine
from lmstudio_async.embedded._engine_keeper import EngineKeeper
from lmstudio_async.embedded._engine_spec import EngineSpec
from lmstudio_async.embedded._pulse import Pulse
from lmstudio_async.embedded._token_budget import TokenBudget
from lmstudio_async.errors import LMStudioServerError

__all__ = ["Domain", "Instance", "State", "Use", "model_info"]

logger = logging.getLogger("lmstudio_async.embedded")

Domain: TypeAlias = Literal["llm", "embedding"]
State: TypeAlias = Literal["loading", "ready", "unloading", "gone"]

_MOST_HANDOUTS: Final = 1024


def model_info(entry: CatalogEntry) -> LlmInfo | EmbeddingModelInfo:
    """What the protocol says of a downloaded model."""
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

    :ivar status: what the instance does for it: ``processingPrompt``, ``generating`` or ``computingEmbedding``.
    :ivar waits: the engine is not as it needs it, or being started anew.
    """

    __slots__ = ("status", "waits")

    def __init__(self, status: str) -> None:
        self.status = status
        self.waits = False


class Instance:
    """A model that has an identifier. It belongs to the registry; only its uses are anybody's.

    :ivar identifier: unique among all instances, also those that are loading.
    :ivar reference: names this instance and never another.
    :ivar ttl_ms: idle time after which it is unloaded.
    :ivar just_in_time: loaded because somebody wanted to use it, so that the next one of these takes its place.
    :ivar config: the load config that really applies, by wire key.
    :ivar blindness: why the engine runs without the model's vision projector; empty if it does not.
    :ivar unloaded: set when it is being unloaded, or has crashed: whoever uses it finishes at once.
    :ivar failure: why it is gone, if it crashed.
    :ivar gone: set when its process is, and its identifier is free.
    :ivar pulse: tells whether its engine moves.
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
        self.failure: LMStudioServerError | None = None
        self.blindness = ""
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
        # Bounded for clients that get it again and again and never use it.
        self._handouts: deque[float] = deque(maxlen=_MOST_HANDOUTS)
        self._handout_used = anyio.Event()

    def __repr__(self) -> str:
        return f"<Instance {self.identifier!r} {self.state}>"

    @property
    def domain(self) -> Domain:
        """The namespace that it belongs to."""
        return self.entry.type

    @property
    def engine(self) -> Engine:
        """What runs it. Only who has it from :meth:`lend` can be sure that it stays.

        :raises LMStudioInstanceUnloadedError: it is not loaded.
        """
        engine = None if self._keeper is None else self._keeper.engine
        if engine is None:
            raise instance_unloaded()
        return engine

    @property
    def spec(self) -> EngineSpec:
        """How the engine is started for a request that needs nothing special: as the load config says.

        :raises LMStudioInstanceUnloadedError: it is not loaded.
        """
        if self._spec is None:
            raise instance_unloaded()
        return self._spec

    @property
    def budget(self) -> TokenBudget:
        """The tokens that its predictions share.

        :raises LMStudioInstanceUnloadedError: it is not loaded.
        """
        if self._budget is None:
            raise instance_unloaded()
        return self._budget

    @property
    def chat_template(self) -> str:
        """What makes prompts of chats, unless a request brings its own; empty if the model has none."""
        return self.spec.chat_template or self.entry.chat_template or ""

    @property
    def busy(self) -> bool:
        """Whether there are requests to it."""
        return bool(self._uses)

    def info(self) -> LlmInstanceInfo | EmbeddingModelInstanceInfo:
        """What the protocol says of it at this moment."""
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
        """What it is doing, and how many requests wait for their turn."""
        if not self._uses:
            return ProcessingState()
        running = [use for use in self._uses if not use.waits]
        waiting = len(self._uses) - min(len(running), self._parallel_sessions)
        return ProcessingState(status=(running or self._uses)[0].status, queued=waiting)

    @contextmanager
    def use(self, status: str = "processingPrompt") -> Iterator[Use]:
        """Be a request: as long as there are any, the instance is not idle.

        :raises LMStudioInstanceUnloadedError: it is not loaded any more.
        """
        if self.state != "ready":
            raise self.failure or instance_unloaded()
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
        finally:
            self._uses.remove(use)
            self.last_used_ms = time.time_ns() // 1_000_000
            if not self._uses:
                self._idle_since = anyio.current_time()
                self._idle.set()

    @contextmanager
    def predict(self) -> Iterator[Use]:
        """Be a prediction: a request that others wait for, so there may be only so many.

        :raises LMStudioInstanceUnloadedError: it is not loaded any more.
        :raises LMStudioServerError: too many wait already.
        """
        if self.state == "ready" and self._predictions >= self._most_predictions:
            raise server_error(
                f'{self._predictions} predictions use or wait for "{self.identifier}", and more may not.',
                "Ask again when some of them are over, or load another instance of the model.",
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
        """The engine, when it is the turn of this request; see :meth:`EngineKeeper.lend`."""
        if self._keeper is None:
            raise instance_unloaded()
        use.waits = True
        async with self._keeper.lend(spec, only_template=only_template) as engine:
            use.waits = False
            yield engine

    # -- for the registry

    def become_blind(self, reason: str) -> None:
        """Take the vision from it: the engine runs without the projector.

        :param reason: of the engine.
        """
        assert self.entry.projector is not None
        logger.warning(
            "%s has no vision: the engine cannot use %s: %s",
            self.entry.path,
            self.entry.projector.name,
            printable(reason),
        )
        self.entry = attrs.evolve(self.entry, vision=False, projector=None)
        self.blindness = reason

    def become_ready(self, engine: Engine, config: dict[str, Any]) -> None:
        """The engine answers."""
        self._keeper = EngineKeeper(engine)
        shared = engine.spec.unified_kv_cache and engine.spec.kind == "llm"
        self._budget = TokenBudget(self.context_length if shared else None, self._parallel_sessions)
        self._spec = engine.spec
        self.config = config
        self.state = "ready"
        self._idle_since = anyio.current_time()
        self._idle.set()

    def become_unloading(self, failure: LMStudioServerError | None = None) -> None:
        """No new request finds it, and the present ones finish."""
        self.state = "unloading"
        self.failure = failure
        self.unloaded.set()
        self._handout_used.set()
        if self._keeper is not None:
            self._keeper.retire()

    def become_gone(self) -> None:
        """There is nothing left of it."""
        self.state = "gone"
        self.unloaded.set()
        self.gone.set()
        self._idle.set()

    def hand_out(self, seconds: float) -> None:
        """Keep it for a client that gets it just now, until its first use or for so many seconds."""
        self._handouts.append(anyio.current_time() + seconds)

    async def wait_handed_out(self, latest: float) -> None:
        """Wait until the clients that have got it have used it, or had their time.

        :param latest: the time on the event loop's clock after which later handouts do not matter.
        """
        while self.state == "ready" and self._handouts:
            deadline = min(self._handouts[-1], latest)
            if anyio.current_time() >= deadline:
                return
            with anyio.CancelScope(deadline=deadline):
                await self._handout_used.wait()

    async def wait_idle(self) -> None:
        """Wait until no request uses it, or it is gone."""
        while self._uses and self.state != "gone":
            await self._idle.wait()

    async def wait_expired(self) -> bool:
        """Wait until it was idle for its TTL; false if it was unloaded before."""
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
        """Start the engine anew whenever a request needs it otherwise; gives how it ended when there is none left."""
        assert self._keeper is not None
        return await self._keeper.keep()

    async def stop_engine(self) -> None:
        """End its process."""
        if self._keeper is not None:
            await self._keeper.aclose()
