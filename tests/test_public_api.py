"""The public API: every public name exists, names its public module, is documented, and is cheap to import."""

from __future__ import annotations

import ast
import enum
import inspect
import os
import re
import subprocess
import sys
import sysconfig
import textwrap
import typing
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest

import lmstudio_async
import lmstudio_async.embedded
import lmstudio_async.testing
import lmstudio_async.testing.plugin
import lmstudio_sync

PACKAGE = "lmstudio_async"
ROOT = Path(__file__).parent.parent
INSTALLED = Path(lmstudio_async.__file__).parent
PUBLIC: list[str] = list(getattr(lmstudio_async, "__all__", ()))

#: Packages of our classes; the samples at the end of this file count as ours too.
OURS = {PACKAGE, "lmstudio_sync", __name__.split(".")[0]}

both_packages = pytest.mark.parametrize(
    "package", [lmstudio_async, lmstudio_sync], ids=lambda each: each.__name__
)

#: Names of both packages; a name that they share is checked once.
NAMES = [(lmstudio_async, name) for name in PUBLIC]
NAMES += [(lmstudio_sync, name) for name in getattr(lmstudio_sync, "__all__", ()) if name not in PUBLIC]
every_name = pytest.mark.parametrize(
    ("package", "name"), [pytest.param(*each, id=f"{each[0].__name__}.{each[1]}") for each in NAMES]
)

#: Modules whose import costs more than that of all of ours.
HEAVY = ["anyio", "asyncio", "attr", "attrs", "cattrs", "httpx", "httpx_ws", "trio", "xllamacpp"]


def own_classes(cls: type) -> list[type]:
    """Return the class and those of its bases that are ours."""
    return [base for base in cls.__mro__ if is_ours(base)]


def is_ours(cls: type) -> bool:
    return cls.__module__.split(".")[0] in OURS


def public_members(cls: type) -> Iterator[tuple[str, Any]]:
    """Find the methods and properties that are written in our classes, each as its own class has it."""
    seen: set[str] = set()
    for base in own_classes(cls):
        for name, member in vars(base).items():
            if not name.startswith("_") and name not in seen:
                seen.add(name)
                yield name, member


def documented(field: str, docstring: str | None) -> list[str]:
    """Find the names in a field list: those of ``:param name:`` or ``:raises Name:``."""
    pattern = rf"^[ \t]*:{field}[ \t]+\\*?\*{{0,2}}([\w.]+):"
    return re.findall(pattern, docstring or "", flags=re.MULTILINE)


def parameters(function: Callable[..., Any]) -> list[str]:
    """Return the names that a caller may pass; a leading underscore means that only this package does."""
    names = [name for name in inspect.signature(function).parameters if not name.startswith("_")]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def only_we_can_make(cls: type) -> bool:
    """Return whether the constructor needs an object that users cannot make or name, as those of handles do."""
    names = getattr(inspect.getattr_static(cls, "__init__"), "__globals__", {})
    for parameter in inspect.signature(cls).parameters.values():
        if parameter.default is parameter.empty:
            needed = [names.get(word) for word in re.findall(r"\w+", str(parameter.annotation))]
            classes = [
                each for each in needed if isinstance(each, type) and is_ours(each) and each is not cls
            ]
            if any(each.__name__ not in PUBLIC or only_we_can_make(each) for each in classes):
                return True
    return False


