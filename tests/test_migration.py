"""Names of the official package: each exists here too, or has a line in the README about its replacement.

`official_names.json` has these names; `tox -e official` compares the file with the package.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

import lmstudio_async
import lmstudio_sync

HERE = Path(__file__).parent
NAMES: dict[str, list[str]] = json.loads((HERE / "official_names.json").read_text(encoding="utf-8"))
SECTION = (
    (HERE.parent / "README.md")
    .read_text(encoding="utf-8")
    .split("\n## Coming from the official package\n")[1]
)
#: Names that are not here, as the README writes them: ``Name``, ``member`` of any class, ``Name.member`` or parameter.
GONE = {
    name
    for row in SECTION.split("\n| not here |")[1].split("\n\n")[0].splitlines()[2:]
    for name in re.findall(r"`([\w.]+)", row.split(" | ")[0])
}


def counterpart(name: str) -> Any:
    """Return the object with the same name here; for a session of the official package, the namespace of its kind."""
    session = re.fullmatch(r"_(Sync|Async)Session(\w+)", name)
    if session:
        name = session[1].removeprefix("Sync") + session[2] + "Namespace"
    package = lmstudio_async if hasattr(lmstudio_async, name) else lmstudio_sync
    return getattr(package, name, None)


def gone(name: str) -> Iterator[tuple[str, ...]]:
    """Yield the parts of this name that are not here, each in the ways in which the README may write it."""
    owner, _, member = name.partition(".")
    found = counterpart(owner)
    if found is None:
        yield (owner,)
        return
    if member:
        if attrs.has(found) and member in {field.name for field in attrs.fields(found)}:
            return
        if not hasattr(found, member):
            yield (member, name)
            return
        found = getattr(found, member)
    taken = inspect.signature(found).parameters if NAMES[name] else {}
    for parameter in NAMES[name]:
        if parameter not in taken:
            yield (parameter,)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_here_or_the_readme_has_a_line_about_it(name: str) -> None:
    assert [ways for ways in gone(name) if not GONE.intersection(ways)] == []


def test_the_readme_lists_no_existing_name_as_missing() -> None:
    ways = {way for name in NAMES for each in gone(name) for way in each}
    assert GONE - {"lmstudio.plugin"} <= ways


def test_there_are_as_many_names_as_the_official_package_has() -> None:
    assert sum("." not in name for name in NAMES) == 102
