"""Programs as users run them leave nothing behind on the server, however they leave an answer or a load.

Each program runs in a process of its own, because users seldom have an event loop like that of the tests: anyio's pytest
plugin tells sniffio which library runs, and `asyncio.run` does not. sniffio itself is installed, as with openai or trio.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio.from_thread
import pytest

import lmstudio_sync
from lmstudio_async import EmbeddedServer
from lmstudio_async.testing import ModelsFolder, served
from tests.faults.socket_server import Peer, SocketServer
from tests.processes import SEARCH_PATH, HeldLoads, needs_proc, wait_gone, workers
from tests.programs.runners import RUNNERS, interpreter_options, why_not
from tests.scripted_server import INSTANCE

pytestmark = needs_proc

PROGRAM = Path(__file__).with_name("run.py")
EVERYTHING = ["answers", "loads", "interrupts"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("talker", script="on and on ", endless=True, context_length=65536)
    folder.add_llm("big", padding_mb=64)
    return folder.folder


@pytest.fixture(scope="module")
def client(models: Path) -> Iterator[lmstudio_sync.Client]:
    """A client of a server behind a port, with a loaded model whose answer takes minutes."""
    with (
        served(EmbeddedServer(models, threads=1)) as host,
        lmstudio_sync.Client(host) as client,
    ):
        client.llm.load_new_instance("talker", config={"context_length": 65536})
        yield client


@pytest.fixture(params=RUNNERS)
def runner(request: pytest.FixtureRequest) -> str:
    reason = why_not(request.param)
    if reason is not None:
        pytest.skip(reason)
    return str(request.param)


def run(options: list[str], program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert importlib.util.find_spec("sniffio"), "without sniffio, anyio never asks it"
    return subprocess.run(
        [sys.executable, *options, str(program), *arguments],
        env=os.environ | {"PYTHONPATH": SEARCH_PATH},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )


def play(runner: str, place: object, *parts: str) -> None:
    """Run the scenes of a program. No scene may leave work on the server, and the program prints nothing to stderr."""
    done = run(interpreter_options(runner), PROGRAM, runner, str(place), *parts)
    *_, last = done.stdout.splitlines() or ["no scene"]
    assert (done.returncode, done.stderr) == (0, ""), f"{last}\n{done.stderr}"
    assert last != "no scene"


def test_work_on_another_server_ends_when_a_program_leaves_it(
    runner: str, client: lmstudio_sync.Client, held_loads: HeldLoads
) -> None:
    before = workers()

    play(runner, f"{client.api_host}@{os.getpid()}", *EVERYTHING)

    (talker,) = client.llm.list_loaded()
    assert talker.get_processing_state().status == "idle"
    assert workers() == before


def test_work_on_the_server_of_a_program_ends_when_the_program_leaves_it(runner: str, models: Path) -> None:
    play(runner, models, *EVERYTHING)


def test_an_instance_that_comes_up_too_late_is_unloaded(runner: str) -> None:
    with SocketServer(LateSuccess(), faulty_connections=math.inf) as server:
        play(runner, f"{server.api_host}@{os.getpid()}", "late_loads")


@pytest.mark.parametrize("runner", ["asyncio.run", "trio.run"], indirect=True)
@pytest.mark.parametrize("where", ["in the loop", "at the end"])
@pytest.mark.parametrize("is_own_server", [False, True], ids=["another server", "its own server"])
def test_a_client_that_a_program_forgets_to_close_warns_and_leaves_no_work(
    runner: str,
    where: str,
    is_own_server: bool,
    models: Path,
    client: lmstudio_sync.Client,
    held_loads: HeldLoads,
) -> None:
    before = workers()
    forgotten = Path(__file__).with_name("forgotten.py")
    place = str(models) if is_own_server else client.api_host
    done = run(["-W", "always::ResourceWarning"], forgotten, runner, place, where)

    assert (done.returncode, done.stdout) == (0, "worker processes: 0\n"), done.stderr
    line = forgotten.read_text(encoding="utf-8").split("AsyncClient.open")[0].count("\n") + 1
    assert f"made at {forgotten}:{line}, was not closed" in done.stderr
    for noise in ("Traceback", "Exception", "never awaited", "destroyed"):
        assert noise not in done.stderr
    with anyio.from_thread.start_blocking_portal() as portal:
        for worker in workers() - before:
            portal.call(wait_gone, worker)


class LateSuccess:
    """A fault: a load succeeds when it is cancelled. The server lists the instance from the beginning of the load."""

    def __init__(self) -> None:
        self._loaded: list[Any] = []

    def __call__(self, peer: Peer) -> None:
        peer.accept()
        while True:
            self._answer(peer, peer.next_message())

    def _answer(self, peer: Peer, message: dict[str, Any]) -> None:
        match message:
            case {"type": "channelCreate", "endpoint": "loadModel", "channelId": channel}:
                self._loaded.append(INSTANCE)
                packet = {"type": "progress", "progress": 0.5}
                peer.say(json.dumps({"type": "channelSend", "channelId": channel, "message": packet}))
            case {"type": "channelSend", "channelId": channel, "message": {"type": "cancel"}}:
                packet = {"type": "success", "info": INSTANCE}
                peer.say(json.dumps({"type": "channelSend", "channelId": channel, "message": packet}))
                peer.say(json.dumps({"type": "channelClose", "channelId": channel}))
            case {"type": "rpcCall", "endpoint": "unloadModel", "callId": call}:
                self._loaded.clear()
                peer.say(json.dumps({"type": "rpcResult", "callId": call}))
            case {"type": "rpcCall", "endpoint": "listLoaded", "callId": call}:
                peer.say(json.dumps({"type": "rpcResult", "callId": call, "result": self._loaded}))
