"""The table of results, for the terminal and for the README."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.targets import Row

__all__ = ["as_markdown", "as_text"]

_MARK = {"reached": "yes", "missed": "NO", "not measured": "-"}


def as_text(rows: Sequence[Row]) -> str:
    """Return the table for a terminal."""
    cells = [_cells(row) for row in rows]
    head = ("what", "ours", "against", "compared", "of the rounds", "target", "reached")
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    lines = []
    for line in (head, tuple("-" * width for width in widths), *cells):
        first, *rest = line
        padded = [first.ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join(padded).rstrip())
    missed = sum(row.verdict == "missed" for row in rows)
    absent = sum(row.verdict == "not measured" for row in rows)
    lines.append("")
    lines.append(f"{len(rows) - missed - absent} of {len(rows)} targets reached, {missed} missed.")
    return "\n".join(lines)


def as_markdown(rows: Sequence[Row]) -> str:
    """Return the table for the README."""
    lines = ["| | ours | against | compared | target | |", "|---|---:|---:|---:|---:|---|"]
    for row in rows:
        what, ours, theirs, ratio, _, limit, reached = _cells(row)
        lines.append(f"| {what} | {ours} | {theirs} | {ratio} | {limit} | {reached} |")
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    target = row.target
    against = target.against is not None
    limit = ("≥ " if target.is_floor else "≤ ") + _number(target.limit, target.unit)
    if row.value is None:
        return target.what, "", "", "", "", limit, _MARK[row.verdict]
    low, high = row.spread
    return (
        target.what,
        _amount(row.ours, target.metric) if against else _number(row.value, target.unit),
        "" if row.theirs is None else _amount(row.theirs, target.metric),
        ("+" * (target.is_difference and row.value > 0) + _number(row.value, target.unit)) if against else "",
        f"{_bare(low, target.unit)} - {_bare(high, target.unit)}" if against else "",
        limit,
        _MARK[row.verdict],
    )


def _bare(value: float, unit: str) -> str:
    return f"{value * 1000 if unit == 'ms' else value:.3g}"


def _number(value: float, unit: str) -> str:
    if unit == "ms":
        return f"{value * 1000:.3g} ms"
    return f"{value:.3g}{unit}" if unit in ("", "x") else f"{value:.3g} {unit}"


def _amount(value: float, metric: str) -> str:
    """Return an amount with a suitable unit."""
    if metric.endswith((".peak", ".MiB")):
        return f"{value:.1f} MiB"
    if metric.endswith(".rate"):
        return f"{value:.3g} /s"
    if value < 0.001:
        return f"{value * 1e6:.3g} µs"
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"
