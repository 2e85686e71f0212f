"""Where downloaded models are kept, and which files are there."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lmstudio_async.embedded._naming import is_sound_key

__all__ = ["default_models_folder", "gguf_files"]

_DEEPEST: Final = 6


def default_models_folder() -> Path:
    """LM Studio's models folder, if there is one; otherwise this package's own, which need not exist yet."""
    home = Path.home()
    try:
        # LM Studio can be told to live elsewhere: it leaves a note.
        pointed_at = (home / ".lmstudio-home-pointer").read_text("utf-8").strip()
    except (OSError, ValueError):
        pointed_at = ""
    for place in (pointed_at, home / ".lmstudio"):
        folder = Path(place) / "models"
        if place and folder.is_absolute() and folder.is_dir():
            return folder
    if sys.platform == "win32":
        data = os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local"
    elif sys.platform == "darwin":
        data = home / "Library" / "Application Support"
    else:
        # The specification of this variable says that a relative path is to be ignored.
        named = os.environ.get("XDG_DATA_HOME", "")
        data = named if Path(named).is_absolute() else home / ".local" / "share"
    return Path(data) / "lmstudio-async" / "models"


def gguf_files(folder: Path) -> Iterator[tuple[str, Path, str]]:
    """Every GGUF file below the folder: its relative path, where it is, and what is wrong with it, if anything."""
    root = Path(os.path.realpath(folder))
    waiting = [(root, "", 0)]
    while waiting:
        place, prefix, depth = waiting.pop()
        try:
            with os.scandir(place) as listing:
                items = sorted(listing, key=lambda item: item.name)
        except OSError:
            continue
        for item in items:
            if item.name.startswith("."):
                continue
            path = prefix + item.name
            try:
                if item.is_dir(follow_symlinks=False):
                    # Windows has links to folders that do not count as links; they may lead anywhere.
                    if depth < _DEEPEST and _is_inside(root, place / item.name):
                        waiting.append((place / item.name, f"{path}/", depth + 1))
                elif item.name.lower().endswith(".gguf"):
                    yield path, place / item.name, _problem(root, item, path)
            except OSError as error:
                yield path, place / item.name, f"it cannot be read: {error.strerror or error}"


def _problem(root: Path, item: os.DirEntry[str], path: str) -> str:
    if not is_sound_key(path):
        return "its path is too long or has control characters"
    if item.is_symlink() and not _is_inside(root, item.path):
        return "it is a link to a file outside of the models folder"
    # Opening a pipe or a device could wait for ever.
    return "" if stat.S_ISREG(item.stat().st_mode) else "it is no file"


def _is_inside(root: Path, path: str | Path) -> bool:
    # Path.resolve() does not take links that lead round in circles, which some versions of Python tell with an
    # exception that is no OSError.
    return Path(os.path.realpath(path)).is_relative_to(root)
