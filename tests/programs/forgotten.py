"""A program that forgets to close its client, in the middle of a load.

::

    python tests/programs/forgotten.py RUNNER HOST|MODELS WHERE

WHERE is ``in the loop``: nothing holds the client any more, and the program goes on. Or ``at the end``: a variable of
the module holds it until the interpreter ends.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

from lmstudio_async import AsyncClient, EmbeddedServer
from tests.processes import workers
from tests.programs.runners import RUNNERS

runner, place, where = sys.argv[1:]
kept: list[AsyncClient] = []


def server() -> str | EmbeddedServer:
    return EmbeddedServer(place, threads=1) if Path(place).exists() else place


async def load_and_forget() -> None:
    client = await AsyncClient.open(server())
    if where == "at the end":
        kept.append(client)
    async for progress in client.llm.load_new_instance_stream("big"):
        if progress.fraction:
            break


async def main() -> None:
    await load_and_forget()
    gc.collect()
    # The program goes on with something else.
    async with AsyncClient(server()) as client:
        await client.llm.list_downloaded()
        await client.llm.list_loaded()


RUNNERS[runner](main)
# The loads have ended with the event loop, even if the interpreter keeps their objects until its end.
print("worker processes:", len(workers()))  # noqa: T201 - the test reads it
