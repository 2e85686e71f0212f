"""`lmsa ps`: the table of the loaded instances."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import lmstudio_sync as lms
from lmstudio_async import EmbeddedServer, InstanceStatus, LlmInstanceInfo
from lmstudio_async._cli._instance_rows import rows
from lmstudio_async.testing import ModelsFolder, served
from tests.cli.commands import command_in_terminal, run, start
from tests.processes import go_on, needs_proc, workers

LONG = "a-model-whose-name-is-much-longer-than-the-column-of-a-narrow-terminal-32b-instruct"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    models = ModelsFolder(tmp_path_factory.mktemp("models"))
    models.add_llm("tiny")
    # An endless answer fills the usual context in an instant.
    models.add_llm("endless", endless=True, context_length=65536)
    models.add_embedding("text-embedding-vectors")
    with served(EmbeddedServer(models.folder)) as host:
        yield host


@pytest.mark.parametrize("columns", [None, 80])
def test_ps_repeats_the_options_in_the_advice(
    client: lms.Client, tmp_path: Path, columns: int | None
) -> None:
    tokens = tmp_path / "my tokens"
    tokens.write_text("sk-lm-abcdefgh:ABCDEFGHIJKLMNOPQRST")
    options = ("--host", client.api_host, "--token-file", str(tokens))
    line = f'lmsa load KEY --host {client.api_host} --token-file "{tokens}"'
    if columns is None:
        assert run("ps", *options).err == f"Nothing is loaded. To load a model: {line}\n"
    else:
        with command_in_terminal("ps", *options) as terminal:
            assert terminal.wait_for_end() == 0
        assert line in terminal.shown.splitlines()


@pytest.mark.usefixtures("client")
def test_ps_without_instances_prints_only_a_note() -> None:
    assert run("ps") == (0, "", "Nothing is loaded. To load a model: lmsa load KEY\n")
    assert run("ps", "--quiet") == (0, "", "")
    assert run("ps", "--json") == (0, "[]\n", "")


def test_ps_in_a_pipe_has_a_whole_line_for_each_instance(client: lms.Client) -> None:
    client.embedding.load_new_instance("text-embedding-vectors", ttl=None)
    client.llm.load_new_instance("tiny", LONG, ttl=3600)
    code, output, errors = run("ps")
    assert (code, errors) == (0, "")
    heading, *lines = output.splitlines()
    assert heading.split() == ["IDENTIFIER", "MODEL", "STATUS", "SIZE", "CONTEXT", "UNLOADS", "IN"]
    # The command has not seen the load, so it cannot know when the TTL began.
    assert [line.split() for line in lines] == [
        [LONG, "tiny", "idle", "0.2", "MB", "2048", "1", "h", "or", "less"],
        ["text-embedding-vectors", "text-embedding-vectors", "idle", "53", "kB", "512", "never"],
    ]


@pytest.mark.parametrize("arguments", [["ps"], ["ps", "--json"], ["top"]])
def test_commands_end_quietly_when_the_reader_of_their_output_has(
    arguments: list[str], client: lms.Client
) -> None:
    client.llm.load_new_instance("tiny")
    with start(*arguments) as command:
        command.out.close()
        assert command.process.wait(60) == 1
        assert command.err.read() == ""


def test_ps_shows_when_a_used_instance_is_unloaded(client: lms.Client) -> None:
    client.llm.load_new_instance("tiny", ttl=100.5 * 3600).respond("Hi")
    assert "  4 d 4 h" in run("ps").out


def test_ps_fits_a_narrow_terminal_without_losing_text(client: lms.Client) -> None:
    client.llm.load_new_instance("tiny", LONG, ttl=3600)
    with command_in_terminal("ps", columns=60) as terminal:
        assert terminal.wait_for_end() == 0
    lines = terminal.shown.splitlines()
    assert max(map(len, lines)) <= 60
    # The column of the identifier is the first one, which ends where the next heading begins.
    width = lines[0].index("MODEL")
    assert "".join(line[:width].strip() for line in lines[1:]) == LONG


def test_ps_leaves_a_repeated_name_out_in_a_narrow_terminal(client: lms.Client) -> None:
    client.llm.load_new_instance("tiny", ttl=None)
    client.llm.load_new_instance("tiny", ttl=None)
    with command_in_terminal("ps", columns=99) as narrow, command_in_terminal("ps", columns=100) as wide:
        assert narrow.wait_for_end() == wide.wait_for_end() == 0
    assert [line.split()[:2] for line in narrow.shown.splitlines()[1:3]] == [
        ["tiny", "idle"],
        ["tiny:2", "tiny"],
    ]
    assert [line.split()[:2] for line in wide.shown.splitlines()[1:3]] == [
        ["tiny", "tiny"],
        ["tiny:2", "tiny"],
    ]


@needs_proc
def test_ps_shows_the_queue_of_a_busy_instance(client: lms.Client) -> None:
    before = workers()
    busy = client.llm.load_new_instance(
        "endless", ttl=60, config={"max_parallel_predictions": 1, "context_length": 65536}
    )
    (worker,) = workers() - before
    with busy.respond_stream("Go on") as answer:
        next(iter(answer))
        os.kill(worker, signal.SIGSTOP)
        try:
            with busy.respond_stream("And I?"):
                # The block has sent the request, but the server does not tell when it is in the queue.
                while not client.list_instances()[0].queued:
                    pass
                listed = run("ps", "--json").json[0]
                line = run("ps").out.splitlines()[1]
        finally:
            go_on(worker)
    assert (listed["status"], listed["queued"]) == ("generating", 1)
    assert "generating +1" in line
    assert "when idle for 1 min" in line


@pytest.mark.parametrize(
    ("status", "progress", "queued", "shown"),
    [
        ("processingPrompt", 0.456, 2, "reading prompt 46% +2"),
        ("processingPrompt", None, 0, "reading prompt"),
        ("computingEmbedding", None, 1, "embedding +1"),
        ("somethingNew", None, 0, "somethingNew"),
        (None, None, 0, ""),
    ],
)
def test_row_shows_the_progress_of_a_prompt_and_the_queue(
    status: str | None, progress: float | None, queued: int, shown: str
) -> None:
    instance = InstanceStatus(
        kind="llm",
        identifier="mine",
        model_key="qwen3-4b",
        instance_reference="x",
        status=status,
        prompt_progress=progress,
        queued=queued,
        ttl=None,
        idle_seconds=None,
        unloads_in=None,
        context_length=8192,
        size_bytes=2_500_000_000,
        device="den",
        info=LlmInstanceInfo(),
        make_handle=lambda: None,
    )
    assert rows([instance], None) == [("mine", "qwen3-4b", shown, "2.50 GB", "8192", "never", "den")]
