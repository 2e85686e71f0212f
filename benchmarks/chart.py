"""Chart of the processor time of each contender on each hot path, relative to the official package."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from html import escape
from typing import Any

from benchmarks.targets import Figures

__all__ = ["draw"]

_GROUPS = (
    ("import", "startup", "import.cpu", False),
    ("script: list loaded models", "startup", "list.cpu", False),
    ("script: list loaded models, blocking", "startup", "list.cpu", True),
    ("connect and first call", "connecting", "connect.cpu", False),
    ("call", "calls", "sequential.cpu", False),
    ("call, blocking", "calls", "sequential.cpu", True),
    ("1000 calls at once", "calls", "thousand.cpu", False),
    ("load with 1000 progress packets", "loading", "load.cpu", False),
    ("streamed fragment", "stream", "stream.cpu", False),
    ("streamed fragment, blocking", "stream", "stream.cpu", True),
    ("fragment of 100 streams at 50/s", "streams", "paced.cpu", False),
    ("100 embeddings of 768", "embedding", "hundred.cpu", False),
    ("list of 200 models", "listing", "list.cpu", False),
)
_ASYNC = (
    ("ours", "ours"),
    ("official", "official"),
    ("httpx-ws", "httpx"),
    ("websockets", "ws"),
    ("node", "node"),
)
_BLOCKING = (("ours, blocking", "ours"), ("official, blocking", "official"))
_LEGEND = (
    ("ours", "lmstudio-async"),
    ("official", "lmstudio (official)"),
    ("node", "@lmstudio/sdk, Node"),
    ("httpx", "plain httpx-ws loop"),
    ("ws", "plain websockets loop"),
)
_STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328 }
.title { font-size: 17px; font-weight: 600 } .small { font-size: 11px; fill: #59636e }
.value { font-size: 11px } .strong { font-weight: 600 } .grid { stroke: #d1d9e0; stroke-width: 1 }
.ours { fill: #0969da } .official { fill: #8c959f } .node { fill: #4d9f4d } .httpx { fill: #bf8700 } .ws { fill: #a475f9 }
.paper { fill: #ffffff }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .small { fill: #9198a1 } .grid { stroke: #3d444d } .paper { fill: #0d1117 }
.ours { fill: #4493f8 } .official { fill: #656c76 } .node { fill: #57ab5a } .httpx { fill: #d29922 } .ws { fill: #b392f0 }
}"""

_WIDTH, _LEFT, _SCALE = 880, 250, 440
_BAR, _GAP, _TOP = 11, 14, 96


def draw(figures: Figures, circumstances: Mapping[str, Any]) -> str:
    """Return the text of the SVG."""
    body: list[str] = []
    y = _TOP
    for title, path, metric, is_blocking in _GROUPS:
        bars = _bars(figures, path, metric, _BLOCKING if is_blocking else _ASYNC)
        if len(bars) > 1:
            body += _group(title, bars, y)
            y += len(bars) * (_BAR + 2) + _GAP
    height = y + 34
    grid = [
        f'<line class="grid" x1="{_LEFT + _SCALE * part:g}" x2="{_LEFT + _SCALE * part:g}" y1="{_TOP - 12}" y2="{y}"/>'
        f'<text class="small" x="{_LEFT + _SCALE * part:g}" y="{_TOP - 18}" text-anchor="middle">{part:g}x</text>'
        for part in (0, 0.25, 0.5, 0.75, 1)
    ]
    view = f'viewBox="0 0 {_WIDTH} {height}"'
    versions = circumstances.get("versions", {})
    note = (
        f"Processor time of the client, medians of {circumstances['rounds']} rounds; {circumstances['date']}, "
        f"CPython {circumstances['python']}, lmstudio {versions.get('lmstudio', '-')}"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" {view} role="img">',
            "<title>Processor time, relative to the official package</title>",
            f"<style>{_STYLE}</style>",
            f'<rect class="paper" width="{_WIDTH}" height="{height}" rx="6"/>',
            '<text class="title" x="20" y="28">Processor time, relative to the official Python package</text>',
            *_legend(),
            *grid,
            *body,
            f'<text class="small" x="20" y="{height - 12}">{escape(note)}. Shorter is better.</text>',
            "</svg>",
            "",
        ]
    )


def _bars(
    figures: Figures, path: str, metric: str, contenders: tuple[tuple[str, str], ...]
) -> list[tuple[str, float]]:
    """Return the style and the median of each measured contender."""
    measured = figures.get(path, {})
    return [
        (style, statistics.median(values))
        for contender, style in contenders
        if (values := measured.get(contender, {}).get(metric))
    ]


def _group(title: str, bars: list[tuple[str, float]], y: int) -> list[str]:
    official = dict(bars).get("official", bars[0][1])
    middle = y + len(bars) * (_BAR + 2) / 2 + 3.5
    lines = [f'<text x="{_LEFT - 12}" y="{middle:g}" text-anchor="end">{escape(title)}</text>']
    for style, value in bars:
        ratio = value / official
        width = max(2.0, _SCALE * min(ratio, 1.12))
        strong = " strong" if style == "ours" else ""
        words = _time(value)
        if style == "ours":
            words += f"  ({ratio:.2f}x)"
        lines.append(
            f'<rect class="{style}" x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="1.5"/>'
        )
        # An arrow marks a bar that was cut off because it is too long.
        more = " →" if ratio > 1.12 else ""
        lines.append(
            f'<text class="value{strong}" x="{_LEFT + width + 6:.1f}" y="{y + _BAR - 1.5:g}">{escape(words + more)}</text>'
        )
        y += _BAR + 2
    return lines


def _legend() -> list[str]:
    lines, x = [], 20
    for style, words in _LEGEND:
        lines.append(f'<rect class="{style}" x="{x}" y="42" width="11" height="11" rx="2"/>')
        lines.append(f'<text class="small" x="{x + 16}" y="52">{escape(words)}</text>')
        x += 34 + round(len(words) * 6.4)
    return lines


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.3g} µs" if seconds < 0.001 else f"{seconds * 1e3:.3g} ms"
