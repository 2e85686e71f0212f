"""The engine of the embedded server without the server: a separate process, used over a plain socket."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lmstudio_async.embedded._engine import _worker
from lmstudio_async.embedded._engine._engine import worker_instructions
from lmstudio_async.embedded._engine._engine_spec import EngineSpec

__all__ = ["Answered", "BareEngine"]

_PROGRAM = Path(__file__).with_name("engine_alone.py")
#: Members of a request for reports that only the server uses.
_REPORTS = ("return_progress", "return_tokens", "timings_per_token")


class Answered(NamedTuple):
    """The timing of an answer: seconds until its first token, and the times at which its pieces arrived."""

    first: float
    times: list[float]

    @classmethod
    def since(cls, began: float, times: list[float]) -> Answered:
        return cls(times[0] - began, times)

    @property
    def rate(self) -> float:
        """Tokens per second after the first one. Pieces of text count as tokens, as both sides get the same pieces."""
        return (len(self.times) - 1) / (self.times[-1] - self.times[0])


class BareEngine:
    """The process of the engine, with a loaded model.

    :ivar whole_load: seconds from the start of the process until it was ready for requests.
    :ivar load: the part of these seconds for the engine's own import and load.
    """

    def __init__(self, spec: EngineSpec) -> None:
        instructions = worker_instructions(spec, "key")
        began = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, str(_PROGRAM), _worker.__file__, json.dumps(instructions)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        ready = json.loads(self._process.stdout.readline())
        self.whole_load = time.perf_counter() - began
        self.load: float = ready["load"]
        self.pid = self._process.pid
        self._host = ready["address"].removeprefix("http://")

    def ask(self, path: str, body: Mapping[str, Any]) -> Answered:
        """Send the request that the server has sent to its own engine, but without the additional reports."""
        content = json.dumps({name: value for name, value in body.items() if name not in _REPORTS})
        connection = http.client.HTTPConnection(self._host)
        headers = {"Authorization": "Bearer key", "Content-Type": "application/json"}
        began = time.perf_counter()
        connection.request("POST", path, content, headers)
        answer = connection.getresponse()
        times = []
        while line := answer.readline():
            if line.startswith(b"data: {") and json.loads(line[6:]).get("content"):
                times.append(time.perf_counter())
        connection.close()
        return Answered.since(began, times)

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
