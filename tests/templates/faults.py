"""Cases of tests, and the known faults: a listed case that passes is a failure, so that the list shrinks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

__all__ = ["FAULTS", "case"]

Faults = Mapping[str, tuple[str, str]]

_UNKNOWN = "Reasoning in marks that the engine does not know is returned as text, with tools or without."
_PLAIN = "words+tools dict+tools json+tools code+tools list+tools markup+tools"

_ONE_CALL = "The engine's parser for this template does not support a second call."
#: Template -> cases that fail, and why: the engine's own parser or grammar stands in the way.
FAULTS: Faults = {
    "Apertus-8B-Instruct": (f"{_PLAIN} call calls next", _UNKNOWN),
    "GigaChat3-10B-A1.8B": ("call", "The engine drops the mark before a call if it is a control token."),
    "MiniMax-M1": ("calls", _ONE_CALL),
    "MiniMax-M2": ("calls", _ONE_CALL),
    "llama-cpp-deepseek-r1": (
        "call calls",
        "The engine's parser gives up on a call in the form of the template.",
    ),
    "meetkai-functionary-medium-v3.2": ("calls", _ONE_CALL),
    "upstage-Solar-Open-100B": (f"words dict {_PLAIN} call calls next", _UNKNOWN),
}


def case(template: str, name: str, *values: Any) -> Any:
    """Make a parameter set: a template, the name of the case, and more values.

    All cases of a template run in one process, so that its model is loaded once.
    """
    marks: list[Any] = [pytest.mark.xdist_group(template)]
    names, reason = FAULTS.get(template, ("", ""))
    if name in names.split():
        marks.append(pytest.mark.xfail(strict=True, reason=reason))
    return pytest.param(template, *values, id=f"{template}-{name}", marks=marks)
