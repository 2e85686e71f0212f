"""The whole endpoint table: each endpoint is answered, or refused by an error with the reason and an alternative."""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Any

import attrs
import pytest

from lmstudio_async import AsyncClient, LMStudioServerError, LMStudioUnsupportedFeatureError
from lmstudio_async._protocol._endpoints import NAMESPACES, ChannelEndpoint, Endpoint, endpoints
from lmstudio_async._protocol._endpoints._untyped import UNTYPED
from lmstudio_async._wire._struct import Unknown, WireObject, camel
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.testing import ModelsFolder
from tests.embedded.raw_client import RawClient, Refused, connected
from tests.failures import Failures

pytestmark = pytest.mark.usefixtures("hub")

EVERY = [(namespace, name) for namespace in NAMESPACES for name in endpoints(namespace)]
#: Endpoints that the server refuses although the client has methods for them.
OF_THE_APP = {("system", name) for name in ("startHttpServer", "stopHttpServer", "requestShutdown")}
REFUSED = OF_THE_APP | {(namespace, row.name) for namespace, rows in UNTYPED.items() for row in rows}


def least(kind: Any) -> Any:
    """Return the smallest JSON that an endpoint accepts as its parameter."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return least(next(option for option in typing.get_args(kind) if option not in (None, Unknown)))
    if isinstance(kind, type) and attrs.has(kind):
        hints = typing.get_type_hints(kind)
        members = {
            camel(field.name): least(hints[field.name])
            for field in attrs.fields(kind)
            if field.default is attrs.NOTHING
        }
        tag = {kind.TAG_KEY: kind.TAG} if issubclass(kind, WireObject) and kind.TAG else {}
        return {**tag, **members}
    return {str: "x", int: 1, float: 1.0, bool: False, list: [], dict: {}, Any: None}[
        typing.get_origin(kind) or kind
    ]


async def error_of(raw: RawClient, endpoint: Endpoint) -> Refused | None:
    """Use an endpoint, and return its error if the server refuses it."""
    try:
        if not isinstance(endpoint, ChannelEndpoint):
            await raw.call(endpoint.name, endpoint.parameter and least(endpoint.parameter))
        else:
            channel = await raw.open(endpoint.name, endpoint.creation and least(endpoint.creation))
            if endpoint.name == "streamLogs":
                await raw.tell(channel, type="stop")
            # The server sends nothing over this channel as long as it runs.
            if endpoint.name != "alive":
                await raw.packets(channel)
    except Refused as refused:
        return refused
    return None


async def test_an_endpoint_is_answered_or_refused_with_a_reason(tmp_path: Path) -> None:
    with Failures() as failures:
        for number, (namespace, name) in enumerate(EVERY):
            # Each endpoint has a server of its own, because some of them change the state of the server.
            folder = ModelsFolder(tmp_path / str(number)).folder
            async with EmbeddedServer(folder, threads=1) as server:
                with failures.of(f"{namespace}.{name}"):
                    await check_endpoint(server, namespace, name)


async def check_endpoint(server: EmbeddedServer, namespace: str, name: str) -> None:
    """Check that the server answers an endpoint, or refuses it with a reason."""
    async with connected(server, namespace) as raw:
        refused = await error_of(raw, endpoints(namespace)[name])
        # There is no warning, because the endpoint is known and the frames are valid.
        assert await raw.silence() == []
    if (namespace, name) not in REFUSED:
        # The requested object may not exist; then the error is about the object.
        assert refused is None or f"{namespace}.{name}" not in refused.error["title"]
        assert refused is None or "Internal server error" not in refused.error["title"]
        return
    assert refused is not None
    assert refused.code == "generic.engineDoesNotSupportFeature"
    assert refused.error["title"].startswith(f"{namespace}.{name}: ")
    assert refused.error["suggestion"].endswith((".", '"'))


async def test_a_refused_endpoint_raises_unsupported_feature_error(server: EmbeddedServer) -> None:
    async with AsyncClient(server) as client:
        with pytest.raises(LMStudioUnsupportedFeatureError, match="Ctrl-C or SIGTERM") as caught:
            await client.system.request_shutdown()
    assert caught.value.display_data["feature"] == "system.requestShutdown"


async def test_the_server_is_never_logged_in_at_lm_studios_hub(server: EmbeddedServer) -> None:
    async with connected(server, "repository") as raw:
        assert await raw.call("isAuthenticated") == {"authenticated": False}
        assert await raw.call("getAuthenticationStatus") == {"authenticationStatus": {"type": "none"}}
        await raw.call("deauthenticate")
        link = await raw.call("lmLinkStatus")
    assert (link["status"], link["issues"], link["peers"]) == ("offline", ["notLoggedIn"], [])
    assert link["deviceIdentifier"] is None


async def test_an_experiment_flag_cannot_be_switched_on(server: EmbeddedServer) -> None:
    async with AsyncClient(server) as client:
        assert await client.system.get_experiment_flags() == []
        await client.system.set_experiment_flag("turbo", value=False)
        with pytest.raises(LMStudioServerError, match='no experiment "turbo"'):
            await client.system.set_experiment_flag("turbo", value=True)
