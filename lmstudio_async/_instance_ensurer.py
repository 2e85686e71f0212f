"""Steps of ``ensure_instance``: find the instance of a name, check it, load it, or wait for another caller's load.

No step is safe from other callers, so every step may fail and is followed by another look. The server's check of
identifiers decides: of several loads under one name only one begins.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import anyio
import attrs

from lmstudio_async._handles import AsyncModelHandle, unread_infos
from lmstudio_async._load import AsyncLoadStream, loading_identifier
from lmstudio_async._load_feed import LoadProgress
from lmstudio_async._model_keys import is_key_of
from lmstudio_async._printable import printable
from lmstudio_async._protocol._endpoints.models import (
    ESTIMATE_MODEL_USAGE,
    GET_LOAD_CONFIG,
    GET_OR_LOAD,
    LIST_LOADED,
    LOAD_MODEL,
)
from lmstudio_async._specifiers import instance_specifier
from lmstudio_async._wire._infos import ModelInstanceInfo
from lmstudio_async._wire._kv import stack, to_fields
from lmstudio_async._wire._models import GetOrLoadCreation, LoadModelCreation, SpecifierParameter
from lmstudio_async._wire._struct import write
from lmstudio_async._wire._usage import EstimateModelUsageParameter
from lmstudio_async.errors import (
    LMStudioConfigMismatchError,
    LMStudioConnectionBrokenError,
    LMStudioIdentifierInUseError,
    LMStudioModelNotFoundError,
    LMStudioProtocolError,
    LMStudioServerError,
)

if TYPE_CHECKING:
    from lmstudio_async._session import Session

__all__ = ["EnsureRequest", "InstanceEnsurer"]

HandleT = TypeVar("HandleT")
Progress = Callable[[LoadProgress], None]

_LIST_LOADED = LIST_LOADED.read_by(unread_infos)

# Pauses between two looks at something that the protocol has no event for, in seconds.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0

# Seconds without any packet after which the request to join a load is made again, because the load may be over.
_JOIN_SECONDS = 10.0

# The request that joins a load would begin a load of its own if that load has just ended. No server can load with this
# context length, so it ends with an error then.
_NO_CONTEXT_LENGTH = "join a load, or fail"


@attrs.frozen(kw_only=True)
class EnsureRequest:
    """Properties that an instance should have.

    :param settings: settings that the config has, as `load_settings` returns them.
    :param load_config_stack: the same config, as it is sent.
    """

    model_key: str
    identifier: str
    device: str | None
    ttl_ms: int | None
    settings: Mapping[str, tuple[Any, Mapping[str, Any]]]
    load_config_stack: dict[str, Any]
    on_mismatch: Literal["error", "use", "replace"]


class InstanceEnsurer(Generic[HandleT]):
    """The steps of one request.

    :param session: the session of the namespace that the instance should be in.
    :param other_session: the session of the other kind of models, an instance of which may have the name.
    :param make_handle: makes the handle of an instance of the first session.
    """

    def __init__(
        self,
        session: Session,
        other_session: Session,
        request: EnsureRequest,
        make_handle: Callable[[ModelInstanceInfo], HandleT],
    ) -> None:
        self._session = session
        self._other_session = other_session
        self._request = request
        self._make_handle = make_handle
        # Distinguishes an instance that the server has loaded for the request to join a load.
        self._join_ttl_ms = random.randrange(600_000, 1_200_000)

    async def run(self, report: Progress) -> tuple[ModelInstanceInfo, HandleT]:
        """Take step after step until there is an instance as asked, and return its info and its handle.

        :param report: called with the progress of a load.
        :raises LMStudioConfigMismatchError: if the instance is not as asked.
        """
        pause, was_lost = _SHORTEST_PAUSE, False
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
            except _GoneError:
                found = None
            if found is not None:
                return found, self._make_handle(found)
            await anyio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _step(self, report: Progress) -> ModelInstanceInfo | None:
        """Return the instance if there is one that is as asked, or None if another look is needed."""
        found = await self._find(self._session)
        if found is None:
            try:
                loaded = await self._load(report)
            except LMStudioIdentifierInUseError:
                found = await self._find(self._session) or await self._find(self._other_session)
            else:
                await self._check_loaded(loaded)
                return loaded
        if found is None:
            found = await self._join(report)
        if found is None:
            return None
        mismatches = await self._mismatches(found)
        if not mismatches:
            return found
        if self._request.on_mismatch != "replace":
            raise self._error(found, mismatches, "")
        await self._check_loadable()
        await self._remove(found)
        return None

    # -- steps

    async def _find(self, session: Session) -> ModelInstanceInfo | None:
        # Not getModelInfo, which finds other instances of a model by its key.
        for info in await session.call(_LIST_LOADED):
            if info.identifier == self._request.identifier:
                return info.read()
        return None

    async def _load(self, report: Progress) -> ModelInstanceInfo:
        creation = LoadModelCreation(
            model_key=self._request.model_key,
            identifier=self._request.identifier,
            device_identifier=self._request.device,
            ttl_ms=self._request.ttl_ms,
            load_config_stack=self._request.load_config_stack,
        )
        load = AsyncLoadStream(self._session, LOAD_MODEL, creation, _as_it_is, is_for_all=True)
        async with load:
            async for progress in load:
                if progress.phase != "loaded":
                    report(progress)
            return load.result()

    async def _join(self, report: Progress) -> ModelInstanceInfo | None:
        """Wait for another caller's load. Return None if it made no instance, or another look may show one."""
        name = self._request.identifier
        key = f"{self._session.namespace}.load.contextLength"
        creation = GetOrLoadCreation(
            identifier=name,
            device_identifier=self._request.device,
            load_ttl_ms=self._join_ttl_ms,
            load_config_stack=stack(to_fields({key: _NO_CONTEXT_LENGTH})),
        )
        load = AsyncLoadStream(self._session, GET_OR_LOAD, creation, _as_it_is)
        progress: LoadProgress | None = None
        try:
            async with load:
                with anyio.move_on_after(_JOIN_SECONDS):
                    progress = await anext(load, None)
                while progress is not None and progress.phase != "loaded":
                    if loading_identifier(load) != name:
                        # The server took the name for a model key, and this is another instance of the model.
                        return None
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

    async def _remove(self, info: ModelInstanceInfo) -> None:
        """Wait until an instance is idle, and unload it. No error if it is gone."""
        session = self._session if info.type == self._session.namespace else self._other_session
        handle: AsyncModelHandle[Any] = AsyncModelHandle(session, info)
        pause = _SHORTEST_PAUSE
        try:
            while await _is_busy(handle):
                await anyio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            await handle.unload()
        except LMStudioModelNotFoundError:
            return

    # -- checks

    async def _check_loaded(self, info: ModelInstanceInfo) -> None:
        """Check the config of an instance that this request has loaded: a server may ignore settings."""
        if self._request.on_mismatch != "use" and (mismatches := await self._setting_mismatches(info)):
            raise self._error(
                info,
                mismatches,
                " The instance was loaded with these settings, and the server or its machine did not apply them.",
            )

    async def _check_loadable(self) -> None:
        """Check that the model can be loaded with the config, before another instance has to go for it."""
        parameter = EstimateModelUsageParameter(
            model_key=self._request.model_key,
            load_config_stack=self._request.load_config_stack,
            device_identifier=self._request.device,
        )
        with suppress(LMStudioProtocolError):  # of an older server, which knows no estimates
            await self._session.call(ESTIMATE_MODEL_USAGE, parameter)

    async def _mismatches(self, info: ModelInstanceInfo) -> dict[str, tuple[Any, Any]]:
        request = self._request
        if info.type != self._session.namespace:
            return {"kind": (self._session.namespace, info.type)}
        if not is_key_of(request.model_key, info):
            return {"model_key": (request.model_key, info.model_key)}
        if request.on_mismatch == "use":
            return {}
        mismatches: dict[str, tuple[Any, Any]] = {}
        if request.device not in (None, info.device_identifier):
            mismatches["device"] = (request.device, info.device_identifier)
        return mismatches | await self._setting_mismatches(info)

    async def _setting_mismatches(self, info: ModelInstanceInfo) -> dict[str, tuple[Any, Any]]:
        if not self._request.settings:
            return {}
        from lmstudio_async._config import mismatched_settings

        parameter = SpecifierParameter(specifier=instance_specifier(info))
        try:
            config = await self._session.call(GET_LOAD_CONFIG, parameter)
        except LMStudioModelNotFoundError as error:
            raise _GoneError from error
        return mismatched_settings(self._request.settings, write(config), info.context_length)

    def _error(
        self, info: ModelInstanceInfo, mismatches: Mapping[str, tuple[Any, Any]], why: str
    ) -> LMStudioConfigMismatchError:
        shown = "; ".join(
            f"{name} should be {wanted!r:.80}, and {'is not reported' if actual is None else f'is {actual!r:.80}'}"
            for name, (wanted, actual) in mismatches.items()
        )
        if why:
            advice = "Leave them out of config, or take the instance as it is with on_mismatch='use'."
        elif mismatches.keys() & {"model_key", "kind"}:
            advice = "Choose another instance_identifier, or replace the instance with on_mismatch='replace'."
        else:
            advice = (
                "Choose another instance_identifier, take the instance as it is with on_mismatch='use', or replace it "
                "with on_mismatch='replace'."
            )
        return LMStudioConfigMismatchError(
            f"The instance {printable(repr(info.identifier))} is not as asked: {printable(shown, 1000)}.{why}\n{advice}",
            identifier=info.identifier,
            instance_reference=info.instance_reference,
            mismatches=mismatches,
        )


class _GoneError(Exception):
    """The instance was unloaded between two steps."""


def _as_it_is(info: ModelInstanceInfo) -> ModelInstanceInfo:
    return info


async def _is_busy(handle: AsyncModelHandle[Any]) -> bool:
    try:
        state = await handle.get_processing_state()
    except LMStudioProtocolError:
        # Older servers do not tell. An unload ends the requests that are running.
        return False
    return state.status != "idle" or state.queued > 0
