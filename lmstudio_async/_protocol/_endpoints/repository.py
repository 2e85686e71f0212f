"""The endpoints of ``repository``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmstudio_async._protocol._endpoints._base import ChannelEndpoint, RpcEndpoint

if TYPE_CHECKING:
    from lmstudio_async._wire._hub import (
        AuthenticationState,
        ComputeDevice,
        ComputeDeviceLoginParameter,
        IsAuthenticated,
        KeyLoginParameter,
        LmLinkDeviceNameParameter,
        LmLinkDisabledParameter,
        LmLinkPreferredDeviceParameter,
        LmLinkStatus,
        ModelCatalog,
        UserName,
    )
    from lmstudio_async._wire._plan import DownloadPlanCreation
    from lmstudio_async._wire._repository import (
        ArtifactFiles,
        ArtifactOwners,
        ArtifactPlanCreation,
        DownloadArtifactCreation,
        DownloadModelCreation,
        DownloadOptions,
        DownloadOptionsParameter,
        InstallLocalPluginParameter,
        PathParameter,
        PluginFolderParameter,
        PushArtifactCreation,
        SearchModelsParameter,
        SearchResults,
        StaffPicks,
        StaffPicksParameter,
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
# What old servers have instead.
CREATE_ARTIFACT_DOWNLOAD_PLAN: ChannelEndpoint[ArtifactPlanCreation, Any] = ChannelEndpoint(
    "createArtifactDownloadPlan",
    "_repository.ArtifactPlanCreation",
    "_plan.DownloadPlanPacket",
    "_models.Cancel | _plan.CommitPlan | _struct.Unknown",
    label="Download plan",
)
GET_MODEL_CATALOG: RpcEndpoint[None, ModelCatalog] = RpcEndpoint(
    "getModelCatalog", None, "_hub.ModelCatalog", label="Model catalog"
)
FUZZY_FIND_STAFF_PICKS: RpcEndpoint[StaffPicksParameter, StaffPicks] = RpcEndpoint(
    "fuzzyFindStaffPicks", "_repository.StaffPicksParameter", "_repository.StaffPicks", label="Staff picks"
)

# -- artifacts

DOWNLOAD_ARTIFACT: ChannelEndpoint[DownloadArtifactCreation, Any] = ChannelEndpoint(
    "downloadArtifact",
    "_repository.DownloadArtifactCreation",
    "_repository.DownloadPacket",
    "_models.Cancel | _struct.Unknown",
    label="Artifact download",
)
PUSH_ARTIFACT: ChannelEndpoint[PushArtifactCreation, Any] = ChannelEndpoint(
    "pushArtifact",
    "_repository.PushArtifactCreation",
    "_repository.PushArtifactPacket",
    "_struct.Unknown",
    label="Artifact upload",
)
GET_LOCAL_ARTIFACT_FILES: RpcEndpoint[PathParameter, ArtifactFiles] = RpcEndpoint(
    "getLocalArtifactFiles", "_repository.PathParameter", "_repository.ArtifactFiles", label="Artifact files"
)
GET_WRITABLE_ARTIFACT_OWNERS: RpcEndpoint[None, ArtifactOwners] = RpcEndpoint(
    "getWritableArtifactOwners", None, "_repository.ArtifactOwners", label="Artifact owners"
)
INSTALL_PLUGIN_DEPENDENCIES: RpcEndpoint[PluginFolderParameter, None] = RpcEndpoint(
    "installPluginDependencies",
    "_repository.PluginFolderParameter",
    repeatable=False,
    label="Plugin dependencies",
)
INSTALL_LOCAL_PLUGIN: RpcEndpoint[InstallLocalPluginParameter, None] = RpcEndpoint(
    "installLocalPlugin",
    "_repository.InstallLocalPluginParameter",
    repeatable=False,
    label="Plugin installation",
)

# -- the account

IS_AUTHENTICATED: RpcEndpoint[None, IsAuthenticated] = RpcEndpoint(
    "isAuthenticated", None, "_hub.IsAuthenticated", label="Login status"
)
GET_AUTHENTICATION_STATUS: RpcEndpoint[None, AuthenticationState] = RpcEndpoint(
    "getAuthenticationStatus", None, "_hub.AuthenticationState", label="Login status"
)
ENSURE_AUTHENTICATED: ChannelEndpoint[None, Any] = ChannelEndpoint(
    "ensureAuthenticated", None, "_hub.EnsureAuthenticatedPacket", "_struct.Unknown", label="Login"
)
LOGIN_AS_COMPUTE_DEVICE: RpcEndpoint[ComputeDeviceLoginParameter, ComputeDevice] = RpcEndpoint(
    "loginAsComputeDevice",
    "_hub.ComputeDeviceLoginParameter",
    "_hub.ComputeDevice",
    repeatable=False,
    label="Login",
)
LOGIN_WITH_PRE_AUTHENTICATED_KEYS: RpcEndpoint[KeyLoginParameter, UserName] = RpcEndpoint(
    "loginWithPreAuthenticatedKeys",
    "_hub.KeyLoginParameter",
    "_hub.UserName",
    repeatable=False,
    label="Login",
)
DEAUTHENTICATE: RpcEndpoint[None, None] = RpcEndpoint("deauthenticate", repeatable=False, label="Logout")

# -- LM Link

LM_LINK_STATUS: RpcEndpoint[None, LmLinkStatus] = RpcEndpoint(
    "lmLinkStatus", None, "_hub.LmLinkStatus", label="LM Link"
)
LM_LINK_SET_DISABLED: RpcEndpoint[LmLinkDisabledParameter, None] = RpcEndpoint(
    "lmLinkSetDisabled", "_hub.LmLinkDisabledParameter", label="LM Link"
)
LM_LINK_UPDATE_DEVICE_NAME: RpcEndpoint[LmLinkDeviceNameParameter, None] = RpcEndpoint(
    "lmLinkUpdateDeviceName", "_hub.LmLinkDeviceNameParameter", label="LM Link"
)
LM_LINK_SET_PREFERRED_DEVICE: RpcEndpoint[LmLinkPreferredDeviceParameter, None] = RpcEndpoint(
    "lmLinkSetPreferredDevice", "_hub.LmLinkPreferredDeviceParameter", label="LM Link"
)
