"""Checks of many cases in one test, which reports every case that fails and not only the first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import pytest

__all__ = ["Failures"]


class Failures:
    """The failures of a test that loops over cases. The end of the block raises all of them in one group.

    ::

        with Failures() as failures:
            for kind in KINDS:
                with failures.of(kind.__name__):
                    assert read(kind, {}) == kind()
    """

    def __init__(self) -> None:
        self._errors: list[BaseException] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> None:
        if exc is None and self._errors:
            raise BaseExceptionGroup("these cases failed", self._errors)

    @contextmanager
    def of(self, name: object) -> Iterator[None]:
        """Keep an error of this block for the end of the test, with the name of the case as a note."""
        try:
            yield
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - all of them are raised at the end
            error.add_note(f"in the case of {name}")
            self._errors.append(error)
