"""Packets that the published TypeScript package accepts, read and written by the endpoints that have wire types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs

from lmstudio_async._protocol._endpoints import endpoints
from lmstudio_async._protocol._errors import error_from_wire
from lmstudio_async._wire._messages import ClientMessage
from lmstudio_async._wire._struct import Unknown, WireObject, read, write
from lmstudio_async.errors import LMStudioServerError
from tests.failures import Failures
from tests.wire.server_message import ServerMessage

EXAMPLES = [
    (entry["part"], entry["example"])
    for entry in map(json.loads, (Path(__file__).parent / "examples.jsonl").read_text("utf-8").splitlines())
]
SIDES = {
    "creationParameter": "creation",
    "toClientPacket": "to_client",
    "toServerPacket": "to_server",
    "parameter": "parameter",
    "returns": "result",
}
PACKETS = [(part, example) for part, example in EXAMPLES if part != "error"]
ERRORS = [example for part, example in EXAMPLES if part == "error"]


def kind_of(part: str) -> Any:
    """Return the class for a part such as ``llm.channel.loadModel.toClientPacket``."""
    if part.startswith("messages."):
        return {"toServer": ClientMessage, "toClient": ServerMessage}[part.removeprefix("messages.")]
    namespace, _, endpoint, side = part.split(".")
    return getattr(endpoints(namespace)[endpoint], SIDES[side])


def strangers(value: Any, place: str = "it") -> list[str]:
    """Find unknown objects, and unknown members of known objects."""
    if isinstance(value, Unknown):
        return [f"{place} is unknown"]
    if isinstance(value, WireObject):
        found = [f"{place} has unknown members {sorted(value.extra)}"] if value.extra else []
        for field in attrs.fields(type(value)):
            if field.name != "extra":
                found += strangers(getattr(value, field.name), f"{place}.{field.name}")
        return found
    if isinstance(value, list):
        return [name for index, item in enumerate(value) for name in strangers(item, f"{place}[{index}]")]
    return []


def test_no_example_is_lost() -> None:
    assert len(EXAMPLES) == 72


def test_an_example_has_no_unknown_members() -> None:
    with Failures() as failures:
        for part, example in PACKETS:
            with failures.of(part):
                assert strangers(read(kind_of(part), example)) == []


def test_an_example_is_written_as_it_was_read() -> None:
    with Failures() as failures:
        for part, example in PACKETS:
            with failures.of(part):
                assert write(read(kind_of(part), example)) == example


def test_an_error_object_becomes_an_exception_that_carries_it() -> None:
    assert ERRORS
    with Failures() as failures:
        for example in ERRORS:
            with failures.of(example["title"]):
                error = error_from_wire(example, "Model load")
                assert error.server_error == {key: value for key, value in example.items() if key != "stack"}
                assert example["title"] in str(error)
                assert (type(error) is LMStudioServerError) is ("displayData" not in example)


def test_strangers_finds_unknown_members_and_objects() -> None:
    odd = read(ServerMessage, {"type": "channelClose", "channelId": 1, "why": "bored"})
    assert strangers(odd) == ["it has unknown members ['why']"]
    assert strangers([odd, read(ServerMessage, {"type": "goodbye"})])[1:] == ["it[1] is unknown"]
