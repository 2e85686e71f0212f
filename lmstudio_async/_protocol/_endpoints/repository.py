"""The endpoints of ``repository``."""

from __future__ import annotations

from typing import Any

from lmstudio_async._protocol._endpoints._base import ChannelEndpoint, RpcEndpoint
from lmstudio_async._wire._hub import (
    AuthenticationState,
    ComputeDevice,
    ComputeDeviceLoginParameter,
    EnsureAuthenticatedPacket,
    IsAuthenticated,
    KeyLoginParameter,
    LmLinkDeviceNameParameter,
    LmLinkDisabledParameter,
    LmLinkPreferredDeviceParameter,
    LmLinkStatus,
    ModelCatalog,
    UserName,
)
from lmstudio_async._wire._models import Cancel
from lmstudio_async._wire._plan import (
    CommitPlan,
    DownloadPlanCreation,
    DownloadPlanPacket,
    DownloadPlanRequest,
)
from lmstudio_async._wire._repository import (
    ArtifactFiles,
    ArtifactOwners,
    ArtifactPlanCreation,
    DownloadArtifactCreation,
    DownloadModelCreation,
    DownloadModelPacket,
    DownloadOptions,
    DownloadOptionsParameter,
    DownloadPacket,
    InstallLocalPluginParameter,
    PathParameter,
    PluginFolderParameter,
    PushArtifactCreation,
    PushArtifactPacket,
    SearchModelsParameter,
    SearchResults,
    StaffPicks,
    StaffPicksParameter,
)
from lmstudio_async._wire._struct import Unknown

# -- finding and downloading

SEARCH_MODELS: RpcEndpoint[SearchModelsParameter, SearchResults] = RpcEndpoint(
    "searchModels", SearchModelsParameter, SearchResults, label="Model search"
)
GET_MODEL_DOWNLOAD_OPTIONS: RpcEndpoint[DownloadOptionsParameter, DownloadOptions] = RpcEndpoint(
    "getModelDownloadOptions", DownloadOptionsParameter, DownloadOptions, label="Download options"
)
DOWNLOAD_MODEL: ChannelEndpoint[DownloadModelCreation, Any] = ChannelEndpoint(
    "downloadModel", DownloadModelCreation, DownloadModelPacket, Cancel | Unknown, label="Model download"
)
CREATE_DOWNLOAD_PLAN: ChannelEndpoint[DownloadPlanCreation, Any] = ChannelEndpoint(
    "createDownloadPlan", DownloadPlanCreation, DownloadPlanPacket, DownloadPlanRequest, label="Download plan"
)
# What old servers have instead.
CREATE_ARTIFACT_DOWNLOAD_PLAN: ChannelEndpoint[ArtifactPlanCreation, Any] = ChannelEndpoint(
    "createArtifactDownloadPlan",
    ArtifactPlanCreation,
    DownloadPlanPacket,
    Cancel | CommitPlan | Unknown,
    label="Download plan",
)
GET_MODEL_CATALOG: RpcEndpoint[None, ModelCatalog] = RpcEndpoint(
    "getModelCatalog", None, ModelCatalog, label="Model catalog"
)
FUZZY_FIND_STAFF_PICKS: RpcEndpoint[StaffPicksParameter, StaffPicks] = RpcEndpoint(
    "fuzzyFindStaffPicks", StaffPicksParameter, StaffPicks, label="Staff picks"
)

# -- artifacts

DOWNLOAD_ARTIFACT: ChannelEndpoint[DownloadArtifactCreation, Any] = ChannelEndpoint(
    "downloadArtifact", DownloadArtifactCreation, DownloadPacket, Cancel | Unknown, label="Artifact download"
)
PUSH_ARTIFACT: ChannelEndpoint[PushArtifactCreation, Any] = ChannelEndpoint(
    "pushArtifact", PushArtifactCreation, PushArtifactPacket, Unknown, label="Artifact upload"
)
GET_LOCAL_ARTIFACT_FILES: RpcEndpoint[PathParameter, ArtifactFiles] = RpcEndpoint(
    "getLocalArtifactFiles", PathParameter, ArtifactFiles, label="Artifact files"
)
GET_WRITABLE_ARTIFACT_OWNERS: RpcEndpoint[None, ArtifactOwners] = RpcEndpoint(
    "getWritableArtifactOwners", None, ArtifactOwners, label="Artifact owners"
)
INSTALL_PLUGIN_DEPENDENCIES: RpcEndpoint[PluginFolderParameter, None] = RpcEndpoint(
    "installPluginDependencies", PluginFolderParameter, repeatable=False, label="Plugin dependencies"
)
INSTALL_LOCAL_PLUGIN: RpcEndpoint[InstallLocalPluginParameter, None] = RpcEndpoint(
    "installLocalPlugin", InstallLocalPluginParameter, repeatable=False, label="Plugin installation"
)

# -- the account

IS_AUTHENTICATED: RpcEndpoint[None, IsAuthenticated] = RpcEndpoint(
    "isAuthenticated", None, IsAuthenticated, label="Login status"
)
GET_AUTHENTICATION_STATUS: RpcEndpoint[None, AuthenticationState] = RpcEndpoint(
    "getAuthenticationStatus", None, AuthenticationState, label="Login status"
)
ENSURE_AUTHENTICATED: ChannelEndpoint[None, Any] = ChannelEndpoint(
    "ensureAuthenticated", None, EnsureAuthenticatedPacket, Unknown, label="Login"
)
LOGIN_AS_COMPUTE_DEVICE: RpcEndpoint[ComputeDeviceLoginParameter, ComputeDevice] = RpcEndpoint(
    "loginAsComputeDevice", ComputeDeviceLoginParameter, ComputeDevice, repeatable=False, label="Login"
)
LOGIN_WITH_PRE_AUTHENTICATED_KEYS: RpcEndpoint[KeyLoginParameter, UserName] = RpcEndpoint(
    "loginWithPreAuthenticatedKeys", KeyLoginParameter, UserName, repeatable=False, label="Login"
)
DEAUTHENTICATE: RpcEndpoint[None, None] = RpcEndpoint("deauthenticate", repeatable=False, label="Logout")

# -- LM Link

LM_LINK_STATUS: RpcEndpoint[None, LmLinkStatus] = RpcEndpoint(
    "lmLinkStatus", None, LmLinkStatus, label="LM Link"
)
LM_LINK_SET_DISABLED: RpcEndpoint[LmLinkDisabledParameter, None] = RpcEndpoint(
    "lmLinkSetDisabled", LmLinkDisabledParameter, label="LM Link"
)
LM_LINK_UPDATE_DEVICE_NAME: RpcEndpoint[LmLinkDeviceNameParameter, None] = RpcEndpoint(
    "lmLinkUpdateDeviceName", LmLinkDeviceNameParameter, label="LM Link"
)
LM_LINK_SET_PREFERRED_DEVICE: RpcEndpoint[LmLinkPreferredDeviceParameter, None] = RpcEndpoint(
    "lmLinkSetPreferredDevice", LmLinkPreferredDeviceParameter, label="LM Link"
)
