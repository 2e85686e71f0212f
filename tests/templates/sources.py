"""The chat templates and vocabularies that llama.cpp is tested with: `tox -e templates` downloads their archive."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

__all__ = ["unpack"]

_FOLDER = "/vendor/llama.cpp/models/"


def unpack(target: Path) -> Path:
    """Unpack the vocabularies of the archive, and the chat templates in a folder ``templates`` beside them.

    :param target: folder for the files.
    :return: the same folder.
    """
    (archive,) = Path(os.environ["TEMPLATES_ARCHIVE"]).glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        for member in tar:
            place = target / member.name.partition(_FOLDER)[2]
            content = tar.extractfile(member) if place != target else None
            if content is not None:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content.read())
    return target
