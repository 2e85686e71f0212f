"""A rule of the architecture: no public function is an async generator."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.source_tree import Tree

__all__ = ["no_public_async_generators"]


def no_public_async_generators(tree: Tree) -> list[str]:
    """An abandoned async generator cleans up late or never (PEP 789): iterators are classes."""
    found = []
    for path, source in tree.items():
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.AsyncFunctionDef) or is_private(node.name):
                continue
            is_context_manager = any("contextmanager" in ast.unparse(each) for each in node.decorator_list)
            if not is_context_manager and any(isinstance(each, ast.Yield) for each in own_nodes(node)):
                found.append(
                    f"{path}:{node.lineno}: {node.name} is an async generator: write a class with __anext__"
                )
    return found


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """Walk a function's body, but not the functions inside it."""
    for child in ast.iter_child_nodes(function):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from own_nodes(child)
