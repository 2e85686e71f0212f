"""Every example in the docstrings of the public names runs, as a module of its own, on the embedded server.

The core's examples run on asyncio and on trio, the facade's blocking. An example may use, without defining it:

- ``client``: an open client of its package;
- ``llm``: a loaded language model of that client;
- ``lms``, the package, and all of its public names, as after ``from lmstudio_async import *``;
- in `lmstudio_async.embedded`: its public names and ``uvicorn``; a server that an example starts ends when it listens;
- in `lmstudio_async.testing`: its public names and ``tmp_path`` as well, as in a test.

An example defines or imports everything else that it uses. The names of models and files in it exist, and a host on
the local network is the embedded server.
"""

from __future__ import annotations

import inspect
import os
import re
import shutil
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

import anyio
import attrs
import pytest
import uvicorn

import lmstudio_async
import lmstudio_async.embedded
import lmstudio_async.testing
import lmstudio_async.testing.plugin
import lmstudio_sync
from lmstudio_async import AsyncClient, EmbeddedServer, LMStudioServerError
from lmstudio_async.testing import HERMES, ModelsFolder, served, tool_call
from tests.embedded.local_hub import LocalHub
from tests.examples import make_home, run_example, use_home
from tests.images import png

LLAMA = "llama-3.2-1b-instruct"

#: Calls that end with an error on the embedded server: example -> reason.
REFUSED = {
    "SystemNamespace.start_http_server": "only LM Studio has a separate HTTP server that a client can start"
}
#: Scripts of ``llm`` for the examples that need certain answers, in the order of the conversation: example -> answers.
ANSWERS: Mapping[str, list[str | list[str]]] = {
    "BaseModel": [["{", '"title": ', '"The Hobbit", ', '"author": ', '"Tolkien"', "}"]],
    "GbnfGrammar": ["yes"],
    "LLM.act": [tool_call("multiply", a=12345, b=54321), "That makes 670592745."],
    "ToolCallProgress": [tool_call("add", a=1, b=2), "The sum is 3."],
    "ToolFunctionDef": [tool_call("create_file", path="haiku.txt", text="An old pond"), "I wrote it."],
}
#: Instances that an example expects, besides ``llm``: identifier -> model key.
LOADED = {
    "ModelNamespace.unload": {"second-llama": LLAMA},
    "ModelNamespace.get_model_info": {"second-llama": LLAMA},
    "ModelQuery": {"qwen3-4b": "qwen3-4b"},
}
#: Repositories of the hub. A download of them is removed before the next example.
PUBLISHER = "bartowski"
REPOSITORIES = ("Llama-3.2-1B-Instruct-GGUF", "SmolLM2-360M-Instruct-GGUF")


MEMBERS = (FunctionType, classmethod, staticmethod, property, cached_property)


@attrs.frozen
class Example:
    """An example.

    :param package: the module that it is an example of.
    :param name: qualified name of the documented object, without the package; empty for the package.
    :param source: the code.
    """

    package: str
    name: str
    source: str

    @property
    def key(self) -> str:
        """The name that the core and the facade have in common."""
        return self.name.replace("Async", "")

    @property
    def model_key(self) -> str:
        """Model key of its ``llm``."""
        return self.key.lower() if self.key in ANSWERS else LLAMA

    @property
    def files(self) -> dict[str, str]:
        """The files that it shows, each after a comment with the name; empty if it is plain code."""
        parts = re.split(r"^# (\w+\.py)\n", self.source, flags=re.MULTILINE)
        return dict(zip(parts[1::2], parts[2::2], strict=True))


def examples_in(docstring: str | None) -> Iterator[str]:
    """Find the literal blocks of a docstring."""
    for match in re.finditer(r"::\n\n((?:(?: .*)?\n)+)", f"{inspect.cleandoc(docstring or '')}\n"):
        yield textwrap.dedent(match[1]).strip() + "\n"


