"""The ``serve`` command: a server for other programs, until a signal stops it."""

from __future__ import annotations

import json
import re
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import anyio.to_thread
import pytest
from wsproto import WSConnection
from wsproto.connection import ConnectionType
from wsproto.events import AcceptConnection, Request, TextMessage

import lmstudio_async as lms
from lmstudio_async.testing import ModelsFolder
from tests.cli.commands import read_line, read_until, run, serving, start
from tests.processes import is_running, workers

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for other processes")

TOKEN = "sk-lm-abcdefgh:ABCDEFGHIJKLMNOPQRST"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("acme/tiny-GGUF/tiny-Q4_K_M.gguf", script="One, two and three good reasons.")
    folder.add_broken("acme/broken-GGUF/broken-Q8_0.gguf", "bad magic")
    return folder.folder


@pytest.fixture
def anyio_backend() -> str:
    """One backend is enough, because the server runs in another process."""
    return "asyncio"


def address(line: str) -> str:
    found = re.search(r"http://(\S+)", line)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_serve_unloads_everything_and_exits_with_0_on_a_signal(models: Path, number: int) -> None:
    with start("serve", "--models", str(models), "--port", "0", "--token", TOKEN) as server:
        line = read_line(server.out, "Serving at")
        assert f"with 1 model (tiny) from {models}. Ctrl-C stops it." in line
        assert "Skipped acme/broken-GGUF/broken-Q8_0.gguf: " in read_line(server.out, "Skipped")
        with pytest.raises(lms.LMStudioAuthenticationError):
            async with lms.AsyncClient(address(line)) as stranger:
                await stranger.llm.list_loaded()
        async with lms.AsyncClient(address(line), TOKEN) as client:
            llm = await client.llm.load_new_instance("tiny", ttl=None)
            assert str(await llm.respond("Hello")) == "One, two and three good reasons."
        loaded = workers(server.process.pid)
        code, out, err = server.interrupt(number)
    assert (code, out) == (0, "")
    # The log has one line, for the client that failed to authenticate.
    assert err.startswith("Warning: llm: refused: ")
    assert err.count("\n") == 1
    assert not any(map(is_running, loaded))


async def test_embedding_model_option_makes_a_model_an_embedding_model(models: Path) -> None:
    options = ("--models", str(models), "--port", "0", "--embedding-model", "ti*")
    with start("serve", *options) as server:
        line = read_line(server.out, "Serving at")
        assert "with 1 model (text-embedding-tiny)" in line
        async with lms.AsyncClient(address(line)) as client:
            model = await client.embedding.model("text-embedding-tiny")
            assert len(await model.embed("Hello")) == 64
        server.interrupt(signal.SIGINT)


async def test_models_option_takes_files_and_folders(models: Path, tmp_path: Path) -> None:
    file = ModelsFolder(tmp_path / "single").add_llm("single-Q8_0.gguf", script="Here I am.")
    with start("serve", "--models", str(models), "--models", str(file), "--port", "0") as server:
        line = read_line(server.out, "Serving at")
        assert f"with 2 models (tiny, single) from {models}, {file}. Ctrl-C stops it." in line
        async with lms.AsyncClient(address(line)) as client:
            llm = await client.llm.model("single")
            assert str(await llm.respond("Hello")) == "Here I am."
        server.interrupt(signal.SIGINT)


async def test_preloads_are_loaded_before_the_server_listens(tmp_path: Path) -> None:
    folder = ModelsFolder(tmp_path)
    folder.add_llm("tiny")
    folder.add_embedding("nomic")
    (embedding,) = [model.model_key for model in await _downloaded(tmp_path) if model.type == "embedding"]
    options = ("--models", str(tmp_path), "--port", "0", "--token", TOKEN)
    preloads = ("--preload", "tiny=chat", "--preload", "tiny", "--preload", f"{embedding}=vectors")
    with start("serve", *options, *preloads) as server:
        assert "Loaded tiny as chat in " in read_until(server.err, " as vectors in ")
        line = read_line(server.out, "Serving at")
        async with lms.AsyncClient(address(line), TOKEN) as client:
            loaded = {each.identifier: each for each in await client.list_loaded_models()}
            assert set(loaded) == {"chat", "tiny", "vectors"}
            # They stay, also when the next model is loaded just in time.
            assert all(each.info.ttl is None for each in loaded.values())
        assert server.interrupt() == (0, "", "")


