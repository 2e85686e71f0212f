"""Serving at a port: the port is reserved first, and accepts connections when the preparation is done."""

from __future__ import annotations

import socket
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import anyio
import anyio.abc
import pytest

from lmstudio_async import AsyncClient, EmbeddedServer, LMStudioOSError, LMStudioRuntimeError
from lmstudio_async._install_command import install_command
from lmstudio_async.embedded import serve
from lmstudio_async.errors import LMStudioValueError


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Serving at a port needs asyncio."""
    return "asyncio"


@pytest.fixture
def server(tmp_path: Path) -> EmbeddedServer:
    return EmbeddedServer(tmp_path)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


async def test_port_refuses_connections_until_the_preparation_is_done(
    server: EmbeddedServer, closed_port: int
) -> None:
    seen: list[bool] = []

    async def prepare() -> None:
        seen.append(listens(closed_port))

    async def serve_it(*, task_status: anyio.abc.TaskStatus[tuple[str, int]]) -> None:
        await serve(
            server,
            port=closed_port,
            prepare=prepare,
            ready=lambda host, port: task_status.started((host, port)),
        )

    async with server, anyio.create_task_group() as tasks:
        assert await tasks.start(serve_it) == ("127.0.0.1", closed_port)
        assert seen == [False]
        async with AsyncClient(f"127.0.0.1:{closed_port}") as client:
            assert await client.list_loaded_models() == []
        tasks.cancel_scope.cancel()
    assert not listens(closed_port)


async def never() -> None:
    raise AssertionError("nothing was to be prepared")


async def test_port_in_use_is_an_error_before_anything_is_prepared(server: EmbeddedServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with server:
            with pytest.raises(LMStudioOSError, match="another server is there already"):
                await serve(server, port=taken.getsockname()[1], prepare=never)


async def test_public_address_without_tokens_is_refused_before_anything_is_prepared(
    server: EmbeddedServer,
) -> None:
    async with server:
        with pytest.raises(LMStudioValueError, match="could use this server"):
            await serve(server, "0.0.0.0", 0, prepare=never)


@pytest.mark.parametrize("hidden", ["uvicorn", "xllamacpp"])
async def test_missing_packages_are_named_before_anything_is_prepared(
    hidden: str, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(name: str) -> ModuleSpec | None:
        return None if name == hidden else find_spec(name)

    monkeypatch.setattr("lmstudio_async._install_command.find_spec", find)
    async with server:
        with pytest.raises(LMStudioRuntimeError) as caught:
            await serve(server, port=0, prepare=never)
    assert hidden in str(caught.value)
    assert str(caught.value).endswith(install_command("embedded"))


async def test_error_of_the_preparation_is_raised_and_frees_the_port(
    server: EmbeddedServer, closed_port: int
) -> None:
    async def fail() -> None:
        raise KeyError("mine")

    async with server:
        with pytest.raises(KeyError, match="mine"):
            await serve(server, port=closed_port, prepare=fail)
        assert not listens(closed_port)


async def test_cancellation_of_the_preparation_frees_the_port(
    server: EmbeddedServer, closed_port: int
) -> None:
    async with server, anyio.create_task_group() as tasks:
        is_preparing = anyio.Event()

        async def prepare() -> None:
            is_preparing.set()
            await anyio.sleep_forever()

        async def serve_it() -> None:
            await serve(server, port=closed_port, prepare=prepare)

        tasks.start_soon(serve_it)
        await is_preparing.wait()
        tasks.cancel_scope.cancel()
    assert not listens(closed_port)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems give a reserved port to one program only")
async def test_port_that_another_program_takes_meanwhile_is_an_error(
    server: EmbeddedServer, closed_port: int
) -> None:
    with socket.socket() as other:

        async def prepare() -> None:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", closed_port))
            other.listen()

        async with server:
            with pytest.raises(LMStudioOSError, match="another server is there already"):
                await serve(server, port=closed_port, prepare=prepare)
