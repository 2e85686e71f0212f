"""A file that is being downloaded: out of the catalog's sight, resumable, one writer at a time, checked at its end."""

from __future__ import annotations

import hashlib
import io
import os
import sys
from pathlib import Path
from typing import Final, Self

from lmstudio_async.embedded._hub import HubFile

__all__ = ["PartialFile", "PartialFileInUse", "PresentFile"]

_CHUNK: Final = 1 << 20
#: What is read in one step: so long does a cancellation wait.
_STEP: Final = 32 * _CHUNK
# Windows locks ranges, also such as no file has.
_FAR_AWAY: Final = 1 << 62


class PartialFileInUse(Exception):
    """Another process downloads the same file into the same folder."""


class PresentFile:
    """A file whose content is checked. Everything blocks: use it in threads, one call at a time.

    :ivar size: the bytes that were read, or written.
    """

    def __init__(self, path: Path, expected: HubFile) -> None:
        """Open it.

        :raises OSError: there is none, or it cannot be read.
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
            # Small files are named by git: by this and their content.
            self._digest = hashlib.sha1(b"blob %d\0" % self._expected.size, usedforsecurity=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read_on(self) -> bool:
        """Read some more of what is there; whether there may be even more."""
        until = self.size + _STEP
        while self.size < until:
            data = self._file.read(_CHUNK)
            if not data:
                return False
            self._digest.update(data)
            self.size += len(data)
        return True

    def is_right(self) -> bool:
        """Whether these are all the bytes, and the right ones."""
        expected = self._expected
        return self.size == expected.size and self._digest.hexdigest() in (expected.sha256, expected.git_id)


class PartialFile(PresentFile):
    """What has come of a file. All that is there must be read with ``read_on`` before more is written.

    :raises PartialFileInUse: another process writes to it.
    :raises OSError: the disk does not let us.
    """

    def _open(self) -> io.FileIO:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Every write is at the end, wherever was read.
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
        """Add bytes."""
        view = memoryview(data)
        while view:
            # A disk that gets full takes a part, and says so at the next attempt.
            count = self._file.write(view)
            self._digest.update(view[:count])
            self.size += count
            view = view[count:]

    def restart(self) -> None:
        """Forget what is there."""
        self._file.truncate(0)
        self._begin()

    def remove(self) -> None:
        """Give it up."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def finish(self) -> None:
        """Have the disk keep it, whatever becomes of the power, and close it: it can be moved now."""
        os.fsync(self._file.fileno())
        self._file.close()


def _lock(file: io.FileIO, path: Path) -> None:
    """Lock it for this process. The lock goes when the file is closed, or the process ends, however that is."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(_FAR_AWAY)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had the lock may have moved the file to its place in the meantime.
            if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):
                raise PartialFileInUse
    except (BlockingIOError, PermissionError):
        raise PartialFileInUse from None
