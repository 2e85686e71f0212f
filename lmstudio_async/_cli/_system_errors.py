"""Errors of the operating system as sentences: the file, and what to do."""

from __future__ import annotations

import errno

__all__ = ["system_error_text"]

_FULL = "The disk is full, so {} cannot be written. Make room on it, or choose another place."
_FORBIDDEN = "{}: this user may not use it. Change its permissions, or choose another place."
_OPEN = (
    "This process may not open more files, such as {}. End other programs, or raise the limit (ulimit -n)."
)

#: ``{}`` stands for the file.
_TEXTS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: _FULL,
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EROFS: "{} is on a disk that cannot be written. Choose another place.",
    errno.ENOENT: "{}: there is no such file or folder. Correct the path.",
    errno.ENOTDIR: "{}: a part of this path is a file and no folder. Correct the path.",
    errno.EISDIR: "{} is a folder. Give the path of a file.",
    errno.ENAMETOOLONG: "The path {} is too long. Choose a shorter one.",
    errno.EMFILE: _OPEN,
    errno.ENFILE: _OPEN,
    errno.EIO: "The disk of {} has failed. See whether it is connected, and try again.",
}


def system_error_text(error: OSError) -> str:
    """Return the message of an error of the operating system, without its number.

    :param error: the error. If it has no number, its text is the message.
    """
    if not error.strerror:
        return str(error)
    file = error.filename
    if file is None and error.errno in (errno.EACCES, errno.EPERM):
        return "This user may not do this. Change the permissions of the files, or choose another place."
    if text := _TEXTS.get(error.errno or 0):
        return text.format("the output" if file is None else file)
    return error.strerror if file is None else f"{file}: {error.strerror}"
