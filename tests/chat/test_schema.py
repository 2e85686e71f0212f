"""Conversion of types to JSON schemas, and of JSON to values of these types."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Optional
from uuid import UUID

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstudio_async import LMStudioValueError
from lmstudio_async._schema import (
    REQUIRED,
    Member,
    MisfitError,
    json_schema_of,
    jsonable,
    members_of,
    members_schema,
    structure,
    structure_members,
)
from tests.chat.shapes import (
    Author,
    Book,
    Color,
    Documented,
    Hidden,
    Level,
    Person,
    Point,
    Positive,
    Shelf,
    Tree,
)


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (None, {"type": "null"}),
        (Any, {}),
        (dt.date, {"type": "string", "format": "date"}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (list, {"type": "array"}),
        (Iterable[str], {"type": "array", "items": {"type": "string"}}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (dict, {"type": "object"}),
        (Optional[int], {"anyOf": [{"type": "integer"}, {"type": "null"}]}),  # noqa: UP045
        (int | str, {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (Literal["a", 1], {"enum": ["a", 1]}),
        (Color, {"type": "string", "enum": ["red", "green"]}),
        (Level, {"type": "integer", "enum": [1, 2]}),
        (Annotated[int, "how many"], {"type": "integer", "description": "how many"}),
    ],
)
def test_json_schema_of_a_type(kind: Any, schema: dict[str, Any]) -> None:
    assert json_schema_of(kind) == schema


def test_schema_of_a_class_is_an_object_with_described_members() -> None:
    assert json_schema_of(Book) == {
        "type": "object",
        "properties": {
            "title": {"type": "string", "description": "as printed on the cover"},
            "author": {"$ref": "#/$defs/Author"},
            "isbn": {"type": "string"},
            "co_authors": {"type": "array", "items": {"$ref": "#/$defs/Author"}, "default": []},
            "genre": {"type": "string", "enum": ["fiction", "non-fiction"], "default": "fiction"},
            "pages": {
                "anyOf": [{"type": "integer"}, {"type": "null"}],
                "description": "of the first edition",
                "default": None,
            },
        },
        "required": ["title", "author", "isbn"],
        "additionalProperties": False,
        "$defs": {
            "Author": {
                "type": "object",
                "description": "Author of the book.",
                "properties": {
                    "name": {"type": "string"},
                    "born": {
                        "anyOf": [{"type": "string", "format": "date"}, {"type": "null"}],
                        "default": None,
                    },
                },
                "required": ["name"],
                "additionalProperties": False,
            }
        },
    }


@pytest.mark.parametrize("kind", [Book, Shelf, Tree, list[Book], Shelf | Tree, dict[str, Tree]])
def test_schema_defines_every_reference(kind: Any) -> None:
    schema = json_schema_of(kind)
    text = json.dumps(schema)
    references = {part.split('"')[0] for part in text.split('"$ref": "#/$defs/')[1:]}

    assert references
    assert references <= schema["$defs"].keys()


def test_schema_of_a_recursive_class_refers_to_itself() -> None:
    schema = json_schema_of(Tree)

    assert schema["properties"]["branches"]["items"] == {"$ref": "#/$defs/Tree"}
    assert schema["$defs"]["Tree"]["required"] == ["value"]


def test_two_classes_of_one_name_get_two_definitions() -> None:
    first = attrs.make_class("Same", {"a": attrs.field(type=int)})
    second = attrs.make_class("Same", {"b": attrs.field(type=str)})

    assert json_schema_of(tuple[first, second])["$defs"].keys() == {"Same", "Same_2"}  # type: ignore[valid-type]


def test_a_type_without_schema_is_refused_by_name() -> None:
    with pytest.raises(LMStudioValueError, match="complex has no JSON schema"):
        json_schema_of(list[complex])
    with pytest.raises(LMStudioValueError, match="keys of a JSON object are texts"):
        json_schema_of(dict[int, str])


def test_an_annotation_that_cannot_be_found_is_named() -> None:
    class Local:
        pass

    @attrs.frozen
    class Holder:
        local: Local

    with pytest.raises(LMStudioValueError, match="'Local'.*at module level"):
        json_schema_of(Holder)


def test_parameters_of_a_function_make_one_object() -> None:
    members = [
        Member("tree", Tree),
        Member("color", Color, Color.RED, "of the leaves"),
        Member("anything", Any, object()),
    ]
    schema = members_schema(members)

    assert schema["required"] == ["tree"]
    assert schema["properties"]["color"]["default"] == "red"
    assert schema["properties"]["anything"] == {}
    assert schema["$defs"].keys() == {"Tree"}
    assert structure_members(members, {"tree": {"value": 1}, "color": "green"}) == {
        "tree": Tree(1),
        "color": Color.GREEN,
    }
    assert members[0].default is REQUIRED


def test_json_becomes_an_instance_of_the_class() -> None:
    book = {"title": "Emma", "author": {"name": "Jane", "born": "1775-12-16"}, "isbn": "1", "pages": None}
    shelf = structure(
        Shelf, {"books": [book], "color": "green", "level": 2, "size": [3, 4.5], "tags": ["x", "x"]}
    )

    assert shelf == Shelf(
        books=[Book("Emma", Author("Jane", dt.date(1775, 12, 16)), "1")],  # type: ignore[arg-type]
        color=Color.GREEN,
        level=Level.HIGH,
        size=(3.0, 4.5),
        tags={"x"},
    )
    assert structure(Tree, {"value": 1, "branches": [{"value": 2}]}) == Tree(1, [Tree(2)])
    assert structure(Point, {"x": 1, "y": 2}) == {"x": 1.0, "y": 2.0}
    assert structure(Hidden, {"secret": "s"}) == Hidden("s")
    assert structure(Person, {"name": "Ada"}) == Person(name="Ada")
    described: Any = structure(Documented, {"a": 1})
    assert described == {"a": 1}
    assert structure(UUID, "12345678123456781234567812345678") == UUID("12345678123456781234567812345678")


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        (int, "1", r"^\$: expected a whole number, got '1'"),
        (int, True, "a whole number"),
        (int, 1.5, "a whole number"),
        (str, 1, "a text"),
        (float, "1", "a number"),
        (float, 10**400, "a smaller number"),
        (bool, 1, "true or false"),
        (Color, "blue", "one of 'red', 'green'"),
        (Literal[1], True, "one of 1"),
        (list[int], [1, "x"], r"\$\[1\]: expected a whole number"),
        (list[int], "abc", "a list"),
        (tuple[int, int], [1], "a list of 2"),
        (dict[str, int], {"a": None}, r"\$\.a: expected a whole number"),
        (dict[Literal["a"], int], {"b": 1}, "one of 'a'"),
        (int | None, "x", "a whole number"),
        (int | bool, "x", "a whole number.*; or .*true or false"),
        (Book, [], "an object"),
        (Author, {}, "'name' is missing"),
        (Author, {"name": "x", "age": 1}, "there is no 'age' in it"),
        (Author, {"name": "x", "born": "yesterday"}, r"\$\.born: expected a date"),
        (Positive, {"value": 0}, "refused"),
        (set[Any], [[1]], "other items"),
    ],
)
def test_json_that_does_not_fit_is_refused_with_its_place(kind: Any, value: Any, reason: str) -> None:
    with pytest.raises(MisfitError, match=reason):
        structure(kind, value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
SHELVES = st.fixed_dictionaries(
    {"books": st.lists(st.fixed_dictionaries({"title": st.text(), "author": JSON, "isbn": st.text()}))},
    optional={"color": JSON, "size": JSON, "notes": JSON, "tags": JSON, "id": JSON},
)


@pytest.mark.parametrize("kind", [Shelf, Tree, Person, Point, dict[str, list[int | str]], set[Any]])
@given(value=JSON | SHELVES)
def test_any_json_fits_or_is_refused(kind: Any, value: Any) -> None:
    try:
        made = structure(kind, value)
    except MisfitError:
        return
    assert structure(kind, jsonable(made)) == made


def test_values_become_plain_json() -> None:
    shelf = Shelf(books=[Book("Emma", Author("Jane", dt.date(1775, 12, 16)), "1")])  # type: ignore[arg-type]
    plain = jsonable({"shelf": shelf, "hidden": Hidden("s"), Color.RED: (1, 2.5), "tree": Tree(1)})

    assert json.loads(json.dumps(plain)) == plain
    assert structure(Shelf, plain["shelf"]) == shelf
    assert plain["hidden"] == {"secret": "s"}
    assert plain["red"] == [1, 2.5]
    with pytest.raises(TypeError, match="complex has no JSON form"):
        jsonable([1j])
    with pytest.raises(TypeError, match="keys"):
        jsonable({(1, 2): 3})


def test_members_of_returns_none_for_a_class_without_members() -> None:
    assert members_of(int) is None
    assert [member.name for member in members_of(Point) or ()] == ["x", "y", "label"]


def test_pydantic_models_read_and_describe_themselves() -> None:
    pydantic = pytest.importorskip("pydantic")
    inner: Any = pydantic.create_model("Inner", a=(int, ...))
    outer: Any = pydantic.create_model("Outer", inner=(inner, ...), many=(list[inner], []))

    schema = json_schema_of(list[outer])

    assert schema["$defs"].keys() == {"Inner", "Outer"}
    assert structure(outer, {"inner": {"a": 1}}) == outer(inner=inner(a=1))
    with pytest.raises(MisfitError, match="refused"):
        structure(outer, {"inner": {"a": "x"}})
    assert jsonable(outer(inner=inner(a=1))) == {"inner": {"a": 1}, "many": []}


def test_a_pydantic_model_may_be_recursive() -> None:
    pydantic = pytest.importorskip("pydantic")
    branch: Any = pydantic.create_model("Branch", value=(int, ...), branches=("list[Branch]", []))
    branch.model_rebuild(_types_namespace={"Branch": branch})

    schema = json_schema_of(branch)

    assert schema["properties"]["branches"]["items"] == {"$ref": "#/$defs/Branch"}
    assert schema["$defs"]["Branch"]["required"] == ["value"]
    assert structure(branch, {"value": 1, "branches": [{"value": 2}]}).branches[0].value == 2


def test_schema_of_a_pydantic_set_omits_unique_items() -> None:
    pydantic = pytest.importorskip("pydantic")
    tags: Any = pydantic.create_model("Tags", names=(set[str], ...))
    assert json_schema_of(tags)["properties"]["names"] == {
        "type": "array", "items": {"type": "string"}, "title": "Names"
    }  # fmt: skip
    assert structure(tags, {"names": ["a", "b", "a"]}).names == {"a", "b"}
