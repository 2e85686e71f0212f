"""The places where a server looks for models: folders, single files, and the cache of Hugging Face."""

from __future__ import annotations

import itertools
import logging
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from lmstudio_async._install_command import pull_command
from lmstudio_async.embedded._catalog._hub_cache import cached_files, hub_cache_folder
from lmstudio_async.embedded._catalog._models_folder import default_models_folder, gguf_files
from lmstudio_async.embedded._catalog._naming import EMBEDDING_PREFIX, split_part, split_variant
from lmstudio_async.errors import LMStudioOSError, LMStudioValueError

__all__ = ["Found", "ModelPlaces"]

logger = logging.getLogger("lmstudio_async.embedded")

Found: TypeAlias = tuple[str, Path, str]
"""A GGUF file: its path in the catalog, its place on the disk, and the reason to skip it, if any."""

FileIdentity: TypeAlias = tuple[int, int] | str

_MAGIC: Final = b"GGUF"
_SUFFIX: Final = ".gguf"
#: Number of places that a text names.
_MOST_SHOWN: Final = 4


class ModelPlaces:
    """The places where a server looks for models, in the order of their rank.

    A path in the catalog is relative to its folder. A single file has its name as its path, as if its folder were given
    and had no other models. If two places have the same path, the first one counts.

    :param folders: the folders; the first one is the models folder, which gets downloads.
    :param files: the single files.
    :param cache: the cache of Hugging Face's tools, if nobody has given any places.
    """

    def __init__(
        self, folders: Sequence[Path], files: Sequence[Path] = (), *, cache: Path | None = None
    ) -> None:
        self.folders = tuple(folders)
        self._single = tuple(files)
        self.cache = cache

    @classmethod
    def default(cls) -> ModelPlaces:
        """Return the places of a server to which none were given."""
        return cls([default_models_folder()], cache=hub_cache_folder())

    @classmethod
    def checked(cls, models: Any) -> ModelPlaces:
        """Return the places that a user has given.

        :param models: a path, or a sequence of paths, of folders and GGUF files.
        :raises LMStudioValueError: if one is no path, does not exist, or is neither a folder nor a GGUF file.
        :raises LMStudioOSError: if one cannot be read.
        """
        given = [models] if isinstance(models, str | os.PathLike) else models
        if not isinstance(given, Sequence) or isinstance(given, bytes | bytearray) or not given:
            raise LMStudioValueError(
                f"models is the path of a folder or of a GGUF file, or a list of such paths, not {models!r:.80}"
            )
        places = list(dict.fromkeys(_path(each) for each in given))
        folders = [place for place in places if _is_folder(place)]
        return cls(folders, [place for place in places if place not in folders])

    @property
    def folder(self) -> Path | None:
        """The models folder; None if there are only files."""
        return self.folders[0] if self.folders else None

    @property
    def given(self) -> tuple[Path, ...]:
        """The folders and the files."""
        return self.folders + self._single

    def __str__(self) -> str:
        names = ", ".join(map(str, self.given[:_MOST_SHOWN]))
        more = len(self.given) - _MOST_SHOWN
        names += f" and {more} more" if more > 0 else ""
        return names if self.cache is None else f"{names} and Hugging Face's cache {self.cache}"

    def prepare(self) -> None:
        """Create the models folder if it is missing. Blocks."""
        for folder in self.folders[:1]:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                # The server is of use without the folder: the models may be elsewhere.
                logger.warning("The models folder %s cannot be created: %s", folder, error.strerror or error)

    def advice(self, key: str, domain: Literal["llm", "embedding"]) -> str:
        """Return what to do if there is no model of a kind in these places. Blocks.

        :param key: the key that was requested. The advice ends with a command that downloads it, if there is a folder.
        """
        kind = "model" if domain == "llm" else "embedding model"
        if self.folder is None:
            return f"There is no {kind} in the files that the server was given: {self}. Give it others, or a folder."
        where = f"the models folder {self}" if len(self.given) == 1 else str(self)
        advice = (
            f"There is no {kind} yet in {where}. Put GGUF files into the models folder, as "
            "publisher/repository/file.gguf, or download one:"
        )
        name, variant = split_variant(key.removeprefix(EMBEDDING_PREFIX))
        name = f"{name}:{variant}" if isinstance(variant, str) else name
        # Without the option, the command would download into the default folder.
        options = () if self.cache is not None else ("--models", str(self.folder.absolute()))
        return f"{advice}\n{pull_command(name, domain, options)}"

    def files(self) -> Iterator[Found]:
        """Yield the GGUF files of all places, each path once. Blocks."""
        places = [*map(gguf_files, self.folders), *self._single_files()]
        if self.cache is not None:
            places.append(cached_files(self.cache))
        if len(places) == 1:
            yield from places[0]
            return
        paths: set[str] = set()
        earlier: set[FileIdentity] = set()
        for place in places:
            # Within a folder, a file may have two paths. A file that an earlier place has, too, counts once.
            here = set()
            for path, file, problem in place:
                identity = _identity(file)
                if path not in paths and identity not in earlier:
                    paths.add(path)
                    here.add(identity)
                    yield path, file, problem
            earlier |= here

    def _single_files(self) -> Iterator[Iterator[Found]]:
        """Yield the single files of each folder, with the files beside them that belong to them."""
        names: dict[Path, list[str]] = {}
        for file in self._single:
            names.setdefault(file.parent.absolute(), []).append(file.name)
        prefixes: set[str] = {""}
        for folder, given in names.items():
            prefix = ""
            if len(names) > 1 or self.folders:
                # The files of each folder keep to themselves, because a model takes the projectors beside it.
                prefix = next(each for each in _prefixes(folder) if each not in prefixes)
                prefixes.add(prefix)
            yield _with_companions(folder, given, prefix)


