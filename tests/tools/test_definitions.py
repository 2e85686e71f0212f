"""Tools as users write them, and the definitions that are sent to the model."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from dataclasses import dataclass, make_dataclass
from typing import Annotated, Any, Literal

import attrs
import pytest

from lmstudio_async import LMStudioValueError, ToolFunctionDef
from lmstudio_async._docstrings import parameter_docs
from lmstudio_async._tools import PreparedTool, prepare_tools, result_text


class Unit(enum.Enum):
    CELSIUS = "celsius"
    KELVIN = "kelvin"


@attrs.frozen
class Point:
    x: int
    y: int = 0


@dataclass
class Line:
    start: Point
    end: Point


def add(a: int, b: int) -> int:
    """Given two numbers a and b, returns the sum of them."""
    return a + b


def prepared(tool: Any) -> PreparedTool:
    (made,) = prepare_tools([tool]).values()
    return made


def schema_of(tool: Any) -> dict[str, Any]:
    schema = prepared(tool).wire["function"]["parameters"]
    assert isinstance(schema, dict)
    return schema


def test_a_function_with_annotations_and_a_docstring_is_a_tool() -> None:
    assert prepared(add).wire == {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Given two numbers a and b, returns the sum of them.",
            "parameters": {
                "type": "object",
                "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
                "required": ["a", "b"],
                "additionalProperties": False,
            },
        },
    }


def test_an_async_function_is_a_tool_as_well() -> None:
    async def fetch(url: str) -> str:
        """Fetch a page."""
        return url

    assert prepared(fetch).name == "fetch"


def test_an_optional_parameter_has_its_default_in_the_schema() -> None:
    def greet(name: str, greeting: str = "Hello", times: int | None = None, loud=False) -> str:  # type: ignore[no-untyped-def]
        """Greet someone."""
        return f"{greeting} {name}" * (times or 1) + ("!" if loud else "")

    schema = schema_of(greet)
    assert schema["required"] == ["name"]
    assert schema["properties"]["greeting"] == {"type": "string", "default": "Hello"}
    assert schema["properties"]["times"]["default"] is None
    assert schema["properties"]["loud"] == {"type": "boolean", "default": False}


def test_a_parameter_with_none_as_its_default_accepts_none() -> None:
    def wait(seconds: int = None) -> int:  # type: ignore[assignment]  # noqa: RUF013
        """Wait."""
        return seconds

    assert prepared(wait).arguments({"seconds": None}) == {"seconds": None}


def test_a_mutable_default_is_in_the_schema() -> None:
    def total(numbers: list[int] = [1, 2]) -> int:  # noqa: B006
        """Sum up."""
        return sum(numbers)

    assert schema_of(total)["properties"]["numbers"]["default"] == [1, 2]


def measure(value: float, unit: Unit, mode: Literal["fast", "exact"] = "fast") -> str:
    """Measure."""
    return f"{value}{unit.name}{mode}"


def draw(line: Line, at: Point | None = None) -> str:
    """Draw a line."""
    return f"{line} {at}"


def test_enums_reach_the_tool_as_enums() -> None:
    schema = schema_of(measure)
    assert schema["properties"]["unit"] == {"type": "string", "enum": ["celsius", "kelvin"]}
    assert schema["properties"]["mode"]["enum"] == ["fast", "exact"]

    arguments = prepared(measure).arguments({"value": 3, "unit": "kelvin"})
    assert arguments == {"value": 3.0, "unit": Unit.KELVIN}
    assert measure(**arguments) == "3.0KELVINfast"


def test_classes_reach_the_tool_as_instances() -> None:
    arguments = prepared(draw).arguments({"line": {"start": {"x": 1}, "end": {"x": 2, "y": 3}}})
    assert arguments == {"line": Line(Point(1), Point(2, 3))}


def test_every_reference_in_a_schema_has_a_definition() -> None:
    schema = schema_of(draw)

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [found for item in value.values() for found in references(item)]
        return [found for item in value for found in references(item)] if isinstance(value, list) else []

    found = references(schema)
    assert found
    assert {reference.removeprefix("#/$defs/") for reference in found} <= schema["$defs"].keys()


def test_annotated_describes_a_parameter() -> None:
    assert schema_of(annotated)["properties"]["city"] == {
        "type": "string",
        "description": "the name of a city",
    }


def annotated(city: Annotated[str, "the name of a city"]) -> str:
    """Tell the weather.

    :param city: something else.
    """
    return city


def field_lists(a: int, b: int = 1, *, c: int = 2) -> int:
    """Add.

    :param a: the first
        of them.
    :param int b: the second.
    :return: the sum.
    """
    return a + b + c


def google(a: int, b: int = 1) -> int:
    """Add.

    Args:
        a: the first
            of them.
        b (int, optional): the second.

    Returns:
        int: the sum.
    """
    return a + b


def numpy(a: int, b: int = 1) -> int:
    """Add.

    Parameters
    ----------
    a : int
        the first
        of them.
    b : int, optional
        the second.

    Returns
    -------
    int
        the sum.
    """
    return a + b


@pytest.mark.parametrize("tool", [field_lists, google, numpy])
def test_docstrings_describe_parameters(tool: Callable[..., Any]) -> None:
    properties = schema_of(tool)["properties"]
    described = {
        name: member["description"] for name, member in properties.items() if "description" in member
    }
    assert described == {"a": "the first of them.", "b": "the second."}


@pytest.mark.parametrize(
    ("docstring", "docs"),
    [
        ("", {}),
        ("Add.", {}),
        ("Add.\n\nArgs:\n    a: first\n\n    b: second\n\nNote: c: no", {"a": "first", "b": "second"}),
        ("Add.\n\nArgs:\n    nothing of that kind\n    a: first", {}),
        ("Add.\n\nParameters\n----------\na, b : int\n    both", {}),
        ("Add.\n\n:param a:\n    first\n:param b: second\n\n    more", {"a": "first", "b": "second"}),
        ("Add.\n\nArgs:\n    *names (str): all\n    **more: else", {"names": "all", "more": "else"}),
        ("Say a: then b: then :param c: in the middle.", {}),
    ],
)
def test_parameter_docs_reads_the_documentation_of_parameters_only(
    docstring: str, docs: dict[str, str]
) -> None:
    assert parameter_docs(docstring) == docs


class LazyDocstring:
    """A docstring like those of dataclasses in Python 3.15: computed when it is read."""

    def __init__(self, text: str | None) -> None:
        self._text = text

    def __get__(self, instance: object, owner: type) -> str | None:
        return self._text


@pytest.mark.parametrize(
    ("text", "described"),
    [
        ("A place on the map.\n\nMore.", {"description": "A place on the map."}),
        ("Place(x: int)", {}),
        (None, {}),
    ],
)
def test_a_class_of_a_parameter_may_have_a_lazy_docstring(
    text: str | None, described: dict[str, str]
) -> None:
    place = make_dataclass("Place", [("x", int)])
    place.__doc__ = LazyDocstring(text)  # type: ignore[assignment]

    def visit(place: object) -> None:
        """Go there."""

    visit.__annotations__["place"] = place
    assert schema_of(visit)["$defs"]["Place"] == {
        "type": "object",
        **described,
        "properties": {"x": {"type": "integer"}},
        "required": ["x"],
        "additionalProperties": False,
    }


def test_a_function_with_a_docstring_that_is_no_text_needs_a_description() -> None:
    def visit(x: int) -> None: ...

    visit.__doc__ = LazyDocstring("Go there.")  # type: ignore[assignment]
    with pytest.raises(LMStudioValueError, match="give it a docstring"):
        ToolFunctionDef.from_callable(visit)
    assert ToolFunctionDef.from_callable(visit, description="Go there.").parameters == {"x": {"type": int}}


def test_variadic_parameters_are_not_in_the_schema() -> None:
    def log(text: str, *more: str, **fields: str) -> None:
        """Log."""

    assert list(schema_of(log)["properties"]) == ["text"]


def test_methods_partial_functions_and_callable_objects_are_tools() -> None:
    class Shop:
        def price(self, item: str) -> int:
            """Tell the price of an item."""
            return len(item)

    class Doubler:
        """Doubles numbers."""

        def __call__(self, number: int) -> int:
            return 2 * number

    assert list(schema_of(Shop().price)["properties"]) == ["item"]
    assert list(schema_of(functools.partial(add, b=1))["properties"]) == ["a"]
    assert prepared(Doubler()).wire["function"]["description"] == "Doubles numbers."
    assert prepared(Doubler()).name == "Doubler"


def test_a_tool_can_be_renamed_and_described_anew() -> None:
    tool = ToolFunctionDef.from_callable(add, name="sum", description="Adds.")

    assert (tool.name, tool.description, tool.implementation) == ("sum", "Adds.", add)
    assert prepared(tool).wire["function"]["name"] == "sum"


def test_a_tool_can_be_defined_by_hand() -> None:
    tool = ToolFunctionDef(
        name="mul",
        description="Multiply",
        parameters={"a": float, "b": {"type": float, "default": 2.0, "description": "by what"}},
        implementation=lambda a, b=2.0: a * b,
    )
    as_dict = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "implementation": tool.implementation,
    }

    assert schema_of(tool)["required"] == ["a"]
    assert schema_of(tool)["properties"]["b"] == {"type": "number", "default": 2.0, "description": "by what"}
    assert schema_of(as_dict) == schema_of(tool)


def test_a_json_schema_is_sent_unchanged() -> None:
    schema = {"type": "object", "properties": {"kind": {"enum": [1, "two"]}}, "required": ["kind"]}
    tool = ToolFunctionDef("raw", "Anything", schema, lambda **given: given)

    assert schema_of(tool) == schema
    assert prepared(tool).arguments({"kind": "three", "more": [1]}) == {"kind": "three", "more": [1]}
    with pytest.raises(ValueError, match="'kind' is missing"):
        prepared(tool).arguments({})


def test_a_parameter_may_be_called_type() -> None:
    tool = ToolFunctionDef("find", "Find", {"type": str}, lambda type: type)  # noqa: A006

    assert schema_of(tool)["properties"] == {"type": {"type": "string"}}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"a": 1}, "'b' is missing"),
        ({"a": 1, "b": "2"}, r"arguments\.b: expected a whole number"),
        ({"a": 1, "b": 2, "c": 3}, "there is no 'c'"),
        (None, "missing"),
        ({"a": True, "b": 1}, "expected a whole number"),
    ],
)
def test_arguments_that_do_not_fit_raise_an_error_with_the_reason(given: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        prepared(add).arguments(given)


def undocumented(a: int) -> int:
    return a


def unannotated(a, b: int = 1):  # type: ignore[no-untyped-def]
    """Add."""
    return a + b


def by_position(a: int, /) -> int:
    """Do nothing."""
    return a


def lost(a: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
    """Do nothing."""


def lost_in_a_module(a: enum.Nowhere) -> None:  # type: ignore[name-defined]
    """Do nothing."""


def strange(a: Callable[..., Any]) -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    ("tools", "reason"),
    [
        ([], "at least one tool"),
        (iter(()), "at least one tool"),
        ([add, add], "two tools are called 'add'"),
        ("add", "must be a list"),
        (add, "must be a list"),
        ([undocumented], "docstring"),
        ([unannotated], "'a' of unannotated"),
        ([by_position], "by name"),
        ([lost], "Nowhere"),
        ([lost_in_a_module], "an annotation of lost_in_a_module.*Nowhere"),
        ([strange], "cannot be described"),
        ([lambda a: a], "lambda"),
        ([Point], "a tool is a function"),
        ([5], "a tool is a function"),
        ([{"name": "x"}], "a tool given as a dict has"),
        ([ToolFunctionDef("", "x", {}, add)], "name of a tool"),
        ([ToolFunctionDef("x", 5, {}, add)], "description"),  # type: ignore[arg-type]
        ([ToolFunctionDef("x", "x", {}, 5)], "implementation"),  # type: ignore[arg-type]
        ([ToolFunctionDef("x", "x", [], add)], "parameters"),  # type: ignore[arg-type]
        ([ToolFunctionDef("x", "x", {"a": {"typ": int}}, add)], "'a' of the tool 'x'"),
        ([ToolFunctionDef("x", "x", {"type": "object", "properties": {1: 2}}, add)], "no JSON schema"),
    ],
)
def test_an_invalid_tool_is_refused(tools: Any, reason: str) -> None:
    with pytest.raises(LMStudioValueError, match=reason):
        prepare_tools(tools)


def test_results_become_json() -> None:
    assert result_text("Grüße") == '"Grüße"'
    assert result_text({"line": Line(Point(1), Point(2)), "unit": Unit.KELVIN}) == (
        '{"line": {"start": {"x": 1, "y": 0}, "end": {"x": 2, "y": 0}}, "unit": "kelvin"}'
    )
    assert result_text(None) == "null"
    with pytest.raises(TypeError):
        result_text(object())
