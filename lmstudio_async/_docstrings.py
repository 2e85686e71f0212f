"""Docstrings of classes and functions, and the descriptions of parameters in them, in the three usual styles."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

__all__ = ["docstring_of", "parameter_docs"]

_FIELD = re.compile(r":param(?:eter)?\s+(?:[^:]*\s)?\*{0,2}(\w+)\s*:\s*(.*)")
_GOOGLE_SECTION = re.compile(r"(?:Args|Arguments|Parameters|Params):\s*")
_GOOGLE = re.compile(r"\*{0,2}(\w+)\s*(?:\(.*?\))?\s*:\s*(.*)")
_NUMPY_SECTION = re.compile(r"Parameters\s*")
_NUMPY = re.compile(r"\*{0,2}(\w+)\s*(?::.*)?")


def docstring_of(documented: Any) -> str:
    """Return the docstring that a class or function has of its own, "" if there is none.

    A ``__doc__`` can be any object. In Python 3.15 the ``__dict__`` of a dataclass holds an object that makes the text
    when ``__doc__`` is read from the class.
    """
    docstring = documented.__doc__
    return inspect.cleandoc(docstring) if isinstance(docstring, str) else ""


def parameter_docs(docstring: str) -> dict[str, str]:
    """Return the descriptions of parameters by name, from field lists, Google's style or numpy's style."""
    lines = inspect.cleandoc(docstring).splitlines()
    docs: dict[str, str] = {}
    for number, line in enumerate(lines):
        if _GOOGLE_SECTION.fullmatch(line):
            docs |= _entries(lines[number + 1 :], _GOOGLE, indented=True)
        elif _NUMPY_SECTION.fullmatch(line) and "".join(lines[number + 1 : number + 2]).startswith("---"):
            docs |= _entries(lines[number + 2 :], _NUMPY, indented=False)
        elif found := _FIELD.fullmatch(line.strip()):
            rest = list(_deeper(lines[number + 1 :], _indent(line), over_blank_lines=False))
            docs[found[1]] = _joined([found[2], *rest])
    return docs


def _entries(lines: list[str], entry: re.Pattern[str], *, indented: bool) -> dict[str, str]:
    """Return the entries at the top of the lines, each with the deeper lines below it."""
    if indented:
        lines = list(_deeper(lines, 0, over_blank_lines=True))
    depth = next((_indent(line) for line in lines if line.strip()), 0)
    docs: dict[str, str] = {}
    for number, line in enumerate(lines):
        if not line.strip() or _indent(line) > depth:
            continue
        found = entry.fullmatch(line.strip())
        if found is None or _is_underline(lines[number + 1 : number + 2]):
            break
        text = found[2] if entry.groups > 1 else ""
        if described := _joined([text, *_deeper(lines[number + 1 :], depth, over_blank_lines=False)]):
            docs[found[1]] = described
    return docs


def _deeper(lines: list[str], depth: int, *, over_blank_lines: bool) -> Iterator[str]:
    """Yield the first lines, as long as they are indented by more than the depth."""
    for line in lines:
        if _indent(line) <= depth and (line.strip() or not over_blank_lines):
            return
        yield line


def _is_underline(lines: list[str]) -> bool:
    return any(line.startswith("---") for line in lines)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip()) if line.strip() else 0


def _joined(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines if line.strip())
