"""Errors of the operating system: a sentence with the file and with advice, and no number."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from lmstudio_async._cli._system_errors import system_error_text
from tests.cli.commands import run

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other errors")


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_errors_have_the_file_and_no_number(number: int) -> None:
    text = system_error_text(OSError(number, os.strerror(number), "/some/file"))
    assert "/some/file" in text
    assert "Errno" not in text
    assert "Errno" not in system_error_text(OSError(number, os.strerror(number)))


def test_a_full_disk_is_named() -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/some/file")
    assert system_error_text(full) == (
        "The disk is full, so /some/file cannot be written. Make room on it, or choose another place."
    )


def test_an_error_of_a_library_keeps_its_text() -> None:
    assert system_error_text(OSError("the socket is closed")) == "the socket is closed"


@posix
def test_a_schema_that_is_missing_is_a_wrong_argument(tmp_path: Path) -> None:
    for file, reason in ((tmp_path / "none", "does not exist"), (tmp_path, "is a directory")):
        failed = run("run", "tiny", "Hi", "--json-schema", str(file))
        assert failed.code == 2
        assert f"{file}" in failed.err
        assert reason in failed.err
        assert "Errno" not in failed.err


@posix
def test_an_image_that_is_missing_is_named(tmp_path: Path) -> None:
    file = tmp_path / "none.png"
    failed = run("run", "tiny", "Hi", "--image", str(file), "--host", "embedded")
    assert failed.code != 0
    assert "Errno" not in failed.err
