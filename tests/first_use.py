"""A program that watches the first use of a client: ``python -m tests.first_use BACKEND STEPS HOST_OR_FOLDER``.

Steps are names in `STEPS`, separated by commas. The program prints all calls and imports that held up its event loop:
blocking calls, found by blockbuster (asyncio only), and imports of modules that are not small.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lmstudio_async import AsyncClient, EmbeddedServer, LMStudioServerError, progress_bar

__all__ = ["STEPS"]

#: Small modules: anyio's own backend, which every async program imports, and imports of that and of the standard library.
SMALL = (
    "anyio.",
    "encodings.",
    "ipaddress",
    "lmstudio_async.",
    "_queue",
    "queue",
    "stringprep",
    "typing_extensions",
)


class ImportSpy:
    """A module finder that finds nothing, and records the modules that the thread of the event loop looks for."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.is_watching = False
        self._thread = threading.get_ident()

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if self.is_watching and threading.get_ident() == self._thread:
            self.names.append(name)

    def large_ones(self) -> list[str]:
        return [name for name in self.names if not name.startswith(SMALL) or makes_classes(name)]


def makes_classes(module: str) -> bool:
    """Return whether a module makes attrs classes, which takes a millisecond each."""
    members = vars(sys.modules[module]).values() if module in sys.modules else ()
    own = [each for each in members if isinstance(each, type) and each.__module__ == module]
    return any("__attrs_attrs__" in vars(each) for each in own)


@contextmanager
def blocking_calls(found: list[str]) -> Iterator[None]:
    """Record each blocking call in an event loop. The call also raises there, but the program may handle that."""
    from blockbuster import BlockingError, blockbuster_ctx

    def note(self: BlockingError, func: str) -> None:
        Exception.__init__(self, f"Blocking call to {func}")
        frames = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_stack()[:-2]]
        found.append(f"{func}: {' '.join(frames[-6:])}")

    BlockingError.__init__ = note  # type: ignore[method-assign]
    with blockbuster_ctx():
        yield


# -- the first steps of programs


async def list_loaded(client: AsyncClient) -> None:
    await client.llm.list_loaded()


async def list_downloaded(client: AsyncClient) -> None:
    assert await client.list_downloaded_models()


async def load(client: AsyncClient) -> None:
    await client.llm.load_new_instance("tiny", config={"context_length": 2048}, on_progress=print)


async def load_with_a_bar(client: AsyncClient) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    with contextlib.redirect_stderr(terminal):
        await client.llm.load_new_instance("tiny", on_progress=progress_bar("tiny"))
    assert "100%" in terminal.getvalue()


async def respond(client: AsyncClient) -> None:
    llm = await client.llm.model("tiny")
    result = await llm.respond("Hello", config={"temperature": 0})
    assert result.content


async def stream(client: AsyncClient) -> None:
    llm = await client.llm.model("tiny")
    answer = llm.respond_stream("Hello")
    assert [fragment.content async for fragment in answer]
    await answer.wait_for_result()


async def structured(client: AsyncClient) -> None:
    llm = await client.llm.model("json")
    assert (await llm.respond("Hello", response_format={"type": "object"})).parsed == {}


async def complete(client: AsyncClient) -> None:
    llm = await client.llm.model("tiny")
    assert str(await llm.complete("Once", config={"max_tokens": 3}))


async def act(client: AsyncClient) -> None:
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    llm = await client.llm.model("tiny")
    await llm.act("Hello", [add])


async def ask(client: AsyncClient) -> None:
    llm = await client.llm.model("tiny")
    await llm.get_info()
    await llm.get_load_config()
    assert await llm.count_tokens("Hello")
    assert await llm.tokenize(["Hello"])
    assert await llm.apply_prompt_template("Hello")
    await client.llm.get_model_info("tiny")
    await client.llm.estimate_resources("tiny")
    await llm.unload()


async def embed(client: AsyncClient) -> None:
    model = await client.embedding.model("vectors")
    assert await model.embed("Hello")
    await model.get_load_config()


async def upload(client: AsyncClient) -> None:
    await client.prepare_file(__file__)


async def search(client: AsyncClient) -> None:
    """Search a hub that cannot be reached."""
    try:
        await client.repository.search_models("tiny")
    except LMStudioServerError as error:
        assert "model search" in str(error)  # noqa: PT017 - not in a test
    else:
        raise AssertionError


async def download(client: AsyncClient) -> None:
    """Download a model that is there, and another one from a hub that cannot be reached."""
    assert await client.repository.download("tiny") == "tiny"
    try:
        await client.repository.download("missing")
    except LMStudioServerError as error:
        assert "model search" in str(error)  # noqa: PT017 - not in a test
    else:
        raise AssertionError


async def system(client: AsyncClient) -> None:
    await client.system.version()
    await client.system.get_experiment_flags()
    assert await client.call("runtime", "listEngines")


STEPS: dict[str, Callable[[AsyncClient], Awaitable[None]]] = {
    step.__name__: step
    for step in (
        list_loaded, list_downloaded, load, load_with_a_bar, respond, stream, structured, complete, act, ask, embed, upload,
        search, download, system,
    )
}  # fmt: skip


async def main(steps: str, where: str, is_folder: bool, spy: ImportSpy) -> None:
    # A models folder stands for an embedded server in this process.
    client = AsyncClient(EmbeddedServer(where) if is_folder else where)
    spy.is_watching = True
    async with client:
        for step in steps.split(","):
            await STEPS[step](client)
    spy.is_watching = False


if __name__ == "__main__":
    backend, steps, where = sys.argv[1:]
    spy, blocked = ImportSpy(), list[str]()
    is_folder = Path(where).is_dir()
    sys.meta_path.insert(0, spy)
    if backend == "trio":
        import trio

        trio.run(main, steps, where, is_folder, spy)
    else:
        import asyncio

        with blocking_calls(blocked):
            asyncio.run(main(steps, where, is_folder, spy))
    print(json.dumps({"imported": spy.large_ones(), "blocked": blocked}), flush=True)  # noqa: T201 - the test reads it
    # Python 3.11 crashes at its end once blockbuster has patched built-in classes, although it has restored them.
    os._exit(0)
