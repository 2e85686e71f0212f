"""A rule of the architecture: a private member is used only in the module that defines it."""

from __future__ import annotations

import ast
from functools import cache

from tests.source_tree import Tree

__all__ = ["private_members_stay_in_their_module"]


def private_members_stay_in_their_module(tree: Tree) -> list[str]:
    """A member with an underscore can be changed without a look at other files."""
    defined = frozenset[str]().union(*map(private_names, tree.values()))
    return [
        f"{path}:{node.lineno}: {ast.unparse(node)} is private to another module"
        for path, source in tree.items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and node.attr in defined - private_names(source)
    ]


@cache
def private_names(source: str) -> frozenset[str]:
    """Find the private names that a module defines, or uses as members of its own or inherited classes."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
                | ast.Name(id=name, ctx=ast.Store())
                | ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name)
                | ast.Attribute(value=ast.Call(func=ast.Name(id="super")), attr=name)
                # In `__slots__`, or in `hasattr` for an object of another library.
                | ast.Constant(value=str(name))
            ):
                found.add(name)
    return frozenset(name for name in found if name.startswith("_") and not name.startswith("__"))