def raised(function: Callable[..., Any]) -> set[str]:
    """Find the errors of ours that are raised in the function's own text."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):  # made by attrs, or in C: there is no text
        return set()
    nodes = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and node.exc]
    names = [ast.unparse(each.func if isinstance(each, ast.Call) else each) for each in nodes]
    return {name.rpartition(".")[2] for name in names if name.rpartition(".")[2].startswith("LMStudio")}


def is_documented_error(name: str, documented_names: list[str]) -> bool:
    """Return whether an error is documented, by its own name or by that of a base class."""
    error = getattr(lmstudio_async, name, None)
    kinds = [name] if error is None else [base.__name__ for base in error.__mro__]
    return any(kind in documented_names for kind in kinds)


def undocumented(
    where: str, function: Callable[..., Any], docstring: str | None, *, internal: bool = False
) -> Iterator[str]:
    """Compare the parameters and the errors of a function with its docstring."""
    if not docstring:
        yield f"{where} has no docstring"
        return
    taken, described = parameters(function), documented("param", docstring)
    if not internal:
        yield from (f"{where} does not document :param {name}:" for name in taken if name not in described)
    yield from (
        f"{where} documents {name}, which it does not take" for name in described if name not in taken
    )
    errors = documented("raises", docstring)
    yield from (
        f"{where} does not document :raises {e}:"
        for e in raised(function)
        if not is_documented_error(e, errors)
    )
    yield from (f"{where} documents {e}, which is not public" for e in errors if not is_public_error(e))


def is_public_error(name: str) -> bool:
    error = getattr(lmstudio_async, name, None)
    return isinstance(error, type) and issubclass(error, Exception)


def undocumented_constructor(name: str, cls: type) -> Iterator[str]:
    """Compare the constructor with the docstrings of the class and of its bases: a subclass documents only its additions."""
    made_by_us = any("__init__" in vars(base) for base in own_classes(cls))
    if not made_by_us or issubclass(cls, enum.Enum) or getattr(cls, "_is_protocol", False):
        return
    docstring = "\n".join(textwrap.dedent(base.__doc__ or "") for base in own_classes(cls))
    makers = [getattr(cls, each) for each in ("__init__", "__attrs_post_init__") if hasattr(cls, each)]
    yield from undocumented(name, makers[0], docstring, internal=only_we_can_make(cls))
    for maker in makers[1:]:
        missing = [e for e in raised(maker) if not is_documented_error(e, documented("raises", docstring))]
        yield from (f"{name} does not document :raises {error}:" for error in missing)


def complaints(name: str, thing: Any) -> Iterator[str]:
    """Yield the faults in the documentation of one public name and of its members."""
    if not isinstance(thing, type):
        if inspect.isroutine(thing):
            yield from undocumented(name, thing, inspect.getdoc(thing))
        return
    if not vars(thing).get("__doc__"):
        yield f"{name} has no docstring"
    if typing.is_typeddict(thing):
        return
    yield from undocumented_constructor(name, thing)
    for member_name, member in public_members(thing):
        where, found = f"{name}.{member_name}", getattr(thing, member_name)
        if inspect.isroutine(found):
            yield from undocumented(where, found, inspect.getdoc(found))
        elif isinstance(member, property | cached_property) and not inspect.getdoc(member):
            yield f"{where} has no docstring"


def in_a_fresh_interpreter(code: str) -> list[str]:
    """Run code in a new interpreter, with the package under test, and return the words that it prints."""
    environment = os.environ | {"PYTHONPATH": str(INSTALLED.parent)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def sort_key(name: str) -> tuple[int, str]:
    """Order names as ruff does: CONSTANTS, then Classes, then functions."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2, name)


@both_packages
def test_all_is_sorted_and_names_nothing_twice(package: ModuleType) -> None:
    assert package.__all__
    assert sorted(set(package.__all__), key=sort_key) == package.__all__


@both_packages
def test_all_matches_the_names_that_type_checkers_see(package: ModuleType) -> None:
    assert package.__file__ is not None
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree))
    imported = {
        alias.name
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name == alias.asname
    }
    defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    defined |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    assert imported <= set(package.__all__)
    assert set(package.__all__) <= imported | defined


@both_packages
def test_every_error_is_public(package: ModuleType) -> None:
    from lmstudio_async import errors

    assert set(errors.__all__) <= set(package.__all__)


@both_packages
def test_star_import_and_dir_have_every_name(package: ModuleType) -> None:
    namespace: dict[str, Any] = {}
    exec(f"from {package.__name__} import *", namespace)
    assert set(package.__all__) <= set(namespace)
    assert set(package.__all__) <= set(dir(package))


@both_packages
def test_a_name_that_does_not_exist_is_an_attribute_error(package: ModuleType) -> None:
    misspelt = "AsyncCleint"
    with pytest.raises(AttributeError, match=misspelt):
        getattr(package, misspelt)


@every_name
def test_a_public_name_has_a_public_module_and_qualified_name(package: ModuleType, name: str) -> None:
    thing = getattr(package, name)
    if isinstance(thing, type) or inspect.isroutine(thing):
        # Names that only annotations need are loaded when the annotations are resolved.
        public = {} if isinstance(thing, type) else {each: getattr(package, each) for each in package.__all__}
        typing.get_type_hints(thing, localns=public)
        # An object with annotations keeps the module where they can be resolved; all others name the public package.
        assert thing.__annotations__ or thing.__module__ == package.__name__
        assert thing.__qualname__ == name


@every_name
def test_a_public_name_is_documented(package: ModuleType, name: str) -> None:
    found = list(complaints(name, getattr(package, name)))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", lmstudio_async.testing.__all__)
