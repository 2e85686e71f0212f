"""A scripted server with instances, which a test changes as other clients and the server itself would.

It answers the looks of a client by itself. Loads are scripted packet by packet. Its tasks run in the event loop of the
client, so that it serves clients of the blocking facade as well.

::

    async with InstanceServer(instance("a")).watched() as (client, server, watch):
        server.remove("r-a", reason="ttl")
        await look()
        assert kinds(await news(watch)) == ["InstancePresent a", "InstanceUnloaded a"]
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from lmstudio_async import AsyncClient, AsyncInstanceWatch, InstanceEvent, LMStudioUnreachableError
from lmstudio_async._transport import ClientTransport, FrameTransport, memory_pair
from lmstudio_async.errors import LMStudioWebsocketError
from tests.clock import let_pass
from tests.scripted_server import INSTANCE, until

__all__ = ["HOUR", "InstanceServer", "instance", "kinds", "look", "news"]

#: An interval that passes only when a test lets it.
HOUR = 3600.0


def instance(identifier: str, reference: str | None = None, **members: Any) -> dict[str, Any]:
    """Make the info of an instance. Its reference is ``r-`` and the identifier by default."""
    reference = f"r-{identifier}" if reference is None else reference
    return INSTANCE | {"identifier": identifier, "instanceReference": reference, "ttlMs": None} | members


class InstanceServer:
    """A server with these instances.

    :ivar instances: the loaded instances.
    :ivar states: processing states that are not idle, by identifier.
    :ivar tells_states: ``yes``; ``error`` answers the request with an error, ``warning`` with a warning, as servers that
        do not know the endpoint.
    :param ahead: seconds that its clock is ahead, as it tells its clients.
    :ivar authentication: the answer to an authentication.
    :ivar is_up: whether it accepts connections. If not, each open one is lost with the next message of the client.
    :ivar looks: number of lists of language models that clients have asked for.
    :ivar loads: requests for loads that have come.
    :ivar cancelled: the channels of loads that clients have cancelled.
    """

    address = "scripted"
    is_running = True

    def __init__(self, *instances: dict[str, Any], tells_states: str = "yes", ahead: float = 0) -> None:
        self.instances = [*instances]
        self._ahead = ahead
        self.states: dict[str, dict[str, Any]] = {}
        self.tells_states = tells_states
        self.authentication: dict[str, Any] = {"success": True}
        self.is_up = True
        self.looks = 0
        self.loads: list[dict[str, Any]] = []
        self.cancelled: list[int] = []
        self._departures: dict[str, dict[str, Any]] = {}
        # The answers to requests of these endpoints wait.
        self._held: dict[str, anyio.Event] = {}
        self._unload_reason: str | None = None
        self._open: dict[str, FrameTransport] = {}

    @asynccontextmanager
    async def client(self, **settings: Any) -> AsyncIterator[tuple[AsyncClient, InstanceServer]]:
        async with AsyncClient(self, **settings) as client:  # type: ignore[arg-type]
            yield client, self

    @asynccontextmanager
    async def watched(
        self, **settings: Any
    ) -> AsyncIterator[tuple[AsyncClient, InstanceServer, AsyncInstanceWatch]]:
        """Run a client with a watch that has begun."""
        async with self.client(**settings) as (client, _), client.watch_instances(interval=HOUR) as watch:
            yield client, self, watch

    @asynccontextmanager
    async def connect(self, namespace: str) -> AsyncIterator[ClientTransport]:
        if not self.is_up:
            raise LMStudioUnreachableError("There is no server.")
        theirs, ours = memory_pair()
        self._open[namespace] = ours
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._serve, namespace, ours, tasks)
            try:
                yield _Transport(theirs, self._ahead)
            except Exception as error:  # noqa: BLE001 - raised below, and not in a group
                failure = error
            finally:
                await theirs.aclose()
                tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    # -- for tests

    def remove(self, reference: str, *, reason: str | None = None, **more: Any) -> None:
        """Unload an instance.

        :param reason: the reason that the server tells; None for a server that tells none.
        """
        self.instances = [each for each in self.instances if each["instanceReference"] != reference]
        if reason is not None:
            self._departures[reference] = {"reason": reason, **more}

    async def drop(self) -> None:
        """Lose all connections."""
        for transport in self._open.values():
            await transport.aclose()
        self._open.clear()

    def hold(self, endpoint: str) -> None:
        """Answer no call of an endpoint before `release`; the answers are the ones of the time of the call."""
        self._held[endpoint] = anyio.Event()

    def release(self, endpoint: str) -> None:
        self._held.pop(endpoint).set()

    def held(self, endpoint: str) -> int:
        """Return the number of calls that wait for `release`."""
        return self._held[endpoint].statistics().tasks_waiting

    def hold_lists(self) -> None:
        """Hold all lists of instances."""
        self.hold("listLoaded")

    def release_lists(self) -> None:
        self.release("listLoaded")

    def hold_unloads(self, *, reason: str | None) -> None:
        """Unload at once, and confirm it not before `release_unloads`.

        :param reason: the reason that the server tells others.
        """
        self._unload_reason = reason
        self.hold("unloadModel")

    def release_unloads(self) -> None:
        self.release("unloadModel")

    async def next_load(self) -> dict[str, Any]:
        """Wait for a request to load."""
        await until(lambda: bool(self.loads))
        return self.loads.pop(0)

    async def packet(self, load: dict[str, Any], **packet: Any) -> None:
        await self._say(load["namespace"], type="channelSend", channelId=load["channelId"], message=packet)

    async def close(self, load: dict[str, Any]) -> None:
        await self._say(load["namespace"], type="channelClose", channelId=load["channelId"])

    async def fail(self, load: dict[str, Any], title: str) -> None:
        error = {"title": title}
        await self._say(load["namespace"], type="channelError", channelId=load["channelId"], error=error)

    async def succeed(self, load: dict[str, Any], info: dict[str, Any]) -> None:
        """End a load with an instance."""
        self.instances.append(info)
        kind = "success" if load["endpoint"] == "loadModel" else "loadSuccess"
        await self.packet(load, type=kind, info=info)
        await self.close(load)

    # -- answers

    async def _say(self, namespace: str, **message: Any) -> None:
        await self._open[namespace].send(json.dumps(message))

    async def _serve(self, namespace: str, transport: FrameTransport, tasks: anyio.abc.TaskGroup) -> None:
        try:
            while True:
                for frame in await transport.receive():
                    message = json.loads(frame)
                    if not self.is_up:
                        await transport.aclose()
                    elif "authVersion" in message:
                        await transport.send(json.dumps(self.authentication))
                    elif message["type"] == "channelCreate":
                        self.loads.append({**message, "namespace": namespace})
                    elif message["type"] == "rpcCall":
                        tasks.start_soon(self._answer, namespace, transport, message)
                    elif message["message"] == {"type": "cancel"}:
                        self.cancelled.append(message["channelId"])
                        await self.fail({**message, "namespace": namespace}, "Cancelled.")
        except LMStudioWebsocketError:
            pass

    async def _answer(self, namespace: str, transport: FrameTransport, call: dict[str, Any]) -> None:
        answer = getattr(self, f"_{call['endpoint']}")(namespace, call.get("parameter"))
        if (held := self._held.get(call["endpoint"])) is not None:
            await held.wait()
        reply = {"type": "rpcResult", "callId": call["callId"], **answer}
        try:
            await transport.send(json.dumps(reply))
        except LMStudioWebsocketError:
            pass

    def _listLoaded(self, namespace: str, _: None) -> dict[str, Any]:  # noqa: N802 - the name on the wire
        self.looks += namespace == "llm"
        return {"result": [each for each in self.instances if each["type"] == namespace]}

    def _getModelInfo(self, _: str, parameter: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return self._find(parameter, lambda found: found)

    def _getInstanceProcessingState(self, _: str, parameter: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        if self.tells_states == "error":
            return {"type": "rpcError", "error": {"title": "No such endpoint."}}
        if self.tells_states == "warning":
            text = "Received rpcCall for unknown endpoint = getInstanceProcessingState"
            return {"type": "communicationWarning", "warning": text}
        idle = {"status": "idle", "queued": 0}
        return self._find(parameter, lambda found: self.states.get(found["identifier"], idle))

    def _unloadModel(self, _: str, parameter: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        found = [each for each in self.instances if each["identifier"] == parameter["identifier"]]
        device = parameter.get("deviceIdentifier")
        (gone,) = [each for each in found if device in (None, each["deviceIdentifier"])][:1]
        self.instances = [each for each in self.instances if each is not gone]
        if self._unload_reason is not None:
            self._departures[gone["instanceReference"]] = {"reason": self._unload_reason}
        return {}

    def _find(self, parameter: dict[str, Any], result: Any) -> dict[str, Any]:
        specifier = parameter["specifier"]
        reference = specifier.get("instanceReference")
        for each in self.instances:
            # A query matches the model's key as well, as on real servers.
            names = () if reference else (each["identifier"], each["modelKey"])
            if (
                each["instanceReference"] == reference
                or specifier.get("query", {}).get("identifier") in names
            ):
                return {"result": result(each)}
        if not parameter["throwIfNotFound"]:
            return {}
        error: dict[str, Any] = {"title": "Model is unloaded."}
        display: dict[str, Any] = {"code": "generic.specificModelUnloaded"}
        if reference in self._departures:
            display["departure"] = self._departures[reference]
        return {"type": "rpcError", "error": {**error, "displayData": display}}


class _Transport:
    """The client's end of a connection to a server whose clock may be ahead."""

    def __init__(self, transport: ClientTransport, server_is_ahead: float) -> None:
        self.server_is_ahead = server_is_ahead
        self.send = transport.send
        self.receive = transport.receive
        self.aclose = transport.aclose


async def look(seconds: float = HOUR) -> None:
    """Let the interval pass, and wait until the client has looked."""
    await let_pass(seconds)
    await anyio.wait_all_tasks_blocked()


async def news(watch: AsyncInstanceWatch) -> list[InstanceEvent]:
    """Return the events that are there, or come without the interval."""
    found: list[InstanceEvent] = []
    await anyio.wait_all_tasks_blocked()
    while True:
        with anyio.move_on_after(0) as scope:
            found.append(await anext(watch))
        if scope.cancelled_caught:
            return found


def kinds(events: list[InstanceEvent]) -> list[str]:
    """Return each event in a few words, such as ``InstanceLoaded a``."""
    return [f"{type(event).__name__} {event.identifier}".strip() for event in events]
