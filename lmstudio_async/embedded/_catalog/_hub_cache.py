"""The cache of Hugging Face's tools, in which GGUF files are found. It is only read: the tools own it.

The layout is that of ``huggingface_hub``: ``models--owner--repository/snapshots/commit/file.gguf``. A file of a snapshot
is a link to a blob, or the file itself where links are not possible. A download that is not complete has no link yet.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from lmstudio_async.embedded._catalog._models_folder import gguf_files
from lmstudio_async.embedded._catalog._naming import split_part

__all__ = ["cached_files", "hub_cache_folder"]

#: Path in the repository -> the file, and the reason to skip it, if any.
_Snapshot: TypeAlias = dict[str, tuple[Path, str]]

_PREFIX: Final = "models--"
_SUFFIX: Final = ".gguf"


def hub_cache_folder() -> Path:
    """Return the cache of this user, which may not exist. Its place depends on the variables that the tools have."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if place := os.environ.get(name):
            return _expanded(place)
    home = os.environ.get("HF_HOME")
    if not home:
        home = str(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    return _expanded(home) / "hub"


def _expanded(place: str) -> Path:
    return Path(os.path.expandvars(Path(place).expanduser()))


def cached_files(cache: Path) -> Iterator[tuple[str, Path, str]]:
    """Yield each GGUF file of the cache: ``owner/repository/file.gguf``, its place, and the reason to skip it, if any.

    A file that is in several snapshots of its repository is yielded once, from the newest one that has it.
    """
    for repository in _folders(cache):
        if repository.name.startswith(_PREFIX):
            name = repository.name.removeprefix(_PREFIX).replace("--", "/")
            snapshots = [_snapshot(folder) for folder in _newest_first(repository)]
            for path, (file, problem) in _merged(snapshots).items():
                yield f"{name}/{path}", file, problem


def _folders(place: Path) -> list[Path]:
    try:
        with os.scandir(place) as listing:
            return sorted(Path(item.path) for item in listing if item.is_dir())
    except OSError:
        # There is no cache, or it is another user's.
        return []


def _newest_first(repository: Path) -> list[Path]:
    """Return the snapshots: the one of the branch ``main`` first, as far as it was ever downloaded."""
    try:
        main = (repository / "refs" / "main").read_text("utf-8").strip()
    except (OSError, ValueError):
        main = ""

    def rank(snapshot: Path) -> tuple[bool, float]:
        try:
            return snapshot.name == main, snapshot.stat().st_mtime
        except OSError:
            return False, 0.0

    return sorted(_folders(repository / "snapshots"), key=rank, reverse=True)


def _snapshot(folder: Path) -> _Snapshot:
    # The blob of a broken link was removed by another tool, and is no fault of the file.
    return {path: (file, problem) for path, file, problem in gguf_files(folder) if file.exists()}


def _merged(snapshots: Sequence[_Snapshot]) -> _Snapshot:
    """Return the files of all snapshots: each path and each blob once, and all parts of a model from one snapshot.

    The engine looks for the parts of a model in one folder. A snapshot may lack some, if only others were downloaded.
    """
    groups: dict[object, _Snapshot] = {}
    for snapshot in snapshots:
        ours: dict[object, _Snapshot] = {}
        for path, found in snapshot.items():
            ours.setdefault(_group(path), {})[path] = found
        for group, files in ours.items():
            if len(files) > len(groups.get(group, ())):
                groups[group] = files
    merged: _Snapshot = {}
    blobs: set[str] = set()
    for files in groups.values():
        first = os.path.realpath(next(iter(files.values()))[0])
        if first not in blobs:
            blobs.add(first)
            merged.update(files)
    return merged


def _group(path: str) -> object:
    """Return what the parts of a model have in common; of any other file, its path."""
    folder, _, name = path.rpartition("/")
    part = split_part(name[: -len(_SUFFIX)])
    return path if part is None else (folder, part[0], part[2])
