"""Tables of instances and models for notebooks, as HTML without styles and scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from html import escape
from typing import Any

from lmstudio_async._printable import printable

__all__ = ["model_table"]

#: Characters that are shown of a name.
_LONGEST_NAME = 80

#: Rows of a table; a notebook keeps all of them in its file.
_MOST_ROWS = 200

Columns = Mapping[str, Callable[[Any], object]]


def model_table(items: Sequence[Any]) -> str | None:
    """Return an HTML table of instances or models.

    :param items: handles, statuses of instances, downloaded models, models that a search found, or their download
        options, of either package.
    :return: the table; None if there is nothing to show, or the items are not all of one of these kinds.
    """
    kinds = {_columns_of(item) for item in items}
    if len(kinds) != 1 or None in kinds:
        return None
    columns = _COLUMNS[str(kinds.pop())]
    shown = items[:_MOST_ROWS]
    rows = [[_cell(value, item) for value in columns.values()] for item in shown]
    # A column that is empty in every row says nothing.
    used = [number for number in range(len(columns)) if any(row[number] for row in rows)]
    names = [name for number, name in enumerate(columns) if number in used]
    lines = ["<table>", "<thead>", _row("th", names), "</thead>", "<tbody>"]
    lines += [_row("td", [row[number] for number in used]) for row in rows]
    if len(items) > len(shown):
        lines.append(f'<tr><td colspan="{len(used)}">… and {len(items) - len(shown)} more</td></tr>')
    return "\n".join([*lines, "</tbody>", "</table>"])


def _columns_of(item: Any) -> str | None:
    if hasattr(item, "unloads_in"):
        return "status"
    if hasattr(item, "search_result"):
        return "found"
    if not hasattr(item, "info"):
        return None
    kinds = {"model_key": "model", "identifier": "handle", "download": "option"}
    return next((kind for name, kind in kinds.items() if hasattr(item, name)), None)


def _row(tag: str, cells: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{cell}</{tag}>' for cell in cells)}</tr>"


def _cell(value: Callable[[Any], object], item: Any) -> str:
    try:
        found = value(item)
    except (ValueError, OverflowError):  # a number that is too large for its unit
        return "?"
    return "" if found is None else escape(printable(str(found), _LONGEST_NAME))


def _bytes(count: float) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e7 else f"{count / 1e6:,.2f} MB"


def _duration(seconds: float | None) -> str | None:
    return None if seconds is None else str(timedelta(seconds=round(seconds)))


def _ttl(seconds: float | None) -> str:
    return _duration(seconds) or "never"


def _yes(flag: bool | None) -> str | None:
    return "yes" if flag else None


def _quantization(info: Any) -> str | None:
    return info.quantization.name if info.quantization is not None else None


def _abilities(info: Any) -> str:
    names = {"vision": "vision", "trained_for_tool_use": "tools"}
    return ", ".join(shown for name, shown in names.items() if getattr(info, name, False))


_COLUMNS: Mapping[str, Columns] = {
    "status": {
        "identifier": lambda each: each.identifier,
        "type": lambda each: each.kind,
        "model key": lambda each: each.model_key,
        "status": lambda each: each.status,
        "prompt": lambda each: None if each.prompt_progress is None else f"{each.prompt_progress:.0%}",
        "queued": lambda each: each.queued or None,
        "idle for": lambda each: _duration(each.idle_seconds),
        "unloads in": lambda each: _duration(each.unloads_in),
        "TTL": lambda each: _ttl(each.ttl),
        "context": lambda each: f"{each.context_length:,}",
        "size": lambda each: _bytes(each.size_bytes),
        "device": lambda each: each.device,
    },
    "handle": {
        "identifier": lambda each: each.identifier,
        "type": lambda each: each.info.type,
        "model key": lambda each: each.info.model_key,
        "TTL": lambda each: _ttl(each.info.ttl),
        "context": lambda each: f"{each.info.context_length:,}",
        "parameters": lambda each: each.info.params_string,
        "quantization": lambda each: _quantization(each.info),
        "size": lambda each: _bytes(each.info.size_bytes),
        "device": lambda each: each.info.device_identifier,
    },
    "model": {
        "model key": lambda each: each.model_key,
        "type": lambda each: each.type,
        "name": lambda each: each.info.display_name,
        "parameters": lambda each: each.info.params_string,
        "quantization": lambda each: _quantization(each.info),
        "architecture": lambda each: each.info.architecture,
        "size": lambda each: _bytes(each.info.size_bytes),
        "longest context": lambda each: f"{each.info.max_context_length:,}",
        "abilities": lambda each: _abilities(each.info),
        "device": lambda each: each.info.device_identifier,
    },
    "found": {
        "name": lambda each: each.search_result.name,
        "found as": lambda each: each.search_result.identifier.identifier,
        "type": lambda each: each.search_result.identifier.type,
        "exact": lambda each: _yes(each.search_result.exact),
        "staff pick": lambda each: _yes(each.search_result.staff_pick),
    },
    "option": {
        "name": lambda each: each.info.name,
        "quantization": lambda each: each.info.quantization,
        "format": lambda each: each.info.compatibility_type,
        "size": lambda each: _bytes(each.info.size_bytes),
        "fits": lambda each: each.info.fit_estimation,
        "recommended": lambda each: _yes(each.info.recommended),
    },
}
