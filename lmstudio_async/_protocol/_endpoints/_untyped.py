"""Endpoints that only LM Studio implements: their names and kinds, without types.

`AsyncClient.call` sends plain JSON to the calls among them. The embedded server refuses each of them by name.
"""

from __future__ import annotations

from collections.abc import Mapping

from lmstudio_async._protocol._endpoints._base import ChannelEndpoint, Endpoint, RpcEndpoint

__all__ = ["UNTYPED"]

#: Endpoints by namespace.
UNTYPED: Mapping[str, tuple[Endpoint, ...]] = {
    "files": (RpcEndpoint("getLocalFileAbsolutePath"),),
    "repository": (
        RpcEndpoint("getModelCatalog"),
        RpcEndpoint("fuzzyFindStaffPicks"),
        # Artifacts. Only older servers have the first endpoint.
        ChannelEndpoint("createArtifactDownloadPlan"),
        ChannelEndpoint("downloadArtifact"),
        ChannelEndpoint("pushArtifact"),
        RpcEndpoint("getLocalArtifactFiles"),
        RpcEndpoint("getWritableArtifactOwners"),
        RpcEndpoint("installPluginDependencies", repeatable=False),
        RpcEndpoint("installLocalPlugin", repeatable=False),
        # The account.
        ChannelEndpoint("ensureAuthenticated"),
        RpcEndpoint("loginAsComputeDevice", repeatable=False),
        RpcEndpoint("loginWithPreAuthenticatedKeys", repeatable=False),
        # LM Link.
        RpcEndpoint("lmLinkSetDisabled"),
        RpcEndpoint("lmLinkUpdateDeviceName"),
        RpcEndpoint("lmLinkSetPreferredDevice"),
    ),
    "runtime": (
        RpcEndpoint("removeEngine", repeatable=False),
        RpcEndpoint("searchRuntimeExtensions"),
        ChannelEndpoint("downloadRuntimeExtension"),
    ),
    "plugins": (
        # Using plugins.
        ChannelEndpoint("startToolUseSession"),
        ChannelEndpoint("generateWithGenerator"),
        # Registering plugins.
        ChannelEndpoint("registerDevelopmentPlugin"),
        RpcEndpoint("reindexPlugins"),
        # Running as a plugin.
        ChannelEndpoint("setPromptPreprocessor"),
        ChannelEndpoint("setPredictionLoopHandler"),
        ChannelEndpoint("setToolsProvider"),
        ChannelEndpoint("setGenerator"),
        RpcEndpoint("processingHandleUpdate", repeatable=False),
        RpcEndpoint("processingHandleRequest", repeatable=False),
        RpcEndpoint("processingPullHistory"),
        RpcEndpoint("processingGetOrLoadTokenSource"),
        RpcEndpoint("processingHasStatus"),
        RpcEndpoint("processingNeedsNaming"),
        RpcEndpoint("processingSuggestName"),
        RpcEndpoint("processingSetSenderName"),
        RpcEndpoint("setConfigSchematics"),
        RpcEndpoint("setGlobalConfigSchematics"),
        RpcEndpoint("pluginInitCompleted", repeatable=False),
        RpcEndpoint("reportError", repeatable=False),
    ),
}
