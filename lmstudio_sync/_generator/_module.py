"""Modules of the core, and names in annotations."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from ._rules import CORE

__all__ = ["Method", "Module", "names_in"]

Method: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


class Module:
    """A module of the core: its text, and where its names come from."""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source
        self.tree = ast.parse(source)
        self.lines = source.splitlines()
        self._encoded = source.encode().splitlines(keepends=True)
        self.origins: dict[str, str] = {}
        self.typing_only: set[str] = set()
        self.variables: dict[str, ast.Call] = {}
        self.public: list[str] = []
        self._read(self.tree.body)
        self.twins = [
            node
            for node in self.tree.body
            if isinstance(node, ast.ClassDef) and node.name.startswith("Async") and node.name in self.public
        ]

    def _read(self, body: Iterable[ast.stmt], *, typing_only: bool = False) -> None:
        for node in body:
            match node:
                case ast.ImportFrom(module=str(module), names=names):
                    self.origins |= {alias.asname or alias.name: module for alias in names}
                    self.typing_only |= {alias.name for alias in names if typing_only}
                    self.public += [alias.name for alias in names if alias.asname == alias.name]
                case ast.If(
                    test=ast.Name(id="TYPE_CHECKING") | ast.BoolOp(values=[ast.Name(id="TYPE_CHECKING"), _])
                ):
                    self._read(node.body, typing_only=True)
                case ast.ClassDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                    self.origins[name] = f"{CORE}.{self.name}"
                case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                    self.public = ast.literal_eval(value)
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id="TypeVar"))):
                    assert isinstance(node.value, ast.Call)
                    self.variables[name] = node.value
                case ast.Assign(targets=[ast.Name(id=name)]):
                    self.origins[name] = f"{CORE}.{self.name}"

    def text(self, node: ast.AST) -> str:
        """Return the source text of a node, on one line."""
        text = re.sub(r"\s*\n\s*", " ", self._segment(node))
        return re.sub(r",? ?([\])])", r"\1", re.sub(r"([\[(]) ", r"\1", text))

    def may_be_core(self, node: ast.AST) -> bool:
        """Return whether an annotation may stand for objects of the core, which need their twins."""
        return any(name.startswith("Async") or self.is_open_variable(name) for name in names_in(node))

    def is_open_variable(self, name: str) -> bool:
        """Return whether a type variable may stand for a class of the core."""
        if name not in self.variables:
            return False
        bounds = [keyword.value for keyword in self.variables[name].keywords if keyword.arg == "bound"]
        return not bounds or any("Async" in ast.unparse(bound) for bound in bounds)

    def docstring(self, node: ast.ClassDef | Method) -> str | None:
        """Return the docstring as it is written, quotes included."""
        if ast.get_docstring(node, clean=False) is None:
            return None
        return self._segment(node.body[0])

    def _segment(self, node: ast.AST) -> str:
        """Return the source text of a node. `ast.get_source_segment` would split the whole source each time, which is slow."""
        assert isinstance(node, ast.expr | ast.stmt | ast.arg)
        assert node.end_lineno is not None
        lines = self._encoded[node.lineno - 1 : node.end_lineno]
        # Columns are counted in bytes. Cut the end first, because it may be in the same line.
        lines[-1] = lines[-1][: node.end_col_offset]
        lines[0] = lines[0][node.col_offset :]
        return b"".join(lines).decode()


def names_in(node: ast.AST | None) -> Iterator[str]:
    """Find the names in an annotation, also in one that is quoted."""
    for each in ast.walk(node) if node else ():
        if isinstance(each, ast.Name):
            yield each.id
        elif isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield from names_in(unquoted(each.value))


def unquoted(text: str) -> ast.AST | None:
    """Parse a quoted annotation; return None if the text is no expression."""
    try:
        return ast.parse(text, mode="eval")
    except SyntaxError:
        return None
