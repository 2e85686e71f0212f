"""A partly downloaded file: hidden from the catalog, resumable, locked for one writer, verified at its end."""

from __future__ import annotations

import hashlib
import io
import os
import sys
from pathlib import Path
from typing import Final, Self

from lmstudio_async.embedded._hub._hub import HubFile

__all__ = ["PartialFile", "PartialFileInUse", "PresentFile"]

_CHUNK: Final = 1 << 20
#: Bytes that are read in one step. A cancellation waits for the end of the step.
_STEP: Final = 32 * _CHUNK
# Windows locks a range of bytes, which may be beyond the end of the file.
_FAR_AWAY: Final = 1 << 62


class PartialFileInUse(Exception):
    """Another process downloads the same file into the same folder."""


class PresentFile:
    """A file whose content is verified. All methods block: call them in threads, one at a time.

    :ivar size: the number of bytes read or written so far.
    """

    def __init__(self, path: Path, expected: HubFile) -> None:
        """Open the file.

        :raises OSError: the file does not exist, or cannot be read.
        """
        self.path = path
        self._expected = expected
        self._file = self._open()
        self._begin()

    def _open(self) -> io.FileIO:
        return self.path.open("rb", buffering=0)

    def _begin(self) -> None:
        self.size = 0
        if self._expected.sha256 is not None:
            self._digest = hashlib.sha256()
        else:
            # The Hub gives small files a git blob id: the hash of this header and their content.
            self._digest = hashlib.sha1(b"blob %d\0" % self._expected.size, usedforsecurity=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read_on(self) -> bool:
        """Read the next part of the file; return whether there may be more."""
        until = self.size + _STEP
        while self.size < until:
            data = self._file.read(_CHUNK)
            if not data:
                return False
            self._digest.update(data)
            self.size += len(data)
        return True

    def is_right(self) -> bool:
        """Whether the size and the hash of the bytes so far are the expected ones."""
        expected = self._expected
        return self.size == expected.size and self._digest.hexdigest() in (expected.sha256, expected.git_id)


class PartialFile(PresentFile):
    """The downloaded part of a file. Read all of it with ``read_on`` before writing more.

    :raises PartialFileInUse: another process writes to it.
    :raises OSError: the file cannot be created or opened.
    """

    def _open(self) -> io.FileIO:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # In append mode every write goes to the end of the file, regardless of the position of the last read.
        file = self.path.open("a+b", buffering=0)
        try:
            _lock(file, self.path)
            if file.seek(0, os.SEEK_END) > self._expected.size:
                file.truncate(0)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def write(self, data: bytes) -> None:
        """Append bytes."""
        view = memoryview(data)
        while view:
            # When the disk becomes full, a write stores only a part, and the next write raises the error.
            count = self._file.write(view)
            self._digest.update(view[:count])
            self.size += count
            view = view[count:]

    def restart(self) -> None:
        """Delete the content, and start again."""
        self._file.truncate(0)
        self._begin()

    def remove(self) -> None:
        """Close and delete the file."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def finish(self) -> None:
        """Flush the file to the disk, so that it survives a power failure, and close it. It can be moved then."""
        os.fsync(self._file.fileno())
        self._file.close()


def _lock(file: io.FileIO, path: Path) -> None:
    """Lock the file for this process. The system releases the lock when the file is closed or the process ends."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(_FAR_AWAY)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The process that had the lock before may have moved the file to its final place meanwhile.
            if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):
                raise PartialFileInUse
    except (BlockingIOError, PermissionError):
        raise PartialFileInUse from None
