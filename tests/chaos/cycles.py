"""Repeated loading and unloading of a small model: ``python -m tests.chaos.cycles --cycles 1000``.

One client uses a server process over a socket, another one an embedded server. Neither process may hold more resources
afterwards.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import anyio

import lmstudio_async as lms
from tests.chaos.comparing import held_by, more_than
from tests.chaos.models import EMBEDDING, VECTOR_LENGTH, make_models, may_say
from tests.chaos.server import ServerProcess

__all__ = ["flat", "main"]

#: Cycles after which all resources exist that are made on first use.
WARM_UP = 10
#: Cycles at a time for each server. More of them would only wait for each other.
SIDE_BY_SIDE = 2


async def flat(folder: Path, cycles: int) -> list[str]:
    """Load and unload `cycles` times; return the resources that have grown since the warm-up."""
    models = make_models(folder / "models")
    async with ServerProcess(models, folder) as server, lms.EmbeddedServer(models, threads=1) as own:

        async def load_and_unload(cycles: int) -> None:
            numbers = iter(range(cycles))
            async with anyio.create_task_group() as tasks:
                for host in (server.address, own):
                    tasks.start_soon(_load_and_unload, host, numbers)

        await load_and_unload(WARM_UP)
        before = await held_by(server)
        await load_and_unload(cycles)
        return await more_than(before, server)


async def _load_and_unload(host: str | lms.EmbeddedServer, numbers: Iterator[int]) -> None:
    """Load and unload once for each number that is left."""

    async def work() -> None:
        for number in numbers:
            if number % 4 == 3:
                model = await client.embedding.load_new_instance(EMBEDDING)
                assert len(await model.embed("reasons")) == VECTOR_LENGTH
                await model.unload()
            else:
                llm = await client.llm.load_new_instance("tiny", f"tiny-{number}")
                answer = await llm.respond("Why?")
                assert may_say("tiny", answer.content, whole=True)
                await llm.unload()

    async with lms.AsyncClient(host) as client, anyio.create_task_group() as tasks:
        for _ in range(SIDE_BY_SIDE):
            tasks.start_soon(work)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cycles; return exit code 0 if nothing has grown."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.cycles", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--cycles", type=int, default=1000, help="loads and unloads (%(default)s)")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="cycles-") as folder:
        more = anyio.run(flat, Path(folder), given.cycles)
    for each in more:
        print(f"AMISS: {each}")
    print(f"{len(more)} things have grown." if more else f"{given.cycles} cycles, and nothing has grown.")
    return 1 if more else 0


if __name__ == "__main__":
    sys.exit(main())