def documented(package: ModuleType) -> Iterator[tuple[str, str | None]]:
    """Find the docstrings of a package, of its own public names and of their members, each once."""
    yield "", package.__doc__
    things = {name: getattr(package, name) for name in package.__all__}
    if package is not lmstudio_async:
        things = {
            name: each for name, each in things.items() if each is not getattr(lmstudio_async, name, None)
        }
    classes = {name: each for name, each in things.items() if isinstance(each, type)}
    for name, each in things.items():
        if name in classes or inspect.isroutine(each):
            yield name, each.__doc__
    for name, cls in classes.items():
        yield from documented_members(name, cls)
    # Examples of a base that is not public belong to the first class that inherits them.
    seen = set(classes.values())
    for name, cls in classes.items():
        for base in cls.__mro__:
            if base not in seen and base.__module__.startswith(package.__name__):
                seen.add(base)
                yield from documented_members(name, base)


def documented_members(name: str, cls: type) -> Iterator[tuple[str, str | None]]:
    """Find the docstrings of the public methods and properties that a class itself has."""
    for member, value in vars(cls).items():
        if not member.startswith("_") and isinstance(value, MEMBERS):
            yield f"{name}.{member}", value.__doc__


def examples_of(package: ModuleType) -> list[Example]:
    """Return the examples of a package."""
    return [
        Example(package.__name__, name, source)
        for name, docstring in documented(package)
        for source in examples_in(docstring)
    ]


CORE = examples_of(lmstudio_async)
FACADE = examples_of(lmstudio_sync)
EMBEDDED = examples_of(lmstudio_async.embedded)
TESTING = examples_of(lmstudio_async.testing)
PLUGIN = examples_of(lmstudio_async.testing.plugin)


