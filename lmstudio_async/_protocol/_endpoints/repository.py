"""The endpoints of ``repository``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmstudio_async._protocol._endpoints._base import ChannelEndpoint, RpcEndpoint

if TYPE_CHECKING:
    from lmstudio_async._wire._hub import AuthenticationState, IsAuthenticated, LmLinkStatus
    from lmstudio_async._wire._plan import DownloadPlanCreation
    from lmstudio_async._wire._repository import (
        DownloadModelCreation,
        DownloadOptions,
        DownloadOptionsParameter,
        SearchModelsParameter,
        SearchResults,
    )

# -- finding and downloading

SEARCH_MODELS: RpcEndpoint[SearchModelsParameter, SearchResults] = RpcEndpoint(
    "searchModels", "_repository.SearchModelsParameter", "_repository.SearchResults", label="Model search"
)
GET_MODEL_DOWNLOAD_OPTIONS: RpcEndpoint[DownloadOptionsParameter, DownloadOptions] = RpcEndpoint(
    "getModelDownloadOptions",
    "_repository.DownloadOptionsParameter",
    "_repository.DownloadOptions",
    label="Download options",
)
DOWNLOAD_MODEL: ChannelEndpoint[DownloadModelCreation, Any] = ChannelEndpoint(
    "downloadModel",
    "_repository.DownloadModelCreation",
    "_repository.DownloadModelPacket",
    "_models.Cancel | _struct.Unknown",
    label="Model download",
)
CREATE_DOWNLOAD_PLAN: ChannelEndpoint[DownloadPlanCreation, Any] = ChannelEndpoint(
    "createDownloadPlan",
    "_plan.DownloadPlanCreation",
    "_plan.DownloadPlanPacket",
    "_plan.DownloadPlanRequest",
    label="Download plan",
)

# -- the account

IS_AUTHENTICATED: RpcEndpoint[None, IsAuthenticated] = RpcEndpoint(
    "isAuthenticated", None, "_hub.IsAuthenticated", label="Login status"
)
GET_AUTHENTICATION_STATUS: RpcEndpoint[None, AuthenticationState] = RpcEndpoint(
    "getAuthenticationStatus", None, "_hub.AuthenticationState", label="Login status"
)
DEAUTHENTICATE: RpcEndpoint[None, None] = RpcEndpoint("deauthenticate", repeatable=False, label="Logout")

# -- LM Link

LM_LINK_STATUS: RpcEndpoint[None, LmLinkStatus] = RpcEndpoint(
    "lmLinkStatus", None, "_hub.LmLinkStatus", label="LM Link"
)
