"""`export_lazily`: a package imports a name at its first use, also from an archive; without its source, all at once."""

from __future__ import annotations

import compileall
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

import lmstudio_async

PACKAGE = textwrap.dedent(
    """
    from typing import TYPE_CHECKING

    from lmstudio_async._lazy_exports import export_lazily

    if TYPE_CHECKING or not export_lazily(__name__):
        from tiny._things import Thing as Thing
        from tiny._things import make_thing as make_thing
        from tiny._tools import (
            LIMIT as LIMIT,
        )
    """
)
MODULES = {
    "__init__.py": PACKAGE,
    "_things.py": "class Thing:\n    pass\n\n\ndef make_thing():\n    return Thing()\n",
    "_tools.py": "LIMIT = 3\n",
}
USE = """
import sys, tiny
early = sorted(name for name in sys.modules if name.startswith("tiny."))
print(early, tiny.__all__, tiny.LIMIT, tiny.make_thing().__class__, tiny.Thing.__module__, "Thing" in dir(tiny))
"""
LAZY = "[] ['LIMIT', 'Thing', 'make_thing'] 3 <class 'tiny.Thing'> tiny True"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    folder.mkdir()
    for name, source in MODULES.items():
        (folder / name).write_text(source, encoding="utf-8")
    return folder


def run(code: str, place: Path) -> str:
    """Run a program that finds the package in a folder or an archive."""
    library = Path(lmstudio_async.__file__).parent.parent
    code = f"import sys; sys.path[:0] = {[str(place), str(library)]}\n{code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip()


def test_name_is_imported_at_its_first_use(package: Path) -> None:
    assert run(USE, package.parent) == LAZY


def test_name_that_is_not_exported_is_an_attribute_error(package: Path) -> None:
    output = run("import tiny; tiny.Thign", package.parent)
    assert "AttributeError: module 'tiny' has no attribute 'Thign'" in output


def test_package_in_an_archive_exports_lazily(package: Path, tmp_path: Path) -> None:
    archive = tmp_path / "tiny.zip"
    with zipfile.ZipFile(archive, "w") as written:
        for name in MODULES:
            written.write(package / name, f"tiny/{name}")
    assert run(USE, archive) == LAZY


def test_package_without_source_imports_all_names(package: Path) -> None:
    compileall.compile_dir(package, quiet=1, legacy=True)
    for name in MODULES:
        (package / name).unlink()
    assert run("import tiny; print(tiny.LIMIT, tiny.make_thing())", package.parent).startswith(
        "3 <tiny._things"
    )
