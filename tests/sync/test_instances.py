"""Instances in the blocking facade: lists with blocking handles, and watches to loop over; in process and over `serve`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

import lmstudio_sync as lms
from tests.cli.commands import serving
from tests.instance_server import HOUR, InstanceServer, instance, kinds
from tests.sync.programs import program

KEY = "llama-3.2-1b-instruct"
NOMIC = "text-embedding-nomic-embed-text-v1.5"


@pytest.fixture(scope="module")
def serve_address(models: Path) -> Iterator[str]:
    """The address of a server in a process of its own."""
    with serving(models) as (address, _):
        yield address


@pytest.fixture(params=["asyncio", "trio", "over serve"], scope="module")
def client(request: pytest.FixtureRequest, models: Path) -> Iterator[lms.Client]:
    """A client of an embedded server, in process on both backends, and of `serve`."""
    if request.param == "over serve":
        with lms.Client(request.getfixturevalue("serve_address")) as client:
            yield client
    else:
        with lms.Client(lms.EmbeddedServer(models, threads=1), backend=request.param) as client:
            yield client


@pytest.fixture
def other(serve_address: str) -> Iterator[lms.Client]:
    """A client of the server in a process of its own, which has no instances before and after a test."""
    with lms.Client(serve_address) as client:
        yield client
        for model in client.list_loaded_models():
            model.unload()


@pytest.fixture(params=["asyncio", "trio"])
def scripted(request: pytest.FixtureRequest) -> Iterator[tuple[lms.Client, InstanceServer]]:
    """A client of a scripted server with the instance "a", and the server."""
    server = InstanceServer(instance("a"))
    with lms.Client(server, backend=request.param) as client:  # type: ignore[arg-type]
        yield client, server


def news(watch: lms.InstanceWatch, count: int) -> list[lms.InstanceEvent]:
    return [next(watch) for _ in range(count)]


def look(client: lms.Client) -> None:
    """Let a client look at its server. A watch begins with a look, whose result the others get as well."""
    with client.watch_instances():
        pass


@pytest.mark.usefixtures("nothing_loaded")
def test_instances_are_listed_with_blocking_handles(client: lms.Client) -> None:
    llama = client.llm.load_new_instance(KEY, "mine", ttl=60)
    client.embedding.load_new_instance(NOMIC)

    llm, embedding = client.list_instances()

    assert (llm.identifier, llm.status, llm.ttl) == ("mine", "idle", 60)
    handle, other = llm.handle(), embedding.handle()
    assert isinstance(handle, lms.LLM)
    assert handle == llama
    assert handle.respond("hi").content
    assert isinstance(other, lms.EmbeddingModel)
    assert len(other.embed("hi")) > 0


@pytest.mark.usefixtures("nothing_loaded")
def test_a_watch_is_a_loop_over_events(client: lms.Client) -> None:
    client.llm.load_new_instance(KEY, "old")
    with client.watch_instances(interval=HOUR) as watch:
        client.llm.load_new_instance(KEY, "new").unload()
        client.llm.unload("old")
        told = []
        for event in watch:
            if isinstance(event, lms.InstancePresent | lms.InstanceLoaded | lms.InstanceUnloaded):
                told.append((type(event), event.identifier))
            if isinstance(event, lms.InstanceUnloaded) and event.identifier == "old":
                break

    assert told == [
        (lms.InstancePresent, "old"),
        (lms.InstanceLoaded, "new"),
        (lms.InstanceUnloaded, "new"),
        (lms.InstanceUnloaded, "old"),
    ]
    assert list(watch) == []
    assert repr(watch) == "InstanceWatch('closed')"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_loads_unloads_and_evictions_of_another_client_are_told(
    other: lms.Client, serve_address: str, backend: Literal["asyncio", "trio"]
) -> None:
    with (
        lms.Client(serve_address, backend=backend) as client,
        client.watch_instances(interval=HOUR) as watch,
    ):
        other.llm.load_new_instance(KEY, "theirs")
        look(client)
        other.llm.unload("theirs")
        other.llm.model("talker").tokenize("hi")
        look(client)
        other.embedding.model(NOMIC)
        look(client)
        told = news(watch, 5)

    assert kinds(told) == [
        "InstanceLoaded theirs",
        "InstanceUnloaded theirs",
        "InstanceLoaded talker",
        "InstanceUnloaded talker",
        f"InstanceLoaded {NOMIC}",
    ]
    gone = [event for event in told if isinstance(event, lms.InstanceUnloaded)]
    assert [(event.reason, event.evicted_for) for event in gone] == [("unloaded", None), ("evicted", NOMIC)]


def test_instances_that_change_twice_between_two_looks(scripted: tuple[lms.Client, InstanceServer]) -> None:
    client, server = scripted
    with client.watch_instances(interval=HOUR) as watch:
        assert kinds(news(watch, 1)) == ["InstancePresent a"]
        server.instances.append(instance("b"))
        server.remove("r-b")
        server.instances = [instance("a", "r2")]
        look(client)
        gone, came = news(watch, 2)

    assert kinds([gone, came]) == ["InstanceUnloaded a", "InstanceLoaded a"]
    assert (gone.instance_reference, came.instance_reference) == ("r-a", "r2")


def test_a_lost_server_is_told_and_what_differs_when_it_is_back(
    scripted: tuple[lms.Client, InstanceServer],
) -> None:
    client, server = scripted
    with client.watch_instances(interval=HOUR) as watch:
        server.is_up = False
        with pytest.raises(lms.LMStudioUnreachableError):
            look(client)
        server.is_up = True
        server.instances = [instance("b")]
        look(client)
        events = news(watch, 5)

    assert kinds(events) == [
        "InstancePresent a",
        "ServerLost",
        "ServerBack",
        "InstanceUnloaded a",
        "InstanceLoaded b",
    ]


@pytest.mark.usefixtures("nothing_loaded")
def test_a_watch_needs_no_block(client: lms.Client) -> None:
    client.llm.load_new_instance(KEY)
    for event in client.watch_instances():
        assert isinstance(event, lms.InstancePresent)
        break
    watch = client.watch_instances()
    assert isinstance(next(watch), lms.InstancePresent)
    watch.close()
    assert next(watch, None) is None


def test_a_watch_of_a_closed_client_raises() -> None:
    client = lms.Client("127.0.0.1:1")
    client.close()
    with pytest.raises(lms.LMStudioConnectionClosedError):
        client.watch_instances()


def test_an_unreachable_server_is_an_error(closed_port: int) -> None:
    with lms.Client(f"127.0.0.1:{closed_port}") as client:
        with pytest.raises(lms.LMStudioUnreachableError):
            client.list_instances()
        for _ in range(2):
            with pytest.raises(lms.LMStudioUnreachableError):
                next(client.watch_instances())


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to a single process")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_ctrl_c_leaves_a_watch_at_once_and_loses_no_event(backend: str) -> None:
    code = """
        from tests.instance_server import InstanceServer, instance

        server = InstanceServer(instance("a"))
        with lms.Client(server, backend=sys.argv[1]) as client:
            watch = client.watch_instances(interval=3600)
            next(watch)
            try:
                say_when_waiting()
                for event in watch:
                    say("an event too many")
            except KeyboardInterrupt:
                say("interrupted")
                client.llm.unload("a")
                say(type(next(watch)).__name__)
            watch.close()
    """
    with program(code, backend, warnings="error") as running:
        running.wait_for("waiting")
        running.interrupt()
        running.wait_for("interrupted")
        assert running.finish() == (0, ["InstanceUnloaded"]), running.errors()