async def _downloaded(folder: Path) -> Sequence[Any]:
    async with lms.AsyncClient(lms.EmbeddedServer(folder)) as client:
        return await client.system.list_downloaded_models()


@pytest.mark.parametrize(
    ("preload", "code", "message"),
    [("nope", 4, "nope"), ("tiny=a b\x07", 2, ""), ("broken", 4, "broken")],
)
def test_a_preload_that_fails_ends_serve_before_it_listens(
    models: Path, preload: str, code: int, message: str
) -> None:
    done = run("serve", "--models", str(models), "--port", "0", "--preload", preload)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("lmsa: ")
    assert message in done.err


@pytest.mark.parametrize(
    ("preload", "code", "message"),
    [
        ("tinny", 4, "There is no model 'tinny'. Did you mean 'tiny'?"),
        ("tiny=a b\x07", 2, "identifier"),
        ("tiny=chat", 2, "two models have the identifier 'chat'"),
    ],
)
def test_all_preloads_are_checked_before_the_first_load(
    models: Path, preload: str, code: int, message: str
) -> None:
    preloads = ("--preload", "tiny=chat", "--preload", preload)
    status, out, err = run("serve", "--models", str(models), "--port", "0", *preloads)
    assert (status, out) == (code, "")
    assert message in err
    assert "Loaded tiny" not in err


def test_a_signal_during_a_preload_leaves_no_process(tmp_path: Path) -> None:
    ModelsFolder(tmp_path).add_llm("big", padding_mb=600)
    options = ("--models", str(tmp_path), "--port", "0", "--preload", "big")
    # Try again if the load ended before the signal arrived, because then no load was interrupted.
    for _ in range(5):
        # The lines of a progress bar, although the output is no terminal.
        with start("serve", *options, LMSTUDIO_PROGRESS="1") as server:
            read_until(server.err, "%")
            loading = workers(server.process.pid)
            code, out, err = server.interrupt(signal.SIGTERM)
            assert code == 0
        assert not any(map(is_running, loading))
        if "Loaded big" not in err:
            break
    assert "Loaded big" not in err
    assert out == ""


async def test_jit_ttl_threads_and_limits_reach_the_server(models: Path) -> None:
    limits = ("--limit", "client-files=1", "--limit", "file_bytes=10")
    with serving(models, "--jit-ttl", "1h30m", "--threads", "1", *limits) as (host, server):
        async with lms.AsyncClient(host) as client:
            llm = await client.llm.model("tiny", ttl=None)
            assert (await llm.get_info()).ttl == 5400
            assert (await llm.get_load_config()).extra["llm.load.llama.cpuThreadPoolSize"] == 1
            with pytest.raises(lms.LMStudioServerError, match="the limit for a file is"):
                await client.files.prepare_file(b"more than ten bytes", "long.txt")
        server.interrupt()


def test_log_variable_turns_the_log_of_serve_on(models: Path) -> None:
    options = ("--models", str(models), "--port", "0", "--preload", "tiny")
    with start("serve", *options, LMSTUDIO_LOG="info") as server:
        assert read_line(server.err, " INFO lmstudio_async: ")
        assert read_line(server.out, "Serving at")


