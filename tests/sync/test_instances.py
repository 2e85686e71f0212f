"""Instances in the blocking facade: lists with blocking handles, and watches to loop over."""

from __future__ import annotations

import sys
from textwrap import dedent

import pytest

import lmstudio_sync as lms
from tests.sync.programs import program

KEY = "llama-3.2-1b-instruct"
NOMIC = "text-embedding-nomic-embed-text-v1.5"

pytestmark = pytest.mark.usefixtures("nothing_loaded")


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


def test_a_watch_is_a_loop_over_events(client: lms.Client) -> None:
    client.llm.load_new_instance(KEY, "old")
    with client.watch_instances(interval=3600) as watch:
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


WATCHING = """
import anyio
from tests.instance_server import InstanceServer, instance

class Served(InstanceServer):
    \"\"\"A server whose tasks run in the event loop of its client.\"\"\"

    @asynccontextmanager
    async def connect(self, namespace):
        async with anyio.create_task_group() as self._tasks:
            async with super().connect(namespace) as transport:
                yield transport
            self._tasks.cancel_scope.cancel()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to a single process")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_ctrl_c_leaves_a_watch_at_once_and_loses_no_event(backend: str) -> None:
    code = """
        from contextlib import asynccontextmanager
        {watching}
        server = Served(instance("a"))
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
    filled = dedent(code).replace("{watching}", WATCHING)
    with program(filled, backend, warnings="error") as running:
        running.wait_for("waiting")
        running.interrupt()
        running.wait_for("interrupted")
        assert running.finish() == (0, ["InstanceUnloaded"]), running.errors()
