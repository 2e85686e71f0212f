"""Check whether an instance is as ``ensure_instance`` asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import attrs

from lmstudio_async._model_keys import is_beginning_of, is_key_of, is_only_beginning
from lmstudio_async._printable import printable
from lmstudio_async._protocol._endpoints.models import GET_LOAD_CONFIG
from lmstudio_async._protocol._endpoints.system import LIST_DOWNLOADED_MODELS
from lmstudio_async._specifiers import instance_specifier
from lmstudio_async._wire._models import LoadModelCreation, SpecifierParameter
from lmstudio_async._wire._struct import write
from lmstudio_async.errors import LMStudioConfigMismatchError, LMStudioModelNotFoundError

if TYPE_CHECKING:
    from lmstudio_async._session import Session
    from lmstudio_async._wire._infos import ModelInstanceInfo

__all__ = ["EnsureRequest", "GoneError", "InstanceCheck", "mismatch_error"]


@attrs.frozen(kw_only=True)
class EnsureRequest:
    """Properties that an instance should have.

    :param identifier: name of the instance.
    :param creation: the load, if there is no instance of the name.
    :param settings: settings that the config of the load has, as `load_settings` returns them.
    """

    identifier: str
    creation: LoadModelCreation
    settings: Mapping[str, tuple[Any, Mapping[str, Any]]]
    on_mismatch: Literal["error", "use", "replace"]


class InstanceCheck:
    """Compares instances with a request.

    :param session: the session of the namespace that the instance should be in.
    :param system: the session that lists the downloaded models.
    """

    def __init__(self, session: Session, system: Session, request: EnsureRequest) -> None:
        self._session = session
        self._system = system
        self._request = request

    async def mismatches(self, info: ModelInstanceInfo) -> dict[str, tuple[Any, Any]]:
        """Return what is not as asked: by name, the value that was asked for, and the value that is.

        :raises GoneError: if the instance is gone.
        """
        key, device = self._request.creation.model_key, self._request.creation.device_identifier
        if info.type != self._session.namespace:
            return {"kind": (self._session.namespace, info.type)}
        if not await self._is_of_model(key, info):
            return {"model_key": (key, info.model_key)}
        if self._request.on_mismatch == "use":
            return {}
        mismatches: dict[str, tuple[Any, Any]] = {}
        if device not in (None, info.device_identifier):
            mismatches["device"] = (device, info.device_identifier)
        return mismatches | await self._setting_mismatches(info)

    async def check_loaded(self, info: ModelInstanceInfo) -> None:
        """Check an instance that was loaded for the request, because a server may ignore settings.

        :raises GoneError: if the instance is gone.
        :raises LMStudioConfigMismatchError: if it has other settings.
        """
        if self._request.on_mismatch != "use" and (mismatches := await self._setting_mismatches(info)):
            raise mismatch_error(info, mismatches, is_new=True)

    async def _is_of_model(self, key: str, info: ModelInstanceInfo) -> bool:
        if is_key_of(key, info):
            return True
        if not is_beginning_of(key, info):
            return False
        models = await self._system.call(LIST_DOWNLOADED_MODELS)
        return is_only_beginning(key, info, models)

    async def _setting_mismatches(self, info: ModelInstanceInfo) -> dict[str, tuple[Any, Any]]:
        if not self._request.settings:
            return {}
        from lmstudio_async._config import mismatched_settings

        parameter = SpecifierParameter(specifier=instance_specifier(info))
        try:
            config = await self._session.call(GET_LOAD_CONFIG, parameter)
        except LMStudioModelNotFoundError as error:
            raise GoneError(error) from error
        return mismatched_settings(self._request.settings, write(config), info.context_length)


def mismatch_error(
    info: ModelInstanceInfo, mismatches: Mapping[str, tuple[Any, Any]], *, is_new: bool = False
) -> LMStudioConfigMismatchError:
    """Make the error for an instance that is not as asked.

    :param is_new: whether the instance was loaded for the request.
    """
    shown = "; ".join(
        f"{name} should be {wanted!r:.80}, and {_shown(name, actual)}"
        for name, (wanted, actual) in mismatches.items()
    )
    why = ""
    if is_new:
        why = (
            " The instance was loaded with these settings, and the server or its machine did not apply them."
        )
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


def _shown(name: str, actual: Any) -> str:
    if actual is None:
        return "is the server's own machine" if name == "device" else "is not reported"
    return f"is {actual!r:.80}"


class GoneError(Exception):
    """The instance was unloaded between two steps.

    :param reason: the server's error.
    """

    def __init__(self, reason: LMStudioModelNotFoundError) -> None:
        super().__init__(reason)
        self.reason = reason
