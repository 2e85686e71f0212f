"""Where downloaded models are kept, and which files are there."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeAlias

import attrs

from lmstudio_async.embedded._naming import is_sound_key

__all__ = ["default_models_folder", "gguf_files"]

_Identity: TypeAlias = tuple[int, int] | str

_UNSOUND: Final = "its path is too long or has control characters"


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
    """Yield every GGUF file below a folder: its relative path, its place, and the reason to skip it, if any.

    Links to files and to folders are followed, because people share models between programs by links. A model that
    two paths lead to comes under both, with two limits: no folder comes again within itself, and below a link to a
    folder each folder comes once, or a few links to each other would make endless paths.

    Folders that cannot be read and links that lead nowhere come too, with the reason; a folder's path ends in ``/``.
    """
    root = Path(os.path.realpath(folder))
    try:
        waiting = [_Folder(root, "", (_identity(root),), None)]
    except FileNotFoundError:
        return
    except OSError as error:
        yield "./", root, _unreadable(error)
        return
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here.place) as listing:
                items = sorted(listing, key=lambda item: item.name)
        except OSError as error:
            yield here.path or "./", here.place, _unreadable(error)
            continue
        for item in items:
            if item.name.startswith("."):
                continue
            path = here.path + item.name
            try:
                if item.is_dir():
                    if not is_sound_key(path):
                        yield f"{path}/", here.place / item.name, _UNSOUND
                    elif inner := here.inner(item):
                        waiting.append(inner)
                elif item.name.lower().endswith(".gguf"):
                    yield path, here.place / item.name, _problem(item, path)
                elif item.is_symlink():
                    item.stat()  # A link to a folder on a disk that is not there looks like any file.
            except OSError as error:
                yield path, here.place / item.name, _unreadable(error, item)


@attrs.frozen
class _Folder:
    place: Path
    path: str
    """Relative to the models folder: empty, or with a slash at its end."""
    above: tuple[_Identity, ...]
    """The folders that the path leads through, from the models folder to this one."""
    below_link: set[_Identity] | None
    """All folders that came below the link that the path leads through; None if it leads through none."""

    def inner(self, item: os.DirEntry[str]) -> _Folder | None:
        """A folder in this one; None if it has come already."""
        place = self.place / item.name
        identity = _identity(place)
        below_link = self.below_link
        if identity in self.above or (below_link is not None and identity in below_link):
            return None
        if below_link is not None:
            below_link.add(identity)
        elif item.is_symlink():
            below_link = {identity}
        return _Folder(place, f"{self.path}{item.name}/", (*self.above, identity), below_link)


def _identity(place: Path) -> _Identity:
    status = place.stat()
    # Some network file systems number no files.
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(place)


def _problem(item: os.DirEntry[str], path: str) -> str:
    if not is_sound_key(path):
        return _UNSOUND
    # Opening a pipe or a device could wait for ever.
    return "" if stat.S_ISREG(item.stat().st_mode) else "it is no file"


def _unreadable(error: OSError, item: os.DirEntry[str] | None = None) -> str:
    if item is not None and item.is_symlink() and isinstance(error, FileNotFoundError):
        return f"it is a link to {Path(item).readlink()}, where nothing is"
    return f"it cannot be read: {error.strerror or error}"