def _path(given: Any) -> Path:
    if not isinstance(given, str | os.PathLike):
        raise LMStudioValueError(f"models has paths of folders and of GGUF files, not {given!r:.80}")
    text = os.fsdecode(given)
    if not text:
        raise LMStudioValueError('models has an empty path; write "." for the working directory')
    if "\0" in text:
        raise LMStudioValueError("models has a path with a zero byte, and no path has one")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise LMStudioValueError(f"models has the path {text}, but no home folder is known for it") from error


def _is_folder(place: Path) -> bool:
    """Return whether a place is a folder and no GGUF file.

    One look at the place, in the thread of the caller: it takes microseconds. Not by `os.stat`, because programs that
    forbid blocking calls in their event loop forbid that one, and a server is usually made there.

    :raises LMStudioValueError: if it is neither.
    """
    try:
        os.scandir(place).close()
    except NotADirectoryError:
        _check_file(place)
        return False
    except FileNotFoundError:
        raise _missing(place) from None
    except OSError as error:
        raise LMStudioOSError(f"The models in {place} cannot be read: {error.strerror or error}") from error
    return True


def _missing(place: Path) -> LMStudioValueError:
    if place.name.lower().endswith(_SUFFIX):
        return LMStudioValueError(f"There is no file {place}. Give the path of a GGUF file, or of a folder.")
    return LMStudioValueError(
        f"There is no folder {place}. Create it and put models there as publisher/repository/file.gguf, or give "
        "another one."
    )


def _check_file(place: Path) -> None:
    try:
        # Without waiting for the other end of a pipe.
        descriptor = os.open(place, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
            magic = file.read(len(_MAGIC)) if is_regular else b""
    except OSError as error:
        raise LMStudioOSError(f"The model {place} cannot be read: {error.strerror or error}") from error
    if magic != _MAGIC:
        raise LMStudioValueError(
            f"{place} is no GGUF file. This server loads only models in this format: give one whose name ends in "
            ".gguf, or a folder with some."
        )
    if not place.name.lower().endswith(_SUFFIX):
        raise LMStudioValueError(
            f"{place} is a GGUF file, but its name does not end in .gguf: rename it, or give a link to it with such a "
            "name."
        )


def _with_companions(folder: Path, given: Sequence[str], prefix: str) -> Iterator[Found]:
    """Yield given files of a folder, and those that belong to them: the other parts of their models, and projectors.

    :param prefix: the beginning of their paths in the catalog.
    """
    parts = {(part[0], part[2]) for name in given if (part := split_part(name[: -len(_SUFFIX)]))}
    missing = set(given)
    for path, file, problem in gguf_files(folder, recursive=False):
        stem = path[: -len(_SUFFIX)]
        part = split_part(stem)
        if path in missing or "mmproj" in stem.lower() or (part and (part[0], part[2]) in parts):
            missing.discard(path)
            yield prefix + path, file, problem
    for name in sorted(missing):
        # Its name begins with a dot, its folder cannot be listed, or it is gone.
        problem = "" if (folder / name).is_file() else "it does not exist any more"
        yield prefix + name, folder / name, problem


def _prefixes(folder: Path) -> Iterator[str]:
    """Yield beginnings for the paths of the files in a folder: its name, then longer and longer ones."""
    parts = [part for part in folder.parts if part != folder.anchor] or ["files"]
    for count in range(1, len(parts) + 1):
        yield "/".join(parts[-count:]) + "/"
    for number in itertools.count(2):
        yield f"{parts[-1]}-{number}/"


def _identity(file: Path) -> FileIdentity:
    try:
        status = file.stat()
    except OSError:
        return str(file)
    # Some network file systems have no inode numbers.
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(file)
