"""The first use of a client in an event loop: it imports, reads and looks up nothing there.

Each step is the first action of a program of its own. blockbuster finds blocking calls, on asyncio only, and a module
finder finds imports.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmstudio_async import AsyncClient, EmbeddedServer, _preload
from lmstudio_async.testing import ModelsFolder, served
from tests.first_use import STEPS

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("tiny", script="Hello there")
    folder.add_llm("json", script="{}")
    folder.add_embedding("vectors")
    return folder.folder


@pytest.fixture(scope="module", autouse=True)
def _no_hub() -> Iterator[None]:
    """A hub that cannot be reached, for the programs and for the server in this process."""
    with socket.socket() as taken, pytest.MonkeyPatch.context() as patch:
        taken.bind(("127.0.0.1", 0))
        patch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield


@pytest.fixture(scope="module")
def address(models: Path) -> Iterator[str]:
    with served(EmbeddedServer(models)) as place:
        yield place


def waits_of_the_loop(backend: str, steps: str, where: str) -> dict[str, list[str]]:
    """Run a program that takes these steps; return the imports and the blocking calls in its event loop."""
    program = subprocess.run(
        [sys.executable, "-m", "tests.first_use", backend, steps, where],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    assert program.returncode == 0
    found: dict[str, list[str]] = json.loads(program.stdout.splitlines()[-1])
    return found


NONE: dict[str, list[str]] = {"imported": [], "blocked": []}


@pytest.mark.parametrize("step", STEPS)
def test_first_use_over_a_socket_keeps_the_loop_free(step: str, address: str) -> None:
    assert waits_of_the_loop("asyncio", step, address) == NONE


@pytest.mark.parametrize("step", STEPS)
def test_first_use_of_a_server_in_process_keeps_the_loop_free(step: str, models: Path) -> None:
    assert waits_of_the_loop("asyncio", step, str(models)) == NONE


def test_first_use_on_trio_keeps_the_loop_free(address: str, models: Path) -> None:
    steps = ",".join(STEPS)
    assert waits_of_the_loop("trio", steps, address) == NONE
    assert waits_of_the_loop("trio", steps, str(models)) == NONE


async def test_second_use_starts_no_thread(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def use() -> None:
        async with AsyncClient(address) as client:
            llm = await client.llm.model("tiny")
            assert str(await llm.respond("Hello")) == "Hello there"

    await use()
    monkeypatch.setattr(_preload, "_load", lambda names: pytest.fail(f"imports {names} once more"))
    await use()
