"""The files with the results of a run: its circumstances, the verdicts, and every figure."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.targets import Figures, Row

__all__ = ["circumstances", "write"]


def circumstances(packages: Sequence[str], **more: Any) -> dict[str, Any]:
    """Return the date, the machine and the versions of a run.

    :param packages: the packages whose versions are listed, if they are installed.
    :param more: the options of the run.
    """
    versions = {}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        **more,
        "versions": versions,
    }


def write(
    folder: Path, name: str, rows: Sequence[Row], figures: Figures, circumstances: Mapping[str, Any]
) -> None:
    """Write ``name.json`` with all results, and ``name.md`` with the table."""
    judged = [
        {"what": row.target.what, "value": row.value, "limit": row.target.limit, "verdict": row.verdict}
        for row in rows
    ]
    everything = {"circumstances": circumstances, "rows": judged, "figures": figures}
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(everything, indent=1, ensure_ascii=False) + "\n"
    (folder / f"{name}.json").write_text(text, "utf-8")
    (folder / f"{name}.md").write_text(report.as_markdown(rows) + "\n", "utf-8")
