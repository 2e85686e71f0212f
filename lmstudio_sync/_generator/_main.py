"""Writes all generated files, or compares them with the existing ones."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from ._classes import Writer
from ._module import Module
from ._package import convenience, package, twins
from ._prose import Prose
from ._rules import BY_HAND, CORE, FACADE, GenerateError

__all__ = ["complaints", "generate", "main"]


def generate(sources: Mapping[str, str], *, prose: Prose | None = None) -> dict[str, str]:
    """Return the text of every generated file, by name.

    :param sources: the core's modules: file name -> text.
    """
    prose = prose or Prose()
    modules = {
        name.removesuffix(".py"): Module(name.removesuffix(".py"), text) for name, text in sources.items()
    }
    home = {node.name: module.name for module in modules.values() for node in module.twins}
    made = {
        f"{module.name}.py": Writer(module, home, prose).write()
        for module in modules.values()
        if module.twins
    }
    made["_convenience.py"] = convenience(modules, home, prose)
    made["__init__.py"] = package(modules["__init__"], home)
    made["_twins.py"] = twins(home)
    made["py.typed"] = ""
    if prose.unused:
        raise GenerateError(f"no docstring of the core has the phrases {sorted(prose.unused)}")
    return made


def complaints(made: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Compare the generated files with the existing ones, and return a complaint for each that differs."""
    names = sorted({*made, *found} - BY_HAND)
    return [
        f"{name}: missing"
        if name not in found
        else f"{name}: an orphan"
        if name not in made
        else f"{name}: differs"
        for name in names
        if made.get(name) != found.get(name)
    ]


def read(folder: Path) -> dict[str, str]:
    files = [*folder.glob("*.py"), *folder.glob("py.typed")]
    return {path.name: path.read_text(encoding="utf-8") for path in files}


def main(arguments: list[str]) -> int:
    """Write the files, or check them."""
    here = Path(__file__).parent.parent
    made = generate({name: text for name, text in read(here.parent / CORE).items() if name.endswith(".py")})
    found = complaints(made, read(here))
    if "--check" in arguments:
        for each in found:
            sys.stderr.write(f"{FACADE}/{each}. Run: python {FACADE}/_generate.py\n")
        return 1 if found else 0
    for each in found:
        path = here / each.partition(":")[0]
        if path.name in made:
            path.write_text(made[path.name], encoding="utf-8")
        else:
            path.unlink()
        sys.stdout.write(f"{each}\n")
    return 0