async def test_json_option_prints_one_line_of_json(models: Path) -> None:
    with start(
        "serve", "--models", str(models), "--port", "0", "--json", "--preload", "tiny", "-q"
    ) as server:
        facts = json.loads(read_line(server.out))
        async with lms.AsyncClient(facts["address"]) as client:
            assert [each.identifier for each in await client.list_loaded_models()] == ["tiny"]
        assert (facts["models"], facts["loaded"]) == (["tiny"], ["tiny"])
        assert facts["models_paths"] == [str(models)]
        assert list(facts["skipped"]) == ["acme/broken-GGUF/broken-Q8_0.gguf"]
        assert server.interrupt() == (0, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
@pytest.mark.parametrize("full", ["stdout", "stderr"])
async def test_serve_goes_on_if_its_output_is_on_a_full_disk(
    models: Path, full: Literal["stdout", "stderr"]
) -> None:
    options = ("--models", str(models), "--port", "0", "--token", TOKEN)
    with start("serve", *options, full=full) as server:
        lines = read_until(server.err if full == "stdout" else server.out, "Serving at")
        assert ("Standard output cannot be written: No space left on device." in lines) == (full == "stdout")
        # This failed authentication makes the server write to its log.
        with pytest.raises(lms.LMStudioAuthenticationError):
            async with lms.AsyncClient(address(lines)) as stranger:
                await stranger.llm.list_loaded()
        async with lms.AsyncClient(address(lines), TOKEN) as client:
            llm = await client.llm.model("tiny")
            assert str(await llm.respond("Hello")) == "One, two and three good reasons."
        code, _, err = server.interrupt(signal.SIGTERM)
        assert ("llm: refused: " in err) == (full == "stdout")
        assert code == 0


async def test_token_file_keeps_tokens_out_of_the_process_arguments(models: Path, tmp_path: Path) -> None:
    other = TOKEN.replace("a", "b")
    file = tmp_path / "tokens"
    file.write_text(f"# the two of us\n{TOKEN}\n\n  {other}\n")
    with serving(models, "--token-file", str(file)) as (where, server):
        for token in (TOKEN, other):
            async with lms.AsyncClient(where, token) as client:
                assert await client.llm.list_loaded() == []
        with pytest.raises(lms.LMStudioAuthenticationError):
            async with lms.AsyncClient(where, TOKEN.lower()) as stranger:
                await stranger.llm.list_loaded()
        assert TOKEN not in str(server.process.args)
        server.interrupt()


@contextmanager
def client_that_does_not_read(host: str) -> Iterator[None]:
    """Connect a client that requests more data than any buffer holds, and reads none of it."""
    name, _, port = host.partition(":")
    frames = WSConnection(ConnectionType.CLIENT)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((name, int(port)))
        connection.sendall(frames.send(Request(host=host, target="/llm")))
        while not any(isinstance(event, AcceptConnection) for event in frames.events()):
            frames.receive_data(connection.recv(4096))

        def say(**message: object) -> None:
            connection.sendall(frames.send(TextMessage(json.dumps(message))))

        say(authVersion=1, clientIdentifier="guest:deaf", clientPasskey="secret")
        specifier = {"type": "query", "query": {"identifier": "x" * 1_000_000}}
        for number in range(16):
            # The error response repeats the long identifier.
            say(
                type="rpcCall",
                callId=number,
                endpoint="getModelInfo",
                parameter={"specifier": specifier, "throwIfNotFound": True},
            )
        yield


async def test_serve_exits_on_a_signal_although_a_client_does_not_read(models: Path) -> None:
    with serving(models) as (host, server):
        read_line(server.out, "Skipped")
        with client_that_does_not_read(host):
            assert server.interrupt(signal.SIGTERM) == (0, "", "")


async def test_serve_finds_models_that_are_added_later(tmp_path: Path) -> None:
    models = ModelsFolder(tmp_path)
    with start("serve", "--models", str(tmp_path), "--port", "0") as server:
        line = read_line(server.out, "Serving at")
        assert f"with no models from {tmp_path}." in line
        assert "publisher/repository/file.gguf" in read_line(server.out, "Put GGUF files there")
        assert read_line(server.out).startswith("To download one: lmsa pull ")
        async with lms.AsyncClient(address(line)) as client:
            models.add_llm("acme/tiny-GGUF/tiny-Q4_K_M.gguf", script="Here I am.")
            llm = await client.llm.model("tiny")
            assert str(await llm.respond("Hello")) == "Here I am."
        assert server.interrupt() == (0, "", "")


async def test_demos_share_a_server_and_unload_only_their_own(models: Path) -> None:
    with serving(models) as (host, _):
        async with lms.AsyncClient(host) as client:
            # The instances of another demo.
            theirs = [
                await client.llm.load_new_instance("tiny"),
                await client.llm.load_new_instance("tiny", "second-instance"),
            ]
            done = await anyio.to_thread.run_sync(run, "demo", "--host", f"http://{host}/")
            assert done.code == 0, done
            assert "second-instance-2: 100 % (unloaded)" in done.out
            assert "Unload tiny:2 by its handle" in done.out
            assert sorted(await client.llm.list_loaded(), key=str) == sorted(theirs, key=str)
