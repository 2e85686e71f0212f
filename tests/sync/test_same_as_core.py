"""Both packages have the same public names, parameters, defaults and docstrings, apart from ``async`` and ``await``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, get_type_hints

import pytest

import lmstudio_async
import lmstudio_sync

#: Names that only a module-level default client, or a background thread, needs.
ONLY_HERE = {
    "close_default_client",
    "configure_default_client",
    "embedding_model",
    "get_default_client",
    "get_sync_api_timeout",
    "list_downloaded_models",
    "list_loaded_models",
    "llm",
    "prepare_image",
    "set_sync_api_timeout",
}

SPECIAL = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "aclose": "close",
}


def names(package: ModuleType) -> list[str]:
    """Return the public names of a package."""
    return list(package.__all__)


TWINS = [name for name in names(lmstudio_async) if name.startswith("Async")]


def here(name: str) -> str:
    """Return the name in the facade for a name of the core."""
    return SPECIAL.get(name, name.removeprefix("Async"))


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield the methods and properties that a class defines itself, without those that no user calls by name.

    An async constructor is left out too: it has no twin, because a plain constructor may block.
    """
    for name, member in vars(cls).items():
        if isinstance(member, classmethod) and "Self" in str(member.__func__.__annotations__["return"]):
            continue
        if name in {*SPECIAL, *SPECIAL.values()} or not name.startswith("_"):
            yield name, member


def function(member: Any) -> Callable[..., Any]:
    """Return the plain function behind a method or a property."""
    if isinstance(member, property):
        assert member.fget is not None
        return member.fget
    made: Callable[..., Any] = getattr(member, "__func__", member)
    return made


def words(text: str | None) -> list[str]:
    """Return the words of a docstring, without those in which the two packages differ."""
    text = " ".join((text or "").split())
    # A facade's client opens itself, and a blocking stream starts by a call of `start` instead of an await.
    text = text.replace("LMStudioRuntimeError: before the client is opened.", "")
    text = text.replace("LMStudioUnreachableError: if no server was named and none was found.", "")
    text = text.replace("respond_stream(...).start()", "respond_stream(...)")
    text = re.sub(r"\b(a cancellation|cancellation of the task|an interrupt)\b", "", text)
    text = re.sub(r"\b(async|await|awaited|task|thread|wait for|waited for)\b", "", text)
    return re.findall(r"\w+", re.sub(r"\bAsync(?=[A-Z])|\ba(?=close\b)", "", text))


def parameters(member: Any) -> list[tuple[str, Any, Any, str]]:
    found = inspect.signature(function(member)).parameters.values()
    return [
        (each.name, each.kind, each.default, re.sub(r"\bAsync", "", str(each.annotation))) for each in found
    ]


def test_the_facade_has_the_names_of_the_core_and_only_its_own_beside_them() -> None:
    assert {*map(here, names(lmstudio_async)), *ONLY_HERE} == set(names(lmstudio_sync))


def test_a_name_without_a_twin_is_the_same_object() -> None:
    for name in set(names(lmstudio_async)) - set(TWINS):
        assert getattr(lmstudio_sync, name) is getattr(lmstudio_async, name)


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_has_the_same_members(name: str) -> None:
    core, facade = getattr(lmstudio_async, name), getattr(lmstudio_sync, here(name))
    assert [here(member) for member, _ in members(core)] == [member for member, _ in members(facade)]


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_has_the_same_bases(name: str) -> None:
    core, facade = getattr(lmstudio_async, name), getattr(lmstudio_sync, here(name))
    ours = [base.__name__ for base in core.__mro__ if base.__name__ in TWINS]
    assert [here(each) for each in ours] == [
        base.__name__ for base in facade.__mro__ if base.__name__ in map(here, TWINS)
    ]


@pytest.mark.parametrize("name", TWINS)
def test_the_methods_of_a_twin_have_the_same_parameters_and_defaults(name: str) -> None:
    core, facade = getattr(lmstudio_async, name), getattr(lmstudio_sync, here(name))
    for member, implementation in members(core):
        assert parameters(implementation) == parameters(vars(facade)[here(member)]), member


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_has_the_same_docstrings(name: str) -> None:
    core, facade = getattr(lmstudio_async, name), getattr(lmstudio_sync, here(name))
    if name != "AsyncClient":
        assert words(core.__doc__) == words(facade.__doc__)
    for member, implementation in members(core):
        assert words(implementation.__doc__) == words(vars(facade)[here(member)].__doc__), member


@pytest.mark.parametrize("name", TWINS)
def test_no_docstring_of_a_twin_mentions_async_code(name: str) -> None:
    facade = getattr(lmstudio_sync, here(name))
    for text in (facade.__doc__, *(member.__doc__ for _, member in members(facade))):
        assert not re.search(
            r"\basync (?!one|function)|\bawait|\baclose|\bAsync[A-Z]|\btasks?\b", text or ""
        ), text


@pytest.mark.parametrize("name", TWINS)
def test_the_annotations_of_a_twin_can_be_resolved(name: str) -> None:
    facade = getattr(lmstudio_sync, here(name))
    get_type_hints(facade)
    for member, implementation in members(facade):
        found = inspect.signature(function(implementation), eval_str=False)
        assert "Async" not in str(found), member


def test_a_client_has_a_timeout_of_a_minute_and_a_backend() -> None:
    core = inspect.signature(lmstudio_async.AsyncClient).parameters
    facade = dict(inspect.signature(lmstudio_sync.Client).parameters)
    backend, timeout = facade.pop("backend"), facade.pop("timeout")
    assert (backend.default, timeout.default) == ("asyncio", "default")
    assert {name: each for name, each in core.items() if name != "timeout"} == facade


@pytest.mark.parametrize(
    ("function_name", "namespace"), [("llm", "LlmNamespace"), ("embedding_model", "EmbeddingNamespace")]
)
def test_the_convenience_functions_have_the_parameters_of_model(function_name: str, namespace: str) -> None:
    made = inspect.signature(getattr(lmstudio_sync, function_name)).parameters
    method = dict(inspect.signature(getattr(lmstudio_sync, namespace).model).parameters)
    del method["self"]
    assert [(each.name, each.kind, each.default) for each in made.values()] == [
        (each.name, each.kind, each.default) for each in method.values()
    ]
