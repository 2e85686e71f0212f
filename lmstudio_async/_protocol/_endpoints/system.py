"""The endpoints of ``system``."""

from __future__ import annotations

from typing import Any

from lmstudio_async._protocol._endpoints._base import ChannelEndpoint, RpcEndpoint
from lmstudio_async._wire._infos import AnyModelInfo
from lmstudio_async._wire._struct import Unknown
from lmstudio_async._wire._system import (
    ListVariantsParameter,
    NotifyParameter,
    ServerInfo,
    ServerVersion,
    SetExperimentFlagParameter,
    StartHttpServerParameter,
)

LIST_DOWNLOADED_MODELS: RpcEndpoint[None, list[AnyModelInfo]] = RpcEndpoint(
    "listDownloadedModels", None, list[AnyModelInfo], label="Model list"
)
LIST_DOWNLOADED_MODEL_VARIANTS: RpcEndpoint[ListVariantsParameter, list[AnyModelInfo]] = RpcEndpoint(
    "listDownloadedModelVariants", ListVariantsParameter, list[AnyModelInfo], label="Model variants"
)
# Says nothing: that it is open is the message.
ALIVE: ChannelEndpoint[None, Any] = ChannelEndpoint("alive", None, Unknown, Unknown, label="Connection watch")
NOTIFY: RpcEndpoint[NotifyParameter, None] = RpcEndpoint(
    "notify", NotifyParameter, repeatable=False, label="Notification"
)
VERSION: RpcEndpoint[None, ServerVersion] = RpcEndpoint(
    "version", None, ServerVersion, label="Server version"
)
SET_EXPERIMENT_FLAG: RpcEndpoint[SetExperimentFlagParameter, None] = RpcEndpoint(
    "setExperimentFlag", SetExperimentFlagParameter, label="Experiment flag"
)
GET_EXPERIMENT_FLAGS: RpcEndpoint[None, list[str]] = RpcEndpoint(
    "getExperimentFlags", None, list[str], label="Experiment flags"
)
START_HTTP_SERVER: RpcEndpoint[StartHttpServerParameter, None] = RpcEndpoint(
    "startHttpServer", StartHttpServerParameter, repeatable=False, label="HTTP server start"
)
STOP_HTTP_SERVER: RpcEndpoint[None, None] = RpcEndpoint(
    "stopHttpServer", repeatable=False, label="HTTP server stop"
)
INFO: RpcEndpoint[None, ServerInfo] = RpcEndpoint("info", None, ServerInfo, label="Server info")
# Repeated after a lost connection, it would stop the server that someone started in between.
REQUEST_SHUTDOWN: RpcEndpoint[None, None] = RpcEndpoint(
    "requestShutdown", repeatable=False, label="Server shutdown"
)
