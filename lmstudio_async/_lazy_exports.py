"""Public names of a package that are imported at their first use."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

__all__ = ["export_lazily"]


def export_lazily(package: str) -> bool:
    """Let a package import its public names at their first use, and give it the ``__all__`` of these names.

    The one list of the names is the package's own source: its imports ``from X import Y as Y``, which type checkers
    read too. They stand below ``if TYPE_CHECKING or not export_lazily(__name__):``.

    :param package: name of the package that is being imported.
    :return: False if the source of the package cannot be read, as in a frozen program. Then the caller imports all names.
    """
    module = sys.modules[package]
    try:
        # Not `get_source`, which imports `tokenize` and `re`.
        source = module.__loader__.get_data(module.__file__).decode("utf-8")  # type: ignore[union-attr]
    except (AttributeError, OSError, UnicodeDecodeError):
        return False
    origins = dict(_exports(source))

    def __getattr__(name: str) -> Any:  # noqa: N807 - Python looks it up by this name in the module
        origin = origins.get(name)
        if origin is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        is_own = origin.startswith(f"{package}.")
        # A name of another package comes from there, so that both have the same object.
        value = getattr(import_module(origin if is_own else origin.partition(".")[0]), name)
        if is_own and isinstance(value, type) and not value.__annotations__:
            # Tracebacks show the public module. Annotations can be resolved only in the module that has them.
            value.__module__ = package
        setattr(module, name, value)
        return value

    def __dir__() -> list[str]:  # noqa: N807 - as above
        return sorted({*vars(module), *origins})

    vars(module).update(__getattr__=__getattr__, __dir__=__dir__, __all__=sorted(origins, key=_order))
    return True


def _exports(source: str) -> Iterator[tuple[str, str]]:
    """Find the names that a package exports, and their modules."""
    # Not with `ast`: it takes longer than all the rest of the import.
    origin = ""
    for line in source.splitlines():
        match line.rstrip(",").split():
            case ["from", origin, "import", "("]:
                pass
            case ["from", origin, "import", name, "as", alias] if name == alias:
                yield name, origin
            case [name, "as", alias] if name == alias:
                # In the parentheses that a formatter puts around a name whose line is too long.
                yield name, origin


def _order(name: str) -> tuple[int, str]:
    """Sort as linters sort ``__all__``: constants, classes, functions."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2, name)
