"""Errors as values: their attributes survive copying, pickling, and wrapping by a library."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import lmstudio_async as lms
from lmstudio_async import errors

CARRIED = (
    "content",
    "server_error",
    "title",
    "display_data",
    "candidates",
    "identifier",
    "instance_reference",
    "mismatches",
)
CLASSES = [getattr(errors, name) for name in errors.__all__]


def carrying(kind: type[lms.LMStudioError]) -> lms.LMStudioError:
    """Return an error with a value in each of its attributes."""
    if issubclass(kind, lms.LMStudioServerError):
        data = {"code": "generic.pathNotFound", "availablePathsSample": ["qwen3-4b"]}
        error: lms.LMStudioError = kind("half-way", {"title": "Not found", "displayData": data})
    elif issubclass(kind, lms.LMStudioConfigMismatchError):
        error = kind(
            "half-way",
            identifier="mine",
            instance_reference="r1",
            mismatches={"context_length": (8192, 4096)},
        )
    else:
        error = kind("half-way")
    error.content = "Half of an ans"
    error.add_note("a note")
    return error


def carried(error: Any) -> dict[str, Any]:
    return {name: getattr(error, name) for name in CARRIED if hasattr(error, name)}


class TaskError(Exception):
    """An error that a library such as Ray raises in one process for an error of another: it reads attributes of the cause.

    It is an instance of the cause's class too, but the ``__init__`` of that class never ran.
    """

    def __init__(self, cause: BaseException) -> None:
        self.cause = cause

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cause, name)


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_wrapped_by_a_library_keeps_its_attributes(kind: type[lms.LMStudioError]) -> None:
    error = carrying(kind)
    wrapped: Any = type("Wrapped", (TaskError, kind), {})(error)

    with pytest.raises(kind) as caught:
        raise wrapped
    assert carried(caught.value) == carried(error)
    assert caught.value.content == "Half of an ans"


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))]
)
def test_a_copy_of_an_error_keeps_its_attributes(kind: type[lms.LMStudioError], copied: Any) -> None:
    error = carrying(kind)
    other = copied(error)

    assert type(other) is kind
    assert (str(other), other.args, other.__notes__) == (str(error), error.args, ["a note"])
    assert carried(other) == carried(error)


@pytest.mark.parametrize("kind", CLASSES)
def test_a_new_error_has_empty_content(kind: type[lms.LMStudioError]) -> None:
    assert kind("no news").content == ""
