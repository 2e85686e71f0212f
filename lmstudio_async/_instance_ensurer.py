"""Steps of ``ensure_instance``: find the instance of a name, check it, load it, or wait for another caller's load.

Other callers may interfere between any two steps, so a step that fails for that reason is followed by another look. The
server's check of identifiers decides: of several loads under one name only one begins.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio

from lmstudio_async._handles import LIST_INSTANCES, AsyncModelHandle
from lmstudio_async._instance_check import EnsureRequest, GoneError, InstanceCheck, mismatch_error
from lmstudio_async._load import AsyncLoadStream, loading_identifier
from lmstudio_async._load_feed import LoadProgress
from lmstudio_async._printable import printable
from lmstudio_async._protocol._endpoints.models import ESTIMATE_MODEL_USAGE
from lmstudio_async._wire._infos import ModelInstanceInfo
from lmstudio_async._wire._kv import stack, to_fields
from lmstudio_async._wire._models import GetOrLoadCreation
from lmstudio_async._wire._usage import EstimateModelUsageParameter
from lmstudio_async.errors import (
    LMStudioConnectionBrokenError,
    LMStudioIdentifierInUseError,
    LMStudioModelNotFoundError,
    LMStudioProtocolError,
    LMStudioServerError,
    LMStudioTimeoutError,
)

if TYPE_CHECKING:
    from lmstudio_async._session import Session

__all__ = ["InstanceEnsurer"]

Progress = Callable[[LoadProgress], None]


# Pauses between two looks at something that the protocol has no event for, in seconds.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0

# Seconds without any packet after which the request to join a load is made again, because the load may be over.
_JOIN_SECONDS = 10.0

# The request that joins a load would begin a load of its own if that load has just ended. No server can load with this
# context length, so it ends with an error then.
_NO_CONTEXT_LENGTH = "join a load, or fail"

# Times that an instance may be unloaded before its check: by callers that replace it, or because its TTL is too short.
_MOST_TIMES_GONE = 5


class InstanceEnsurer:
    """The steps of one request.

    :param session: the session of the namespace that the instance should be in.
    :param other_session: the session of the other kind of models, an instance of which may have the name.
    :param system: the session that lists the downloaded models.
    """

    def __init__(
        self, session: Session, other_session: Session, system: Session, request: EnsureRequest
    ) -> None:
        self._session = session
        self._other_session = other_session
        self._request = request
        self._check = InstanceCheck(session, system, request)
        #: Whether the instance is the result of a load that this request has begun, or waited for.
        self.has_loaded: bool = False
        #: Since when the name is in use, and the server shows neither an instance nor a load of it.
        self._hidden_since: float | None = None
        # Distinguishes an instance that the server has loaded for the request to join a load.
        self._join_ttl_ms = random.randrange(600_000, 1_200_000)

    async def run(self, report: Progress) -> ModelInstanceInfo:
        """Take step after step until there is an instance as asked, and return it.

        :param report: called with the progress of a load.
        :raises LMStudioConfigMismatchError: if the instance is not as asked.
        :raises LMStudioTimeoutError: if an instance that the server does not show uses the name.
        """
        pause, was_lost, times_gone = _SHORTEST_PAUSE, False, 0
        while True:
            try:
                found = await self._step(report)
            except LMStudioConnectionBrokenError:
                # The next look shows what has become of the step. Once, because the step may be what kills the server.
                if was_lost:
                    raise
                was_lost = True
                await self._session.back_off()
                continue
            except GoneError as gone:
                found, times_gone = None, times_gone + 1
                if times_gone == _MOST_TIMES_GONE:
                    raise gone.reason from None
            if found is not None:
                return found
            await anyio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _step(self, report: Progress) -> ModelInstanceInfo | None:
        """Return the instance if there is one that is as asked, or None if another look is needed."""
        self.has_loaded = False
        found = await self._find(self._session)
        if found is None:
            try:
                loaded = await self._load(report)
            except LMStudioIdentifierInUseError:
                found = (
                    await self._find(self._session)
                    or await self._find(self._other_session)
                    or await self._join(report)
                )
            else:
                self.has_loaded = True
                await self._check.check_loaded(loaded)
                return loaded
        if found is None:
            self._check_patience()
            return None
        self._hidden_since = None
        mismatches = await self._check.mismatches(found)
        if not mismatches:
            return found
        if self._request.on_mismatch != "replace":
            raise mismatch_error(found, mismatches)
        await self._check_loadable()
        await self._remove(found)
        return None

    async def _find(self, session: Session) -> ModelInstanceInfo | None:
        # Not getModelInfo, which finds other instances of a model by its key.
        for info in await session.call(LIST_INSTANCES):
            if info.identifier == self._request.identifier:
                return info.read()
        return None

    def _check_patience(self) -> None:
        """Raise if the server has shown no sign of what uses the name, for longer than the client's ``timeout``."""
        now, timeout = anyio.current_time(), self._session.timeout
        if self._hidden_since is None or self.has_loaded:
            self._hidden_since = now
        elif timeout is not None and now - self._hidden_since > timeout:
            raise LMStudioTimeoutError(
                f"The name {printable(repr(self._request.identifier))} is in use on {self._session.address}, which has shown "
                f"neither an instance nor a load of that name for {timeout:g} seconds. Choose another instance_identifier, "
                "or raise the client's timeout to wait longer."
            )

    async def _load(self, report: Progress) -> ModelInstanceInfo:
        load = AsyncLoadStream(self._session, self._request.creation, _as_it_is, is_step=True)
        async with load:
            async for progress in load:
                if progress.phase != "loaded":
                    report(progress)
            return load.result()

    async def _join(self, report: Progress) -> ModelInstanceInfo | None:
        """Wait for another caller's load.

        Return None if it made no instance, or another look may show one; also if the server does not show the load.
        """
        name = self._request.identifier
        key = f"{self._session.namespace}.load.contextLength"
        creation = GetOrLoadCreation(
            identifier=name,
            device_identifier=self._request.creation.device_identifier,
            load_ttl_ms=self._join_ttl_ms,
            load_config_stack=stack(to_fields({key: _NO_CONTEXT_LENGTH})),
        )
        load = AsyncLoadStream(self._session, creation, _as_it_is, is_step=True)
        progress: LoadProgress | None = None
        try:
            async with load:
                with anyio.move_on_after(_JOIN_SECONDS):
                    progress = await anext(load, None)
                while progress is not None and progress.phase != "loaded":
                    if loading_identifier(load) != name:
                        # The server took the name for a model key, and this is another instance of the model.
                        return None
                    self.has_loaded = True
                    report(progress)
                    progress = await anext(load, None)
                if progress is None:
                    return None
                info = load.result()
        except LMStudioServerError:
            # The load has failed, or is over. The next look or load shows the reason.
            return None
        if info.ttl_ms == self._join_ttl_ms:
            await self._remove(info)
            return None
        return info if info.identifier == name else None

    async def _check_loadable(self) -> None:
        """Check that the model can be loaded with the config, before another instance has to go for it."""
        wanted = self._request.creation
        parameter = EstimateModelUsageParameter(
            model_key=wanted.model_key,
            load_config_stack=wanted.load_config_stack,
            device_identifier=wanted.device_identifier,
        )
        with suppress(LMStudioProtocolError):  # of an older server, which knows no estimates
            await self._session.call(ESTIMATE_MODEL_USAGE, parameter)

    async def _remove(self, info: ModelInstanceInfo) -> None:
        """Wait until an instance is idle, and unload it. No error if it is gone."""
        session = self._session if info.type == self._session.namespace else self._other_session
        handle: AsyncModelHandle[Any] = AsyncModelHandle(session, info)
        pause = _SHORTEST_PAUSE
        with suppress(LMStudioModelNotFoundError):
            while await _is_busy(handle):
                await anyio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            await handle.unload()


def _as_it_is(info: ModelInstanceInfo) -> ModelInstanceInfo:
    return info


async def _is_busy(handle: AsyncModelHandle[Any]) -> bool:
    try:
        state = await handle.get_processing_state()
    except LMStudioModelNotFoundError:
        raise
    except LMStudioServerError:
        # Older servers do not tell. An unload ends the requests that are running.
        return False
    return state.status != "idle" or state.queued > 0
