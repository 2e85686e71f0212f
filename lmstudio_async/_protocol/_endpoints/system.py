"""The endpoints of ``system``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmstudio_async._protocol._endpoints._base import ChannelEndpoint, RpcEndpoint

if TYPE_CHECKING:
    from lmstudio_async._wire._infos import AnyModelInfo
    from lmstudio_async._wire._system import (
        ListVariantsParameter,
        NotifyParameter,
        ServerInfo,
        ServerVersion,
        SetExperimentFlagParameter,
        StartHttpServerParameter,
    )

LIST_DOWNLOADED_MODELS: RpcEndpoint[None, list[AnyModelInfo]] = RpcEndpoint(
    "listDownloadedModels", None, "list[_infos.AnyModelInfo]", label="Model list"
)
LIST_DOWNLOADED_MODEL_VARIANTS: RpcEndpoint[ListVariantsParameter, list[AnyModelInfo]] = RpcEndpoint(
    "listDownloadedModelVariants",
    "_system.ListVariantsParameter",
    "list[_infos.AnyModelInfo]",
    label="Model variants",
)
# No packets are sent on it: the open channel itself shows that the connection is alive.
ALIVE: ChannelEndpoint[None, Any] = ChannelEndpoint(
    "alive", None, "_struct.Unknown", "_struct.Unknown", label="Connection watch"
)
NOTIFY: RpcEndpoint[NotifyParameter, None] = RpcEndpoint(
    "notify", "_system.NotifyParameter", repeatable=False, label="Notification"
)
VERSION: RpcEndpoint[None, ServerVersion] = RpcEndpoint(
    "version", None, "_system.ServerVersion", label="Server version"
)
SET_EXPERIMENT_FLAG: RpcEndpoint[SetExperimentFlagParameter, None] = RpcEndpoint(
    "setExperimentFlag", "_system.SetExperimentFlagParameter", label="Experiment flag"
)
GET_EXPERIMENT_FLAGS: RpcEndpoint[None, list[str]] = RpcEndpoint(
    "getExperimentFlags", None, "list[str]", label="Experiment flags"
)
START_HTTP_SERVER: RpcEndpoint[StartHttpServerParameter, None] = RpcEndpoint(
    "startHttpServer", "_system.StartHttpServerParameter", repeatable=False, label="HTTP server start"
)
STOP_HTTP_SERVER: RpcEndpoint[None, None] = RpcEndpoint(
    "stopHttpServer", repeatable=False, label="HTTP server stop"
)
INFO: RpcEndpoint[None, ServerInfo] = RpcEndpoint("info", None, "_system.ServerInfo", label="Server info")
# Not repeatable: repeated after a lost connection, it would stop a server that was started in between.
REQUEST_SHUTDOWN: RpcEndpoint[None, None] = RpcEndpoint(
    "requestShutdown", repeatable=False, label="Server shutdown"
)
