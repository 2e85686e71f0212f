"""Ctrl-C in a blocking `ensure_instance`: it leaves at once, and cancels the load unless other callers wait for it."""

from __future__ import annotations

import sys
from textwrap import dedent

import pytest

from tests.sync.programs import program

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to a single process")

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])

#: A client with limits so long that `Program` kills a program that waits for the end of one. Its server ends a load when
#: `go_on` is set.
HEAD = """
import json
import anyio
from lmstudio_async._client_limits import ClientLimits
from tests.scripted_server import INSTANCE

go_on = threading.Event()

class LateServer(QuietServer):
    async def _hear(self, transport, message):
        await super()._hear(transport, message)
        if message.get("endpoint") == "loadModel" and len(sys.argv) > 2:
            while not go_on.is_set():
                await anyio.sleep(0.001)
            success = {"type": "success", "info": INSTANCE | {"identifier": "mine"}}
            number = message["channelId"]
            await transport.send(json.dumps({"type": "channelSend", "channelId": number, "message": success}))
            await transport.send(json.dumps({"type": "channelClose", "channelId": number}))

ENDLESS = ClientLimits(
    connect_seconds=3600.0, clean_up_seconds=3600.0, stop_seconds=3600.0, close_at_exit_seconds=3600.0
)
server = LateServer()
client = client_of(server, backend=sys.argv[1], _limits=ENDLESS)
"""


@BACKENDS
def test_ctrl_c_in_ensure_instance_cancels_its_load(backend: str) -> None:
    code = """
        with client:
            try:
                client.llm.ensure_instance("qwen3-4b", "mine", on_progress=say)
            except KeyboardInterrupt:
                say("interrupted", server.has_received("cancel"))
            say(client.llm.list_loaded()[0].identifier)
    """
    with program(HEAD + dedent(code), backend, warnings="error") as running:
        running.wait_for("0.5")
        running.interrupt()
        running.wait_for("interrupted True")
        assert running.finish() == (0, ["qwen3-4b"]), running.errors()


@BACKENDS
def test_ctrl_c_in_an_ensure_stream_cancels_its_load(backend: str) -> None:
    code = """
        with client:
            try:
                for progress in client.llm.ensure_instance_stream("qwen3-4b", "mine"):
                    if progress.fraction == 0.5:
                        say_when_waiting()
            except KeyboardInterrupt:
                say("interrupted", server.has_received("cancel"))
    """
    with program(HEAD + dedent(code), backend, warnings="error") as running:
        running.wait_for("waiting")
        running.interrupt()
        running.wait_for("interrupted True")
        assert running.finish() == (0, []), running.errors()


@BACKENDS
@pytest.mark.parametrize("first", ["main", "other"])
def test_ctrl_c_in_ensure_instance_leaves_the_load_to_another_thread(backend: str, first: str) -> None:
    code = """
        waits = {"main": threading.Event(), "other": threading.Event()}

        def ensure(name):
            def on_progress(fraction):
                if fraction == 0.5:
                    waits[name].set()
            return client.llm.ensure_instance("qwen3-4b", "mine", on_progress=on_progress)

        def ensure_in_the_other_thread():
            if sys.argv[2] == "main":
                waits["main"].wait()
            handles.append(ensure("other"))

        def say_when_both_wait():
            for each in waits.values():
                each.wait()
            say("both wait")

        handles = []
        other = threading.Thread(target=ensure_in_the_other_thread)
        threading.Thread(target=say_when_both_wait, daemon=True).start()
        with client:
            other.start()
            if sys.argv[2] == "other":
                waits["other"].wait()
            try:
                ensure("main")
            except KeyboardInterrupt:
                say("interrupted", server.has_received("cancel"))
            go_on.set()
            other.join()
            say(handles[0].identifier, server.calls().count("loadModel"), server.has_received("cancel"))
    """
    with program(HEAD + dedent(code), backend, first, warnings="error") as running:
        running.wait_for("both wait")
        running.interrupt()
        running.wait_for("interrupted False")
        assert running.finish() == (0, ["mine 1 False"]), running.errors()
