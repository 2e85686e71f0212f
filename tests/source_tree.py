"""The source text of a package, and the imports in it: read, never run."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import PurePosixPath
from typing import TypeAlias

import attrs

__all__ = [
    "PACKAGE",
    "Import",
    "Tree",
    "imports",
    "is_ours",
    "module_name",
    "statements",
    "targets",
    "top_level",
]

PACKAGE = "lmstudio_async"

Tree: TypeAlias = Mapping[str, str]
"""Path inside the package -> source text."""


@attrs.frozen
class Import:
    """One import statement, with the imported module spelled from the root."""

    path: str
    line: int
    importer: str
    target: str
    lazy: bool

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.importer} imports {self.target}"


def module_name(path: str) -> str:
    """Return the dotted name of a path inside the package."""
    parts = [PACKAGE, *PurePosixPath(path).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def top_level(module: str) -> str:
    """Return the top-level module or package that a module of ours belongs to; "" for the package itself."""
    return module.split(".")[1] if "." in module else ""


def is_ours(module: str) -> bool:
    return module.partition(".")[0] == PACKAGE


def statements(node: ast.AST, *, lazy: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Walk the nodes, each with a flag: whether it does not run when the module is imported."""
    for child in ast.iter_child_nodes(node):
        yield child, lazy
        yield from statements(child, lazy=lazy or is_lazy(child))


def is_lazy(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "TYPE_CHECKING"
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def imports(tree: Tree) -> Iterator[Import]:
    """Find every import of the tree: at module level, inside functions, for type checkers, and by `import_module`."""
    known = frozenset(module_name(path) for path in tree)
    for path, source in tree.items():
        yield from imports_of(path, source, known)


@cache
def imports_of(path: str, source: str, known: frozenset[str]) -> list[Import]:
    """Find every import of a file, given the names of all modules of the package."""
    importer = module_name(path)
    package = importer if path.endswith("__init__.py") else importer.rpartition(".")[0]
    return [
        Import(path, getattr(node, "lineno", 0), importer, target, lazy)
        for node, lazy in statements(ast.parse(source))
        for target in targets(node, package, known)
    ]


def targets(node: ast.AST, package: str, known: frozenset[str]) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=module, names=names, level=level):
            base = absolute("." * level + (module or ""), package)
            # `from . import _x` means the module _x if there is one, else a name in the package.
            modules = (f"{base}.{alias.name}" for alias in names)
            yield from dict.fromkeys(module if module in known else base for module in modules)
        case ast.Call(
            func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
            args=[ast.Constant(value=str(name)), *_],
        ):
            yield absolute(name, package)


def absolute(name: str, package: str) -> str:
    level = len(name) - len(name.lstrip("."))
    if not level:
        return name
    parents = package.split(".")
    return ".".join([*parents[: len(parents) - level + 1], *filter(None, [name[level:]])])