def each_of(examples: list[Example]) -> pytest.MarkDecorator:
    """Run a test for each example."""
    return pytest.mark.parametrize(
        "example",
        [
            pytest.param(
                each,
                id=f"{each.package}.{each.name}".rstrip("."),
                marks=pytest.mark.xfail(raises=LMStudioServerError, reason=REFUSED[each.key])
                if each.key in REFUSED
                else (),
            )
            for each in examples
        ],
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_home(tmp_path_factory.mktemp("home"))
    for name, (first, *others) in ANSWERS.items():
        ModelsFolder(folder).add_llm(name.lower(), script=first, then=others, chat_template=HERMES)
    return folder


@pytest.fixture(scope="module")
def host(models: Path) -> Iterator[str]:
    """Host and port of a running server, which clients without arguments find. Its hub is on this machine."""
    content = next((models / "lmstudio-community" / "SmolLM2-135M-Instruct-GGUF").iterdir()).read_bytes()
    with pytest.MonkeyPatch.context() as environment, LocalHub() as hub:
        for name in REPOSITORIES:
            hub.add(f"{PUBLISHER}/{name}", {name.replace("-GGUF", "-Q4_K_M.gguf"): content})
        use_home(models.parent.parent, environment)
        environment.setenv("HF_ENDPOINT", hub.url)
        environment.setenv("NO_PROXY", "127.0.0.1")
        environment.delenv("HF_TOKEN", raising=False)
        with served(EmbeddedServer(models, threads=1)) as host:
            environment.setenv("LMSTUDIO_HOST", host)
            yield host


@pytest.fixture(scope="module")
async def client(host: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(host) as client:
        yield client


@pytest.fixture(scope="module")
def blocking_client(host: str) -> Iterator[lmstudio_sync.Client]:
    with lmstudio_sync.Client(host) as client:
        yield client


@pytest.fixture
def machine(
    example: Example,
    models: Path,
    blocking_client: lmstudio_sync.Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[None]:
    """The state that an example begins with: loaded instances, files in its directory, no default client."""
    wanted = {example.model_key: example.model_key, **LOADED.get(example.key, {})}
    for loaded in blocking_client.list_loaded_models():
        if wanted.pop(loaded.identifier, None) is None:
            loaded.unload()
    for identifier, model_key in wanted.items():
        blocking_client.llm.load_new_instance(model_key, identifier)
    shutil.rmtree(models / PUBLISHER, ignore_errors=True)
    monkeypatch.chdir(tmp_path)
    Path("cat.png").write_bytes(png(255, 0, 0))
    yield
    lmstudio_sync.close_default_client()
    lmstudio_sync.set_sync_api_timeout(60)


async def run(example: Example, host: str, names: dict[str, Any]) -> None:
    """Run an example with the names that it is given."""
    source = re.sub(r"192\.168\.\d+\.\d+:1234", host, example.source)
    await run_example(source, f"{example.package}.{example.name}", {"input": lambda prompt: "yes", **names})


def public_names(package: ModuleType) -> dict[str, Any]:
    return {"lms": package, **{name: getattr(package, name) for name in package.__all__}}


def check_effects(example: Example, capsys: pytest.CaptureFixture[str]) -> None:
    """Check that an example printed, if it prints, because the body of a loop or a callback may not have run."""
    assert capsys.readouterr().out.strip() or "print" not in example.source
    assert Path("haiku.txt").exists() == ("haiku.txt" in example.source)


@each_of(CORE)
async def test_an_example_of_the_core_runs(
    example: Example, machine: None, client: AsyncClient, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with anyio.fail_after(30):
        llm = await client.llm.model(example.model_key)
        await run(example, host, {**public_names(lmstudio_async), "client": client, "llm": llm})
    check_effects(example, capsys)


@each_of(FACADE)
def test_an_example_of_the_facade_runs(
    example: Example,
    machine: None,
    blocking_client: lmstudio_sync.Client,
    host: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    llm = blocking_client.llm.model(example.model_key)
    names = {**public_names(lmstudio_sync), "client": blocking_client, "llm": llm}
    running = run(example, host, names)
    with pytest.raises(StopIteration):
        running.send(None)
    check_effects(example, capsys)


class BriefServer(uvicorn.Server):
    """A server of uvicorn that ends when it listens."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and ask for the end."""
        await super().startup(sockets)
        self.should_exit = True


async def serve_briefly(server: EmbeddedServer, ready: Callable[[str, int], None], **options: Any) -> None:
    """Run a server until it listens."""
    with anyio.CancelScope() as scope:

        def end(host: str, port: int) -> None:
            ready(host, port)
            scope.cancel()

        await lmstudio_async.embedded.serve(server, ready=end, **options)


@each_of(EMBEDDED)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_example_of_the_server_runs(
    example: Example, machine: None, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {
        **public_names(lmstudio_async),
        **public_names(lmstudio_async.embedded),
        "serve": serve_briefly,
        # By default, uvicorn sets up handlers for the log of this process, which would stay.
        "uvicorn": SimpleNamespace(Server=BriefServer, Config=partial(uvicorn.Config, log_config=None)),
    }
    # Another program may use the port.
    on_any_port = attrs.evolve(example, source=example.source.replace("port=1234", "port=0"))
    with anyio.fail_after(30):
        await run(on_any_port, host, names)
    check_effects(example, capsys)


@each_of(TESTING)
async def test_an_example_of_the_testing_package_runs(
    example: Example, machine: None, host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {**public_names(lmstudio_async.testing), **public_names(lmstudio_async), "tmp_path": tmp_path}
    with anyio.fail_after(30):
        await run(example, host, names)
    check_effects(example, capsys)


@each_of(PLUGIN)
def test_an_example_of_the_plugin_is_a_test_that_passes(example: Example, tmp_path: Path) -> None:
    assert len(example.files) > 1
    for name, source in example.files.items():
        (tmp_path / name).write_text(source)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        # Plugins that are installed here take most of the time, and the example needs none of them.
        env={**os.environ, "PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 passed" in done.stdout


def test_examples_are_found() -> None:
    assert len(CORE) >= 60
    assert len(FACADE) >= 45
    assert len(EMBEDDED) >= 5
    assert len(TESTING) >= 4
    assert len(PLUGIN) >= 1
    names = {each.name for each in CORE}
    assert {"", "AsyncClient", "AsyncClient.open", "AsyncModelHandle.get_info", "Chat"} <= names


def test_the_tables_name_examples() -> None:
    for examples in (CORE, FACADE):
        keys = {each.key for each in examples}
        assert set(REFUSED) <= keys
    assert {*ANSWERS, *LOADED} <= {each.key for each in CORE}


async def test_a_broken_example_fails() -> None:
    docstring = """Return a book.

    ::

        book = Book("The Hobbit")

        print(book)

    Afterwards::

        print(1)
    """
    broken, works = [Example("package", "name", source) for source in examples_in(docstring)]
    with pytest.raises(NameError, match="'Book' is not defined"):
        await run(broken, "", {})
    await run(works, "", {})
