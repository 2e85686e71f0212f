"""The embedded server behind a port, in a thread of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from anyio.abc import TaskStatus
from anyio.from_thread import start_blocking_portal

from lmstudio_async.embedded import EmbeddedServer, serve

__all__ = ["served"]


@contextmanager
def served(server: EmbeddedServer) -> Iterator[str]:
    """Run an embedded server behind a port of this machine for the time of a block, in a thread of its own.

    Clients of every kind can use it: async ones on any event loop, blocking ones, and other programs. The fixture
    ``lmstudio_host`` of the pytest plugin is the same thing, ready-made.

    :param server: the server to run, not yet entered.
    :return: a context manager whose value is the host and the port, such as ``"127.0.0.1:41343"``. Leaving it unloads
        all models.
    :raises LMStudioRuntimeError: if the extra ``embedded`` is not installed, or the server runs already.
    :raises LMStudioOSError: if the server cannot listen on any port of this machine.

    ::

        import lmstudio_sync as lms

        models = ModelsFolder(tmp_path)
        models.add_llm("tiny")
        with served(EmbeddedServer(models.folder)) as host, lms.Client(host) as client:
            print(client.llm.model("tiny").respond("Hi"))
    """

    async def serve_it(*, task_status: TaskStatus[str]) -> None:
        async with server:
            await serve(server, port=0, ready=lambda host, port: task_status.started(f"{host}:{port}"))

    with start_blocking_portal() as portal:
        serving, address = portal.start_task(serve_it)
        try:
            yield address
        finally:
            if not serving.cancel():
                # The server ended by itself: raise its error.
                serving.result()
