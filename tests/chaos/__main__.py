"""Chaos: many clients at work while all that can go wrong does. ``python -m tests.chaos --seconds 600``.

A crowd of clients (async on asyncio and on trio, blocking in threads; most of them over sockets) loads, asks, embeds and
unloads at random, while workers are killed, connections cut, and the server restarted. Afterwards nothing is to be
left of it, and every operation is to have ended, with the right result or with an error of ours.

The seed decides what everybody wants and what goes wrong when. What comes of it depends on the machine too.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import anyio

from tests.chaos.run import Run

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it: exit code 0 if nothing was amiss."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="how long it lasts (%(default)s)")
    parser.add_argument("--clients", type=int, default=32, help="how many there are (%(default)s)")
    parser.add_argument("--seed", type=int, help="to have the same intents and faults once more")
    given = parser.parse_args(arguments)
    seed = random.randrange(10**6) if given.seed is None else given.seed
    print(f"{given.clients} clients, {given.seconds:g} seconds, --seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        problems = anyio.run(Run(Path(folder), seed, given.clients).run, given.seconds)
    for problem in problems:
        print(f"\nAMISS: {problem}")
    print(f"\n{len(problems)} things are amiss; --seed {seed}" if problems else "\nNothing is amiss.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
