"""All contenders side by side: ``python -m benchmarks.compare [--rounds 5] [--paths calls,stream] [--out DIRECTORY]``.

Each contender runs each hot path in a fresh process, in turn, in several rounds, against the same scripted server. The
results are the processor time of the client, and its ratio to that of another contender in the same round. The client
runs on the first core and the server on the second, if there are two and the system supports pinning; ``--real-time``
keeps all other processes off these cores, if that is permitted.

The packages of the dependency group ``bench`` must be installed. Without trio or Node, their contenders are left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import chart, node, report, results, startup
from benchmarks.child import MODULES
from benchmarks.targets import judge

__all__ = ["main"]

_BOTH = ("ours", "official")
_BLOCKING = ("ours, blocking", "official, blocking")
_PLAIN = ("httpx-ws", "websockets")
_FREE = ", free cores"
PATHS: dict[str, tuple[str, ...]] = {
    "startup": startup.CONTENDERS,
    "first_use": (*_BOTH, "ours, trio"),
    "connecting": (*_BOTH, *_BLOCKING),
    "calls": (*_BOTH, *_BLOCKING, *_PLAIN, "node"),
    "loading": (*_BOTH, *_BLOCKING, "node"),
    "stream": (*_BOTH, *_BLOCKING, *(name + _FREE for name in _BLOCKING), *_PLAIN, "ours, orjson", "node"),
    "streams": _BOTH,
    "embedding": (*_BOTH, *_BLOCKING, "ours, orjson", "node"),
    "listing": (*_BOTH, *_BLOCKING, "ours, orjson", "node"),
    "watching": ("ours", "ours, orjson"),
    "memory": _BOTH,
    "channels": _BOTH,
    "large": ("ours", *_PLAIN),
}
_LIMIT_SECONDS = 120
_PACKAGES = (
    "lmstudio-async",
    "lmstudio",
    "httpx-ws",
    "httpx",
    "websockets",
    "anyio",
    "attrs",
    "cattrs",
    "orjson",
)


class Comparison:
    """All figures of all rounds."""

    def __init__(self, host: str, *, pin: bool, real_time: bool, sdk: Path | None) -> None:
        self.figures: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(dict)
        self._host = host
        self._pin = pin
        self._real_time = real_time
        self._sdk = sdk

    def run(self, path: str, contender: str) -> None:
        """Run one path once with one contender."""
        if not self._is_there(contender):
            return
        if path == "startup":
            figures = startup.measure(contender, self._host, pin=self._pin, real_time=self._real_time)
        elif contender == "node":
            assert self._sdk is not None
            figures = node.measure(self._sdk, path, self._host, pin=self._pin)
        else:
            figures = self._run_child(path, contender)
        kept = self.figures[path].setdefault(contender, defaultdict(list))
        for metric, value in figures.items():
            kept[metric].append(value)

    def _run_child(self, path: str, contender: str) -> dict[str, float]:
        options = ["--pin"] * self._pin + ["--real-time"] * self._real_time
        name = contender.removesuffix(_FREE)
        if name != contender:
            # Do not pin the process: on several cores threads run in parallel, and handing over the GIL costs most.
            options = []
        command = [sys.executable, "-m", "benchmarks.child", path, name, self._host, *options]
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=_LIMIT_SECONDS, check=True)
        figures: dict[str, float] = json.loads(done.stdout)
        return figures

    def _is_there(self, contender: str) -> bool:
        name = contender.removesuffix(_FREE)
        if name == "node":
            return self._sdk is not None
        if name == "ours, orjson" and importlib.util.find_spec("orjson") is None:
            return False
        if name == "ours, trio" and importlib.util.find_spec("trio") is None:
            return False
        package = MODULES.get(name, ("sys", False))[0]
        return importlib.util.find_spec(package) is not None


@contextmanager
def _server(*, pin: bool) -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.fast_server", *["--pin"] * pin]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    try:
        yield f"127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare", description=__doc__.split("\n", 1)[0]
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--paths", default=",".join(PATHS), help="some of: %(default)s")
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks/results"), help="directory for the result files"
    )
    parser.add_argument("--no-pin", action="store_true", help="let the system place the processes")
    parser.add_argument("--real-time", action="store_true", help="keep other processes off the cores")
    parser.add_argument(
        "--node",
        type=Path,
        help="directory to install @lmstudio/sdk into; without this option, Node is left out",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run all paths, print the table, write the files."""
    options = _parse(arguments)
    pin = not options.no_pin and (os.cpu_count() or 1) > 1 and hasattr(os, "sched_setaffinity")
    sdk = node.prepare(options.node) if options.node else None
    began = time.monotonic()
    with _server(pin=pin) as host:
        comparison = Comparison(host, pin=pin, real_time=options.real_time, sdk=sdk)
        for path in options.paths.split(","):
            for number in range(1, options.rounds + 1):
                for contender in PATHS[path]:
                    print(
                        f"\r\033[K{path} {number}/{options.rounds}: {contender}",
                        end="",
                        file=sys.stderr,
                        flush=True,
                    )
                    comparison.run(path, contender)
    print("\r\033[K", end="", file=sys.stderr)
    rows = judge(comparison.figures)
    print(report.as_text(rows))
    print(f"Took {time.monotonic() - began:.0f} seconds.")
    circumstances: dict[str, Any] = results.circumstances(
        _PACKAGES, rounds=options.rounds, pinned=pin, real_time=options.real_time
    )
    if sdk is not None:
        circumstances["versions"]["@lmstudio/sdk"] = node.VERSION
    results.write(options.out, "results", rows, comparison.figures, circumstances)
    (options.out / "results.svg").write_text(chart.draw(comparison.figures, circumstances), "utf-8")
    print(f"Wrote results.json, results.md and results.svg to {options.out}.")


if __name__ == "__main__":
    main()
