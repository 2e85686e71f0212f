"""The models folder, and the search for model files in it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeAlias

import attrs

from lmstudio_async._data_folder import data_folder
from lmstudio_async.embedded._catalog._naming import is_sound_key

__all__ = ["default_models_folder", "gguf_files"]

_Identity: TypeAlias = tuple[int, int] | str

_UNSOUND: Final = "its path is too long or has control characters"


def default_models_folder() -> Path:
    """Return LM Studio's models folder if it exists, or else this package's own, which may not exist yet."""
    home = Path.home()
    try:
        # If the user has moved LM Studio's home folder, LM Studio writes the path to this file.
        pointed_at = (home / ".lmstudio-home-pointer").read_text("utf-8").strip()
    except (OSError, ValueError):
        pointed_at = ""
    for place in (pointed_at, home / ".lmstudio"):
        folder = Path(place) / "models"
        if place and folder.is_absolute() and folder.is_dir():
            return folder
    return data_folder() / "models"


def gguf_files(folder: Path, *, recursive: bool = True) -> Iterator[tuple[str, Path, str]]:
    """Yield every GGUF file below a folder: its relative path, its full path, and the reason to skip it, if any.

    Links to files and to folders are followed, because people share models between programs by links. If two paths
    lead to a model, both are yielded, with two limits: a folder is not visited again inside itself, and below a link
    to a folder, each folder is visited once, because a few links to each other would otherwise make endless paths.

    Unreadable folders and broken links are yielded too, with the reason; the path of a folder ends in ``/``.

    :param recursive: False to leave out the folders in it.
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
                    if not recursive:
                        continue
                    if not is_sound_key(path):
                        yield f"{path}/", here.place / item.name, _UNSOUND
                    elif inner := here.inner(item):
                        waiting.append(inner)
                elif item.name.lower().endswith(".gguf"):
                    yield path, here.place / item.name, _problem(item, path)
                elif item.is_symlink():
                    item.stat()  # Raises for a broken link, which may be one to a folder on an absent disk.
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
    """All folders visited below the link that the path leads through; None if it leads through none."""

    def inner(self, item: os.DirEntry[str]) -> _Folder | None:
        """Return a folder in this one, or None if it must not be visited again."""
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
    # Some network file systems have no inode numbers.
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(place)


def _problem(item: os.DirEntry[str], path: str) -> str:
    if not is_sound_key(path):
        return _UNSOUND
    # Opening a pipe or a device could wait for ever.
    return "" if stat.S_ISREG(item.stat().st_mode) else "it is not a file"


def _unreadable(error: OSError, item: os.DirEntry[str] | None = None) -> str:
    if item is not None and item.is_symlink() and isinstance(error, FileNotFoundError):
        return f"it is a link to {Path(item).readlink()}, which does not exist"
    return f"it cannot be read: {error.strerror or error}"
