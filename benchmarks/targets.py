"""Targets of the benchmarks: the rows of the table, and their computation from the figures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import attrs

__all__ = ["EMBEDDED_TARGETS", "TARGETS", "Figures", "Row", "Target", "judge"]

#: Path, then contender, then metric, then one value for each round.
Figures = Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]


@attrs.frozen
class Target:
    """A target, which is a row of the table.

    :param what: its title.
    :param path: the hot path.
    :param metric: the metric of the hot path.
    :param ours: our contender.
    :param against: the contender to compare with, round by round; None if the limit is for our figure itself.
    :param limit: the highest value that reaches the target, or the lowest if `is_floor`.
    :param unit: ``x`` for the ratio of the two figures; any other unit for their difference.
    :param is_floor: whether the limit is a minimum.
    """

    what: str
    path: str
    metric: str
    ours: str
    against: str | None
    limit: float
    unit: str = "x"
    is_floor: bool = False

    @property
    def is_difference(self) -> bool:
        """Whether the value is the difference of two figures, and not their ratio."""
        return self.against is not None and self.unit != "x"


@attrs.frozen
class Row:
    """The result for a target."""

    target: Target
    #: None if it could not be measured on this machine.
    value: float | None
    spread: tuple[float, float] = (0.0, 0.0)
    ours: float = 0.0
    theirs: float | None = None

    @property
    def verdict(self) -> str:
        """Whether the target was reached."""
        if self.value is None:
            return "not measured"
        target = self.target
        reached = self.value >= target.limit if target.is_floor else self.value <= target.limit
        return "reached" if reached else "missed"


_A, _S = "ours", "ours, blocking"
_OA, _OS = "official", "official, blocking"
_J = "ours, orjson"
# Only in `first_use`, compared with the official client on asyncio.
_T = "ours, trio"
_FREE, _OFREE = "ours, blocking, free cores", "official, blocking, free cores"

TARGETS = (
    Target("import lmstudio_async", "startup", "import.cpu", _A, _OA, 0.30),
    Target("import lmstudio_sync", "startup", "import.cpu", _S, _OS, 0.30),
    Target(
        "heavy modules (asyncio, httpx, anyio, cattrs) that it imports",
        "startup",
        "import.heavy",
        _S,
        None,
        0,
        "",
    ),
    Target("longest gap of the event loop at first use", "first_use", "first.gap", _A, _OA, 1.0),
    Target("longest gap at first use, on trio", "first_use", "first.gap", _T, _OA, 1.0),
    Target("longest gap at second use", "first_use", "second.gap", _A, _OA, 0.25),
    Target("whole script, list loaded models: async", "startup", "list.cpu", _A, _OA, 0.50),
    Target("whole script, list loaded models: blocking", "startup", "list.cpu", _S, _OS, 0.62),
    Target("its peak memory: async", "startup", "list.peak", _A, _OA, 0.85),
    Target("its peak memory: blocking", "startup", "list.peak", _S, _OS, 0.85),
    Target("whole script, 10 000 fragments: async", "startup", "stream.cpu", _A, _OA, 0.25),
    Target("whole script, 10 000 fragments: blocking", "startup", "stream.cpu", _S, _OS, 0.22),
    Target("connect and first call: async", "connecting", "connect.cpu", _A, _OA, 0.05),
    Target("connect and first call, on the wall", "connecting", "connect.wall", _A, None, 0.010, "ms"),
    Target("close", "connecting", "close.wall", _A, None, 0.002, "ms"),
    Target("sequential call: async", "calls", "sequential.cpu", _A, _OA, 0.65),
    Target("sequential call: blocking", "calls", "sequential.cpu", _S, _OS, 0.50),
    Target("sequential call: blocking over our own async", "calls", "sequential.cpu", _S, _A, 1.30),
    Target("100 calls at once", "calls", "hundred.cpu", _A, _OA, 0.16),
    Target("1000 calls at once", "calls", "thousand.cpu", _A, _OA, 0.16),
    Target("load with 1000 progress packets: async", "loading", "load.cpu", _A, _OA, 0.08),
    Target("load with 1000 progress packets: blocking", "loading", "load.cpu", _S, _OS, 0.08),
    Target("stream of 10 000 fragments: async", "stream", "stream.cpu", _A, _OA, 0.09),
    Target("stream of 10 000 fragments: blocking", "stream", "stream.cpu", _S, _OS, 0.07),
    Target(
        "stream of 10 000 fragments: blocking, on free cores", "stream", "stream.cpu", _FREE, _OFREE, 0.05
    ),
    Target("stream against a plain httpx-ws loop", "stream", "stream.cpu", _A, "httpx-ws", 0.12),
    Target("stream against a plain websockets loop", "stream", "stream.cpu", _A, "websockets", 1.0),
    Target("100 streams in a burst", "streams", "burst.cpu", _A, _OA, 0.14),
    Target("100 streams of 50 a second", "streams", "paced.cpu", _A, _OA, 0.50),
    Target(
        "their pace, as part of what was sent", "streams", "paced.reached", _A, None, 0.98, "", is_floor=True
    ),
    Target("one stream of 500 a second", "streams", "one.cpu", _A, _OA, 0.75),
    Target("embedding of 1 x 768", "embedding", "one.cpu", _A, _OA, 0.90),
    Target("embedding of 100 x 768", "embedding", "hundred.cpu", _A, _OA, 0.70),
    Target("embedding of 1 x 768, orjson", "embedding", "one.cpu", _J, _OA, 0.40),
    Target("embedding of 100 x 768, orjson", "embedding", "hundred.cpu", _J, _OA, 0.20),
    Target("list of 200 downloaded models", "listing", "list.cpu", _A, _OA, 1.15),
    Target("list of 200 downloaded models, orjson", "listing", "list.cpu", _J, _OA, 1.0),
    Target(
        "watch of 64 instances, each second, as part of a core", "watching", "core.part", _A, None, 0.01, ""
    ),
    Target("the same, orjson", "watching", "core.part", _J, None, 0.01, ""),
    Target("memory of an open channel", "memory", "channel.KiB", _A, None, 2.5, "KiB"),
    Target("open a channel", "channels", "open.cpu", _A, _OA, 0.45),
    Target("call beside 1000 open channels, to one alone", "channels", "call.beside", _A, None, 1.1),
    Target("close with 100 channels open", "channels", "close.wall", _A, None, 0.005, "ms"),
    Target("message of 4 MiB against plain httpx-ws", "large", "4MiB.cpu", _A, "httpx-ws", 1.0),
    Target("message of 32 MiB against plain httpx-ws", "large", "32MiB.cpu", _A, "httpx-ws", 1.0),
)


_ALONE, _OWN = "engine alone", "engine's own work"
_WAYS = "over_port", "in_process"
EMBEDDED_TARGETS = (
    Target("tokens per second", "embedded", "answer.rate", _A, _ALONE, 0.97, is_floor=True),
    Target("request to first token", "embedded", "first.wall", _A, _ALONE, 0.010, "ms"),
    Target("load, to the engine in a bare process", "embedded", "load.wall", _A, _ALONE, 0.025, "ms"),
    Target("load, to what the engine itself does", "embedded", "load.wall", _A, _OWN, 0.050, "ms"),
    Target("memory of a loaded instance", "embedded", "instance.MiB", _A, _ALONE, 4, "MiB"),
    Target(
        "model() of a loaded model over a port, to in-process", "embedded", "model.wall", *_WAYS, 0.003, "ms"
    ),
    Target("short answer over a port, to in-process", "embedded", "short.wall", *_WAYS, 0.010, "ms"),
    Target("event loop late while loading, p99", "embedded", "loading.late", _A, None, 0.010, "ms"),
    Target("event loop late while generating, p99", "embedded", "generating.late", _A, None, 0.010, "ms"),
)


def judge(figures: Figures, targets: Sequence[Target] = TARGETS) -> list[Row]:
    """Compare the figures with the targets."""
    return [_judge(target, figures.get(target.path, {})) for target in targets]


def _judge(target: Target, contenders: Mapping[str, Mapping[str, Sequence[float]]]) -> Row:
    ours = contenders.get(target.ours, {}).get(target.metric)
    if not ours:
        return Row(target, None)
    if target.against is None:
        return Row(target, statistics.median(ours), (min(ours), max(ours)), statistics.median(ours))
    theirs = contenders.get(target.against, {}).get(target.metric)
    if not theirs:
        return Row(target, None, ours=statistics.median(ours))
    # Compare within a round, because its contenders ran one after the other under the same conditions.
    pairs = list(zip(ours, theirs, strict=False))
    compared = [mine - other if target.is_difference else mine / other for mine, other in pairs]
    return Row(
        target,
        statistics.median(compared),
        (min(compared), max(compared)),
        statistics.median(ours),
        statistics.median(theirs),
    )
