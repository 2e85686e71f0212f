"""Classes that the tests use as response formats."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NewType, NotRequired, TypedDict
from uuid import UUID

import attrs

from lmstudio_async import BaseModel

Isbn = NewType("Isbn", str)


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@attrs.frozen
class Author:
    """Author of the book.

    This paragraph must not get into the schema.
    """

    name: str
    born: dt.date | None = None


@attrs.frozen
class Book:
    title: Annotated[str, "as printed on the cover"]
    author: Author
    isbn: Isbn
    co_authors: list[Author] = attrs.field(factory=list)
    genre: Literal["fiction", "non-fiction"] = "fiction"
    pages: int | None = attrs.field(default=None, metadata={"description": "of the first edition"})


@dataclasses.dataclass
class Shelf:
    books: Sequence[Book]
    color: Color = Color.RED
    level: Level = Level.LOW
    size: tuple[float, float] = (1.0, 2.0)
    notes: dict[str, str] = dataclasses.field(default_factory=dict)
    tags: set[str] = dataclasses.field(default_factory=set)
    id: UUID | None = None


@attrs.frozen
class Tree:
    value: int
    branches: list[Tree] = attrs.field(factory=list)


@attrs.frozen
class Positive:
    value: int = attrs.field(validator=attrs.validators.gt(0))


@attrs.frozen
class Hidden:
    _secret: str
    made_here: str = attrs.field(init=False, default="here")


class Point(TypedDict):
    x: float
    y: float
    label: NotRequired[str]


class Person(BaseModel):
    name: str
    age: int | None = None


class Documented:
    """Implements only `model_json_schema`, the documented protocol for response formats."""

    @classmethod
    def model_json_schema(cls) -> dict[str, Any]:
        return {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


Anything = Mapping[str, Any]
