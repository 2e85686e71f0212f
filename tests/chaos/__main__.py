"""Chaos test: many clients work while faults are injected. ``python -m tests.chaos --seconds 600``.

A crowd of clients (async on asyncio and on trio, blocking in threads; most of them over sockets) loads, predicts, embeds
and unloads at random, while worker processes are killed, connections cut, and the server restarted. Afterwards every
operation must have ended, with the right result or with an `LMStudioError`, and no resource may be left over.

The seed determines the intents of the clients and the schedule of the faults. The outcome also depends on the machine.
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
    """Run the chaos test; return exit code 0 if it found no problem."""
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
