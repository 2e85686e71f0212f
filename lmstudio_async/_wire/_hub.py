"""What is sent about the account on the hub, its catalog, and the machines of an LM Link."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from lmstudio_async._wire._struct import Unknown, WireObject, nullable

__all__ = [
    "Authenticated",
    "AuthenticationCode",
    "AuthenticationState",
    "AuthenticationStatus",
    "AuthenticationUrl",
    "ComputeDevice",
    "ComputeDeviceLoginParameter",
    "EmbeddingMetadata",
    "EnsureAuthenticatedPacket",
    "HubModel",
    "IsAuthenticated",
    "KeyLoginParameter",
    "LlmMetadata",
    "LmLinkDeviceNameParameter",
    "LmLinkDisabledParameter",
    "LmLinkError",
    "LmLinkPeer",
    "LmLinkPreferredDeviceParameter",
    "LmLinkStatus",
    "LoggedInUser",
    "ModelCatalog",
    "NoAccount",
    "UserName",
]


# -- the account


@attrs.frozen(kw_only=True)
class IsAuthenticated(WireObject):
    authenticated: bool


@attrs.frozen(kw_only=True)
class AuthenticationCode(WireObject):
    """Where a person logs in.

    :param code: what to type there.
    :param manual_url: the page.
    :param filled_url: the page with the code typed already.
    :param extra: members that the server sent and this SDK does not know.
    """

    TAG: ClassVar[str] = "authenticationCode"

    code: str = ""
    manual_url: str = ""
    filled_url: str = ""


@attrs.frozen(kw_only=True)
class AuthenticationUrl(WireObject):
    """What old servers send instead: a page that needs no code.

    :param url: the page.
    :param extra: members that the server sent and this SDK does not know.
    """

    TAG: ClassVar[str] = "authenticationUrl"

    url: str = ""


@attrs.frozen(kw_only=True)
class Authenticated(WireObject):
    TAG: ClassVar[str] = "authenticated"


EnsureAuthenticatedPacket = AuthenticationCode | AuthenticationUrl | Authenticated | Unknown


@attrs.frozen(kw_only=True)
class NoAccount(WireObject):
    """Nobody is logged in."""

    TAG: ClassVar[str] = "none"


@attrs.frozen(kw_only=True)
class LoggedInUser(WireObject):
    """A person is logged in.

    :param user_name: who.
    :param extra: members that the server sent and this SDK does not know.
    """

    TAG: ClassVar[str] = "loggedInUser"

    user_name: str = ""


@attrs.frozen(kw_only=True)
class ComputeDevice(WireObject):
    """The machine is logged in, on behalf of its owner.

    :param owner_username: the owner.
    :param owner_is_organization: the owner is no person.
    :param extra: members that the server sent and this SDK does not know.
    """

    TAG: ClassVar[str] = "computeDevice"

    owner_username: str = ""
    owner_is_organization: bool = False


AuthenticationStatus = NoAccount | LoggedInUser | ComputeDevice | Unknown


@attrs.frozen(kw_only=True)
class AuthenticationState(WireObject):
    authentication_status: AuthenticationStatus


@attrs.frozen(kw_only=True)
class ComputeDeviceLoginParameter(WireObject):
    token: str = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class KeyLoginParameter(WireObject):
    key_id: str
    public_key: str
    private_key: str = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class UserName(WireObject):
    user_name: str


# -- the catalog


@attrs.frozen(kw_only=True)
class LlmMetadata(WireObject):
    """What is known of a language model of the catalog.

    :param architectures: such as ``llama``.
    :param compatibility_types: its formats.
    :param params_strings: its sizes for people, such as ``7B``.
    :param min_memory_usage_bytes: what the smallest of its files needs.
    :param trained_for_tool_use: True, False, or ``mixed`` where its files differ.
    :param vision: it accepts images: True, False or ``mixed``.
    :param reasoning: it thinks before it answers: True, False or ``mixed``.
    :param context_lengths: the longest contexts of its files, in tokens.
    :param extra: members that the server sent and this SDK does not know.
    """

    TAG: ClassVar[str] = "llm"

    architectures: list[str] = attrs.field(factory=list, hash=False)
    compatibility_types: list[str] = attrs.field(factory=list, hash=False)
    params_strings: list[str] = attrs.field(factory=list, hash=False)
    min_memory_usage_bytes: float = 0
    trained_for_tool_use: Any = False
    vision: Any = False
    reasoning: Any = False
    context_lengths: list[float] = attrs.field(factory=list, hash=False)


@attrs.frozen(kw_only=True)
class EmbeddingMetadata(WireObject):
    """What is known of an embedding model of the catalog: see `LlmMetadata`."""

    TAG: ClassVar[str] = "embedding"

    architectures: list[str] = attrs.field(factory=list, hash=False)
    compatibility_types: list[str] = attrs.field(factory=list, hash=False)
    params_strings: list[str] = attrs.field(factory=list, hash=False)
    min_memory_usage_bytes: float = 0
    context_lengths: list[float] = attrs.field(factory=list, hash=False)


@attrs.frozen(kw_only=True)
class HubModel(WireObject):
    """A model of the catalog.

    :param owner: who published it.
    :param name: its name there.
    :param description: what it is good for.
    :param downloads: how often it was downloaded.
    :param like_count: how many people like it.
    :param staff_picked_at: when the people of LM Studio recommended it, in milliseconds since 1970.
    :param type: always ``model``.
    :param metadata: what is known of it.
    :param extra: members that the server sent and this SDK does not know.
    """

    owner: str = ""
    name: str = ""
    description: str = ""
    downloads: float = 0
    like_count: float = 0
    staff_picked_at: float | None = None
    type: str = "model"
    metadata: LlmMetadata | EmbeddingMetadata | Unknown = attrs.field(factory=Unknown)


@attrs.frozen(kw_only=True)
class ModelCatalog(WireObject):
    models: list[HubModel]


# -- LM Link: several machines that work as one


@attrs.frozen(kw_only=True)
class LmLinkPeer(WireObject):
    """Another machine of the link.

    :param device_identifier: what to name it by when loading.
    :param device_name: a name for people.
    :param status: ``connected`` or ``disconnected``.
    :param extra: members that the server sent and this SDK does not know.
    """

    device_identifier: str = ""
    device_name: str = ""
    status: str = "disconnected"


@attrs.frozen(kw_only=True)
class LmLinkError(WireObject):
    """What went wrong last.

    :param message: what a person should read.
    :param timestamp: when, in milliseconds since 1970.
    :param extra: members that the server sent and this SDK does not know.
    """

    message: str = ""
    timestamp: int = 0


@attrs.frozen(kw_only=True)
class LmLinkStatus(WireObject):
    """How the link is.

    :param status: ``offline``, ``starting``, ``online`` or ``stopping``.
    :param issues: what is in the way: ``deviceDisabled``, ``notLoggedIn``, ``noAccess``, ``badVersion``.
    :param peers: the other machines.
    :param device_identifier: the server's own; None if it has none.
    :param device_name: the server's own.
    :param preferred_device_identifier: the machine to be asked first.
    :param reconnect_in_seconds: when it is tried again.
    :param last_error: what went wrong last.
    :param extra: members that the server sent and this SDK does not know.
    """

    status: str = "offline"
    issues: list[str] = attrs.field(factory=list, hash=False)
    peers: list[LmLinkPeer] = attrs.field(factory=list, hash=False)
    device_identifier: str | None = nullable()
    device_name: str = ""
    preferred_device_identifier: str | None = None
    reconnect_in_seconds: int | None = None
    last_error: LmLinkError | None = None


@attrs.frozen(kw_only=True)
class LmLinkDisabledParameter(WireObject):
    disabled: bool


@attrs.frozen(kw_only=True)
class LmLinkDeviceNameParameter(WireObject):
    device_name: str


@attrs.frozen(kw_only=True)
class LmLinkPreferredDeviceParameter(WireObject):
    device_identifier: str
