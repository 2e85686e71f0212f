"""Endpoints of LM Studio that this server does not have: why, and what to do instead."""

from __future__ import annotations

from typing import Final

from lmstudio_async._install_command import install_command
from lmstudio_async._protocol._errors import unsupported_feature
from lmstudio_async.embedded._versions import engine_version
from lmstudio_async.errors import LMStudioUnsupportedFeatureError

__all__ = ["unsupported_endpoint"]

#: Namespace, endpoints (``*`` for all of them), reason, and what to do instead.
_GROUPS: Final = (
    (
        "system",
        "startHttpServer stopHttpServer",
        "the program that runs this server decides whether it listens on a port",
        "Start one that listens with `lmsa serve`, and stop it with Ctrl-C.",
    ),
    (
        "system",
        "requestShutdown",
        "this server ends with the program that runs it, and not on the request of a client",
        "Stop it where it was started: with Ctrl-C or SIGTERM; in a program, leave its block.",
    ),
    (
        "files",
        "getLocalFileAbsolutePath",
        "uploaded files are kept in memory here, so none has a path",
        "Use the identifier that the upload returned.",
    ),
    (
        "repository",
        "getModelCatalog fuzzyFindStaffPicks",
        "this server has no access to LM Studio's own catalog",
        "Search Hugging Face: searchModels.",
    ),
    (
        "repository",
        "downloadArtifact createArtifactDownloadPlan pushArtifact getLocalArtifactFiles getWritableArtifactOwners",
        "artifacts belong to LM Studio's own hub, and this server has no access to it",
        "Download models of Hugging Face: downloadModel, or createDownloadPlan of a model.",
    ),
    (
        "repository",
        "installPluginDependencies installLocalPlugin",
        "this server runs no plugins",
        "Give tools to the model with the request itself (`act`), or use LM Studio for plugins.",
    ),
    (
        "repository",
        "ensureAuthenticated loginAsComputeDevice loginWithPreAuthenticatedKeys",
        "there is no account of LM Studio's hub to log in to",
        "For private and gated models of Hugging Face, set HF_TOKEN where the server runs, or use `hf auth login`.",
    ),
    (
        "repository",
        "lmLinkSetDisabled lmLinkUpdateDeviceName lmLinkSetPreferredDevice",
        "models run on this server's own machine only, and it is part of no LM Link",
        "Connect to the server of the other machine itself.",
    ),
    (
        "runtime",
        "removeEngine searchRuntimeExtensions downloadRuntimeExtension",
        "the only engine is a Python package, which is installed and removed with pip",
        # Not an update on its own, because each release of this package fits certain versions of the engine.
        "Install, update or remove it where the server runs, together with this package: {install}",
    ),
    (
        "plugins",
        "*",
        "this server runs no plugins",
        "Give tools to the model with the request itself (`act`), or use LM Studio for plugins.",
    ),
)

_REASONS: Final = {
    (namespace, endpoint): (reason, suggestion)
    for namespace, names, reason, suggestion in _GROUPS
    for endpoint in names.split()
}


def unsupported_endpoint(namespace: str, endpoint: str) -> LMStudioUnsupportedFeatureError:
    """Return the error for a call of an endpoint that this server does not have.

    :raises KeyError: the endpoint has no entry in this module.
    """
    reason, suggestion = _REASONS.get((namespace, endpoint)) or _REASONS[namespace, "*"]
    if "{install}" in suggestion:
        suggestion = suggestion.replace("{install}", install_command("embedded"))
    return unsupported_feature(f"{namespace}.{endpoint}", engine_version(), reason, suggestion)
