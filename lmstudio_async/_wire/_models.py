"""Wire types for naming, loading, unloading and inspecting models (both model namespaces)."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from lmstudio_async._wire._infos import AnyInstanceInfo, AnyModelInfo
from lmstudio_async._wire._struct import Unknown, WireObject

__all__ = [
    "AlreadyLoaded",
    "Cancel",
    "GetModelInfoParameter",
    "GetOrLoadCreation",
    "GetOrLoadPacket",
    "InstanceReferenceSpecifier",
    "LoadModelCreation",
    "LoadModelPacket",
    "LoadProgressPacket",
    "LoadSuccess",
    "ModelQuery",
    "ModelSpecifier",
    "Progress",
    "QuerySpecifier",
    "Resolved",
    "SpecifierParameter",
    "StartLoading",
    "Success",
    "UnloadModelParameter",
    "UnloadingOtherJITModel",
]


@attrs.frozen(kw_only=True, repr=False)
class ModelQuery(WireObject):
    """Query for loaded instances: an instance matches if it has *all* given members.

    :param domain: ``llm`` or ``embedding``.
    :param device_identifier: the LM Link device that runs it.
    :param identifier: the instance's identifier.
    :param path: its model's path, ``publisher/repository`` or ``publisher/repository/file``.
    :param vision: True for instances that accept images, False for instances that do not.
    :param extra: members that the server sent and this SDK does not know.

    ::

        info = await client.llm.get_model_info(ModelQuery(path="lmstudio-community/Qwen3-4B-GGUF"))
    """

    domain: str | None = None
    device_identifier: str | None = None
    identifier: str | None = None
    path: str | None = None
    vision: bool | None = None


@attrs.frozen(kw_only=True)
class QuerySpecifier(WireObject):
    TAG: ClassVar[str] = "query"
    query: ModelQuery


@attrs.frozen(kw_only=True)
class InstanceReferenceSpecifier(WireObject):
    TAG: ClassVar[str] = "instanceReference"
    instance_reference: str


ModelSpecifier = QuerySpecifier | InstanceReferenceSpecifier | Unknown


@attrs.frozen(kw_only=True)
class Cancel(WireObject):
    TAG: ClassVar[str] = "cancel"


# -- loadModel: always a new instance


@attrs.frozen(kw_only=True)
class LoadModelCreation(WireObject):
    model_key: str
    identifier: str | None = None
    device_identifier: str | None = None
    ttl_ms: int | None = None
    load_config_stack: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Resolved(WireObject):
    TAG: ClassVar[str] = "resolved"
    info: AnyModelInfo
    ambiguous: list[str] | None = None


@attrs.frozen(kw_only=True)
class Progress(WireObject):
    TAG: ClassVar[str] = "progress"
    progress: float


@attrs.frozen(kw_only=True)
class Success(WireObject):
    TAG: ClassVar[str] = "success"
    info: AnyInstanceInfo


LoadModelPacket = Resolved | Progress | Success | Unknown


# -- getOrLoad: a loaded instance, else a just-in-time load of a new one


@attrs.frozen(kw_only=True)
class GetOrLoadCreation(WireObject):
    identifier: str
    device_identifier: str | None = None
    load_ttl_ms: int | None = None
    load_config_stack: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class AlreadyLoaded(WireObject):
    TAG: ClassVar[str] = "alreadyLoaded"
    info: AnyInstanceInfo


@attrs.frozen(kw_only=True)
class UnloadingOtherJITModel(WireObject):
    TAG: ClassVar[str] = "unloadingOtherJITModel"
    info: AnyInstanceInfo


@attrs.frozen(kw_only=True)
class StartLoading(WireObject):
    TAG: ClassVar[str] = "startLoading"
    identifier: str = ""
    info: AnyModelInfo


@attrs.frozen(kw_only=True)
class LoadProgressPacket(WireObject):
    TAG: ClassVar[str] = "loadProgress"
    progress: float


@attrs.frozen(kw_only=True)
class LoadSuccess(WireObject):
    TAG: ClassVar[str] = "loadSuccess"
    info: AnyInstanceInfo


GetOrLoadPacket = (
    AlreadyLoaded | UnloadingOtherJITModel | StartLoading | LoadProgressPacket | LoadSuccess | Unknown
)


# -- calls


@attrs.frozen(kw_only=True)
class UnloadModelParameter(WireObject):
    identifier: str
    device_identifier: str | None = None


@attrs.frozen(kw_only=True)
class SpecifierParameter(WireObject):
    specifier: ModelSpecifier
    ignore_server_session_config: bool | None = None


@attrs.frozen(kw_only=True)
class GetModelInfoParameter(WireObject):
    specifier: ModelSpecifier
    throw_if_not_found: bool = True