def test_a_public_name_of_the_testing_package_is_documented(name: str) -> None:
    assert list(complaints(name, getattr(lmstudio_async.testing, name))) == []


#: `ServerLimits` describes each field below the field.
OF_THE_SERVER = set(getattr(lmstudio_async.embedded, "__all__", ())) - {"ServerLimits"}


@pytest.mark.parametrize("name", sorted(OF_THE_SERVER))
def test_a_public_name_of_the_embedded_package_is_documented(name: str) -> None:
    assert list(complaints(name, getattr(lmstudio_async.embedded, name))) == []


@pytest.mark.parametrize("name", lmstudio_async.testing.plugin.__all__)
def test_a_fixture_is_documented(name: str) -> None:
    assert inspect.getdoc(getattr(lmstudio_async.testing.plugin, name))


@both_packages
def test_importing_the_package_imports_nothing_heavy(package: ModuleType) -> None:
    name = package.__name__
    code = f"import sys; before = set(sys.modules); import {name}; print(*set(sys.modules) - before)"
    imported = {each.split(".")[0] for each in in_a_fresh_interpreter(code)}
    assert name in imported
    assert imported.isdisjoint(HEAVY)


@both_packages
def test_an_error_can_be_named_without_importing_anything_heavy(package: ModuleType) -> None:
    name = package.__name__
    code = f"import sys; before = set(sys.modules); import {name}; {name}.LMStudioError; print(*set(sys.modules) - before)"
    imported = {each.split(".")[0] for each in in_a_fresh_interpreter(code)}
    assert name in imported
    assert imported.isdisjoint(HEAVY)


@pytest.mark.skipif(
    "TOX_ENV_NAME" not in os.environ, reason="from a checkout there is nothing installed to test"
)
def test_tox_tests_the_installed_wheel() -> None:
    assert INSTALLED.parent == Path(sysconfig.get_path("purelib"))
    assert in_a_fresh_interpreter(f"import {PACKAGE}; print({PACKAGE}.__file__)") == [lmstudio_async.__file__]


@pytest.mark.parametrize("package", sorted(path.parent.name for path in ROOT.glob("lmstudio_*/__init__.py")))
def test_every_package_is_installed_with_its_py_typed(package: str) -> None:
    assert (INSTALLED.parent / package / "py.typed").is_file()


class Sample:
    """A class to try the checks on.

    :param size: in bytes.
    """

    def __init__(self, size: int, _hidden: int = 0) -> None:
        self.size = size

    def good(self, *names: str, limit: int) -> None:
        """Do something.

        :param names: any names.
        :param limit: how many.
        :raises LMStudioValueError: if the limit makes no sense.
        """
        raise lmstudio_async.LMStudioConfigError(f"{names} {limit}")

    @property
    def also_good(self) -> int:
        """The size."""
        return self.size


class BadSample(Sample):
    """A subclass with too little documentation.

    :param gone: a parameter that was removed.
    """

    def __init__(self, size: int, colour: str) -> None:
        super().__init__(size)
        self.colour = colour

    def silent(self) -> None:
        if self.size:
            raise lmstudio_async.LMStudioRuntimeError("no")

    def undescribed(self, limit: int) -> None:
        """Do something.

        :raises KeyError: if there is none.
        """
        raise lmstudio_async.LMStudioRuntimeError(str(limit))

    @property
    def bare(self) -> int:
        return self.size


@attrs.frozen(kw_only=True)
class ValueSample:
    """A value type.

    :param size: in bytes.
    """

    size: int
    colour: str = ""


class HandleSample:
    """A class whose objects users receive and never make."""

    def __init__(self, sample: Sample, size: int) -> None:
        self.sample, self.size = sample, size


def test_the_check_ignores_a_constructor_that_users_cannot_call() -> None:
    assert list(complaints("HandleSample", HandleSample)) == []


def test_the_check_accepts_a_documented_class() -> None:
    assert list(complaints("Sample", Sample)) == []


def test_the_check_finds_each_undocumented_part() -> None:
    assert set(complaints("BadSample", BadSample)) == {
        "BadSample does not document :param colour:",
        "BadSample documents gone, which it does not take",
        "BadSample.bare has no docstring",
        "BadSample.silent has no docstring",
        "BadSample.undescribed does not document :param limit:",
        "BadSample.undescribed does not document :raises LMStudioRuntimeError:",
        "BadSample.undescribed documents KeyError, which is not public",
    }


def test_the_check_reads_the_constructors_that_attrs_writes() -> None:
    assert list(complaints("ValueSample", ValueSample)) == ["ValueSample does not document :param colour:"]
