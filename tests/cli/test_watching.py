"""`lmsa top`, `lmsa ps --watch` and `lmsa events`: what happens to the instances, until Ctrl-C."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import pytest
from anyio.abc import TaskStatus
from anyio.from_thread import start_blocking_portal

import lmstudio_sync as lms
from lmstudio_async import EmbeddedServer, InstanceChanged, LlmInstanceInfo
from lmstudio_async._cli._event_lines import as_json, event_line
from lmstudio_async.embedded import serve
from lmstudio_async.testing import ModelsFolder, served
from tests.cli.commands import command_in_terminal, read_line, run, start
from tests.program_terminal import CTRL_C

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for other processes")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("tiny")
    folder.add_llm("other")
    return folder.folder


@pytest.fixture(scope="module")
def address(models: Path) -> Iterator[str]:
    with served(EmbeddedServer(models)) as host:
        yield host


@contextmanager
def served_at(server: EmbeddedServer, port: int) -> Iterator[None]:
    """Run a server in a thread of its own, at this port."""

    async def serve_it(*, task_status: TaskStatus[None]) -> None:
        async with server:
            await serve(server, port=port, ready=lambda host, port: task_status.started())

    with start_blocking_portal() as portal:
        serving, _ = portal.start_task(serve_it)
        try:
            yield
        finally:
            serving.cancel()


class Restartable:
    """A server that a test stops and starts again, at the same port."""

    def __init__(self, models: Path, port: int) -> None:
        self._models = models
        self._port = port
        self._running = ExitStack()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        self._running.enter_context(served_at(EmbeddedServer(self._models), self._port))

    def stop(self) -> None:
        self._running.close()

    def load(self, key: str) -> None:
        with lms.Client(self.host) as client:
            client.llm.load_new_instance(key, ttl=None)


@pytest.fixture
def restartable(models: Path, closed_port: int) -> Iterator[Restartable]:
    server = Restartable(models, closed_port)
    server.start()
    yield server
    server.stop()


def next_json(stream: IO[str]) -> Any:
    return json.loads(read_line(stream))


# -- events


def test_events_prints_a_line_for_each_load_and_unload_until_ctrl_c(client: lms.Client) -> None:
    client.llm.load_new_instance("tiny", "first")
    with start("events") as command:
        assert "Watching the instances of" in read_line(command.err)
        assert read_line(command.out).split()[1:] == ["present", "first", "(tiny)", "idle"]
        client.llm.load_new_instance("tiny")
        assert read_line(command.out).split()[1:] == ["loaded", "tiny", "idle"]
        client.llm.unload("first")
        assert read_line(command.out).endswith("unloaded     first (tiny)  by another client\n")
        client.llm.unload("tiny")
        client.llm.model("tiny")
        assert read_line(command.out, "  loaded  ").split()[2] == "tiny"
        client.llm.model("other")
        assert read_line(command.out).endswith("unloaded     tiny  evicted for other\n")
        assert read_line(command.out).split()[1:] == ["loaded", "other", "idle"]
        assert command.interrupt() == (0, "", "")


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_events_json_is_a_line_for_each_event(client: lms.Client, number: int) -> None:
    with start("events", "--json", "--quiet") as command:
        tiny = client.llm.load_new_instance("tiny", ttl=60)
        # The instance may have come before the watch began.
        event = next_json(command.out)
        reference = event["instance_reference"]
        assert event["event"] in ("present", "loaded")
        assert (event["kind"], event["identifier"], event["model_key"]) == ("llm", "tiny", "tiny")
        assert (reference, event["status"], event["queued"]) == (tiny.info.instance_reference, "idle", 0)
        tiny.unload()
        event = next_json(command.out)
        assert event["event"] == "unloaded"
        assert (event["reason"], event["evicted_for"]) == ("unloaded", None)
        assert event["instance_reference"] == reference
        assert "status" not in event
        assert command.interrupt(number) == (0, "", "")


def test_events_tells_that_the_server_is_lost_and_back(restartable: Restartable) -> None:
    restartable.load("tiny")
    with start("events", "--quiet", "--host", restartable.host) as command:
        assert read_line(command.out, "present")
        restartable.stop()
        assert "  server lost  " in read_line(command.out)
        restartable.start()
        assert read_line(command.out).endswith("  server back\n")
        assert read_line(command.out).endswith("unloaded     tiny  the server was stopped or restarted\n")
        assert command.interrupt() == (0, "", "")


def test_event_line_has_the_status_in_the_words_of_ps() -> None:
    event = InstanceChanged(
        at=datetime(2026, 1, 2, tzinfo=UTC),
        identifier="mine",
        instance_reference="x",
        kind="llm",
        info=LlmInstanceInfo(identifier="mine", model_key="tiny"),
        status="processingPrompt",
        queued=2,
    )
    assert event_line(event).endswith("changed      mine (tiny)  reading prompt +2")
    # Programs get the status as the SDK has it, also from ps.
    assert as_json(event)["status"] == "processingPrompt"


@pytest.mark.parametrize("arguments", [["events"], ["top"], ["ps", "--watch", "--json"]])
def test_a_watch_ends_quietly_when_the_reader_of_its_output_does(
    arguments: list[str], client: lms.Client
) -> None:
    client.llm.load_new_instance("tiny")
    with start(*arguments, "--quiet") as command:
        assert read_line(command.out)
        # Nothing happens any more that the command could print.
        command.out.close()
        assert command.process.wait(60) == 1
        assert command.err.read() == ""


# -- top, in a pipe


@pytest.mark.parametrize("arguments", [["top"], ["ps", "--watch"]])
def test_top_in_a_pipe_prints_a_table_for_each_change(arguments: list[str], client: lms.Client) -> None:
    with start(*arguments) as command:
        assert is_time(read_line(command.out))
        assert read_line(command.out) == "Nothing is loaded. To load a model: lmsa load KEY\n"
        tiny = client.llm.load_new_instance("tiny", ttl=None)
        assert read_line(command.out) == "\n"
        assert is_time(read_line(command.out))
        assert read_line(command.out).startswith("IDENTIFIER")
        assert read_line(command.out).split() == ["tiny", "tiny", "idle", "0.2", "MB", "2048", "never"]
        tiny.unload()
        assert read_line(command.out) == "\n"
        assert is_time(read_line(command.out))
        assert read_line(command.out).startswith("Nothing is loaded.")
        assert command.interrupt() == (0, "", "")


def is_time(line: str) -> bool:
    return re.fullmatch(r"\d\d:\d\d:\d\d\n", line) is not None


def test_top_json_has_the_rows_of_ps_and_tells_that_the_server_is_lost(restartable: Restartable) -> None:
    restartable.load("tiny")
    listed = run("ps", "--json", "--host", restartable.host).json
    with start("top", "--json", "--host", restartable.host) as command:
        first = next_json(command.out)
        assert (first["instances"], first["error"]) == (listed, None)
        restartable.stop()
        lost = next_json(command.out)
        assert lost["instances"] is None
        assert lost["error"]
        restartable.start()
        back = next_json(command.out)
        assert (back["instances"], back["error"]) == ([], None)
        assert back["at"] > lost["at"] > first["at"]
        assert command.interrupt(signal.SIGTERM) == (0, "", "")


# -- top, in a terminal


def test_top_in_a_terminal_has_a_screen_of_its_own_until_ctrl_c(client: lms.Client) -> None:
    with command_in_terminal("top") as terminal:
        terminal.wait_for("Nothing is loaded.")
        assert "\x1b[?1049h" in terminal.raw.partition("Nothing is loaded.")[0]
        client.llm.load_new_instance("tiny", "mine", ttl=3600)
        shown = terminal.wait_for("loaded       mine (tiny)  idle")
        assert "1 instance" in shown
        client.llm.unload("mine")
        terminal.wait_for("unloaded     mine (tiny)  by another client")
        terminal.type(CTRL_C)
        assert terminal.wait_for_end() == 0
    # The screen of before is back, and the cursor with it; nothing is printed on it.
    left = terminal.raw.rindex("\x1b[?1049l")
    assert terminal.raw.rindex("\x1b[?25h") > terminal.raw.rindex("\x1b[?25l")
    assert re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.raw[left:]).strip() in ("", "^C")


def test_top_in_a_terminal_shows_that_the_server_is_lost_and_back(restartable: Restartable) -> None:
    restartable.load("tiny")
    with command_in_terminal("top", "--host", restartable.host) as terminal:
        terminal.wait_for("1 instance")
        restartable.stop()
        terminal.wait_for("does not answer since")
        # The table of before stays.
        terminal.wait_for("IDENTIFIER")
        terminal.wait_for("tiny")
        restartable.start()
        terminal.wait_for("Nothing is loaded.")
        terminal.type(CTRL_C)
        assert terminal.wait_for_end() == 0


def test_top_in_a_low_terminal_says_that_there_is_more(client: lms.Client) -> None:
    for _ in range(3):
        client.llm.load_new_instance("tiny")
    with command_in_terminal("top", rows=5) as terminal:
        shown = terminal.wait_for("2 more lines need a higher terminal.")
        assert "3 instances" in shown
        terminal.type(CTRL_C)
        assert terminal.wait_for_end() == 0
    assert "tiny:3" not in terminal.shown


@pytest.mark.usefixtures("client")
def test_top_in_a_terminal_without_a_cursor_prints_tables() -> None:
    with command_in_terminal("top", TERM="dumb") as terminal:
        terminal.wait_for("Nothing is loaded.")
        terminal.type(CTRL_C)
        assert terminal.wait_for_end() == 0
    assert "\x1b" not in terminal.raw
