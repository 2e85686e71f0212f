"""Deletion of a downloaded model: its files, and the folders that are empty without them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lmstudio_async._protocol._errors import server_error
from lmstudio_async.embedded._catalog._catalog import Catalog, CatalogEntry
from lmstudio_async.errors import LMStudioDomainMismatchError, LMStudioServerError

__all__ = ["delete_files", "model_to_delete"]


def model_to_delete(catalog: Catalog, key: str) -> CatalogEntry:
    """Return the one model that a key means. Blocks.

    :raises LMStudioModelNotFoundError: no model has this key.
    :raises LMStudioServerError: the key means several models, or a model that is not in a models folder.
    """
    try:
        entry, meant = catalog.resolve(key, "llm")
    except LMStudioDomainMismatchError:
        entry, meant = catalog.resolve(key, "embedding")
    if meant is not None:
        raise server_error(
            f'"{key}" means several models: {", ".join(meant[:10])}.', "Give the key of the one to delete."
        )
    _root_of(catalog, entry)
    return entry


def delete_files(catalog: Catalog, entry: CatalogEntry) -> int:
    """Delete the files of a model, and return the number of bytes that this frees. Blocks.

    A projector stays as long as another model uses it. Of a link, only the link is deleted.

    :raises LMStudioServerError: another server has loaded the model, or a file cannot be deleted.
    """
    root = _root_of(catalog, entry)
    files = list(entry.parts)
    users = [other for other in catalog.scan() if other.projector == entry.projector]
    if entry.projector is not None and len(users) == 1:
        files.append(entry.projector)
    for file in files:
        if _is_shared(file):
            raise server_error(
                f'"{entry.model_key}" is loaded by another server of this machine: {file} is in use.',
                "Unload it there, or end that server.",
            )
    freed = 0
    # The first part is deleted last: without it, the rest would be no model, and could not be deleted by its key.
    for file in reversed(files):
        try:
            freed += 0 if file.is_symlink() else file.stat().st_size
            file.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise server_error(
                f'"{entry.model_key}" cannot be deleted: {error.strerror or error}: {file}',
                "Unload it wherever it is loaded, and see whether this user may write to the folder.",
            ) from error
    _remove_empty_folders(entry.file.parent, root)
    return freed


def _is_shared(file: Path) -> bool:
    """Return whether a worker process has loaded a file. Of a link, only the link would be deleted."""
    if sys.platform == "win32" or file.is_symlink():
        return False
    import fcntl

    try:
        number = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # Closing the file unlocks it.
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # the file system has no locks
        return False
    finally:
        os.close(number)
    return False


def _root_of(catalog: Catalog, entry: CatalogEntry) -> Path:
    """Return the models folder that a model may be deleted from.

    :raises LMStudioServerError: it is elsewhere.
    """
    place = Path(os.path.realpath(entry.file.parent))
    for folder in catalog.places.folders:
        root = Path(os.path.realpath(folder))
        if entry.file.is_relative_to(root):
            if place.is_relative_to(root):
                return root
            raise _not_here(entry, "behind a link in the models folder", f"Delete it there: {place}")
    cache = None if catalog.places.cache is None else Path(os.path.realpath(catalog.places.cache))
    if cache is not None and place.is_relative_to(cache):
        name = place.relative_to(cache).parts[0].removeprefix("models--").replace("--", "/")
        raise _not_here(
            entry, "in the cache of Hugging Face's tools", f"Delete it with them: hf cache rm model/{name}"
        )
    raise _not_here(entry, "a single file that the server was given", f"Delete the file itself: {entry.file}")


def _not_here(entry: CatalogEntry, where: str, remedy: str) -> LMStudioServerError:
    return server_error(
        f'"{entry.model_key}" is {where}, and this server deletes only models of its own folders.', remedy
    )


def _remove_empty_folders(folder: Path, root: Path) -> None:
    while folder != root:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
