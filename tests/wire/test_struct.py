"""Lenient reading and strict writing of every class in an endpoint or a message."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from typing import Any, TypeAlias

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstudio_async._protocol._endpoints import NAMESPACES, RpcEndpoint, endpoints
from lmstudio_async._wire._hub import IsAuthenticated
from lmstudio_async._wire._infos import AnyInstanceInfo, AnyModelInfo, LlmInstanceInfo, ModelInfo
from lmstudio_async._wire._messages import (
    Authentication,
    AuthenticationResult,
    ClientMessage,
    RpcResult,
)
from lmstudio_async._wire._plan import ModelTarget, SelectDownloadOption
from lmstudio_async._wire._predict import FragmentPacket, LlmPredictionStats, PredictPacket
from lmstudio_async._wire._runtime import SuperJson
from lmstudio_async._wire._struct import MalformedError, Unknown, WireObject, camel, read, write
from tests.failures import Failures
from tests.soak import bounded
from tests.wire.server_message import ServerMessage

Json: TypeAlias = Any


# -- all classes


def endpoint_kinds(namespace: str) -> list[Any]:
    """Return the types of all values that the endpoints of a namespace send or receive."""
    kinds: list[Any] = []
    for endpoint in endpoints(namespace).values():
        if isinstance(endpoint, RpcEndpoint):
            kinds += [endpoint.parameter, endpoint.result]
        else:
            kinds += [endpoint.creation, endpoint.to_client, endpoint.to_server]
    return [kind for kind in kinds if kind is not None]


KINDS = {name: endpoint_kinds(name) for name in NAMESPACES if name != "plugins"}
KINDS["messages"] = [ClientMessage, ServerMessage, Authentication, AuthenticationResult]
ALL_KINDS = [kind for kinds in KINDS.values() for kind in kinds]
every_group = pytest.mark.parametrize("group", KINDS)


def is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (types.UnionType, typing.Union)


def parts_of(kind: Any) -> Iterator[type[WireObject]]:
    """Find all classes inside a type, at any depth."""
    if isinstance(kind, type) and issubclass(kind, WireObject):
        yield kind
        attrs.resolve_types(kind)
        for field in attrs.fields(kind):
            yield from parts_of(field.type)
    else:
        for part in typing.get_args(kind):
            yield from parts_of(part)


def wire_name(field: attrs.Attribute[Any]) -> str:
    return camel(field.name)


def members(cls: type[WireObject]) -> list[attrs.Attribute[Any]]:
    return [field for field in attrs.fields(cls) if field.name != "extra"]


CLASSES = list(dict.fromkeys(cls for kind in ALL_KINDS for cls in parts_of(kind)))
FIELD_TYPES = [field.type for cls in CLASSES for field in members(cls)]
UNIONS = list(
    dict.fromkeys(
        kind for kind in [*ALL_KINDS, *FIELD_TYPES] if is_union(kind) and Unknown in typing.get_args(kind)
    )
)


# -- JSON of the classes

SCALARS = st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
ANY_JSON = st.recursive(
    st.none() | SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
NO_NULL = ANY_JSON.filter(lambda value: value is not None)


def make_json_of(kind: Any) -> st.SearchStrategy[Json]:
    """Return a strategy for JSON that fits a type."""
    if kind is Unknown:
        return st.fixed_dictionaries({"type": st.text(min_size=1, max_size=3).map("new:".__add__)})
    if isinstance(kind, type) and issubclass(kind, WireObject):
        return json_of_class(kind)
    if is_union(kind):
        return st.one_of(*(json_of(part) for part in typing.get_args(kind) if part is not type(None)))
    origin: Any = typing.get_origin(kind)
    if origin is list:
        return st.lists(json_of(typing.get_args(kind)[0]), max_size=2)
    if origin is dict:
        return st.dictionaries(st.text(max_size=4), ANY_JSON, max_size=2)
    simple = {
        str: st.text(max_size=8),
        int: st.integers(),
        float: st.integers() | st.floats(allow_nan=False),
        bool: st.booleans(),
        Any: NO_NULL,
    }
    return simple[kind]


json_of: Callable[[Any], st.SearchStrategy[Json]] = cache(make_json_of)


def json_of_class(cls: type[WireObject]) -> st.SearchStrategy[Json]:
    attrs.resolve_types(cls)
    fields = {wire_name(field): field for field in members(cls)}
    required = {name: json_of(field.type) for name, field in fields.items() if field.default is attrs.NOTHING}
    optional = {name: json_of(field.type) for name, field in fields.items() if name not in required}
    if cls.TAG:
        optional.pop(cls.TAG_KEY, None)
        required[cls.TAG_KEY] = st.just(cls.TAG)
    return st.fixed_dictionaries(required, optional=optional)


def smallest(kind: Any) -> Json:
    """Return the smallest JSON that fits a type: required members, and no others."""
    if kind is Unknown:
        return {"type": "new"}
    if isinstance(kind, type) and issubclass(kind, WireObject):
        attrs.resolve_types(kind)
        made = {wire_name(f): smallest(f.type) for f in members(kind) if f.default is attrs.NOTHING}
        return {kind.TAG_KEY: kind.TAG, **made} if kind.TAG else made
    if is_union(kind):
        return smallest(typing.get_args(kind)[0])
    origin: Any = typing.get_origin(kind)
    if origin is list:
        return []
    if origin is dict:
        return {}
    return {str: "x", int: 1, float: 1.5, bool: True, Any: "x"}[kind]


def keeps(written: Json, original: Json) -> bool:
    """Return whether nothing of the original is lost, except nulls."""
    if isinstance(original, dict):
        return isinstance(written, dict) and all(
            value is None or (key in written and keeps(written[key], value))
            for key, value in original.items()
        )
    if isinstance(original, list):
        return (
            isinstance(written, list) and len(written) == len(original) and all(map(keeps, written, original))
        )
    return bool(written == original)


def objects_in(value: Json) -> list[dict[str, Any]]:
    """Find all JSON objects in a JSON value, itself included."""
    if isinstance(value, dict):
        return [value, *(found for item in value.values() for found in objects_in(item))]
    if isinstance(value, list):
        return [found for item in value for found in objects_in(item)]
    return []


# -- values that fit


@every_group
@bounded(60)
@given(data=st.data())
def test_nothing_is_lost_between_reading_and_writing(group: str, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS[group]))
    value = data.draw(json_of(kind))
    once = read(kind, value)
    assert keeps(write(once), value)
    assert read(kind, write(once)) == once


@every_group
@bounded(60)
@given(data=st.data())
def test_unknown_members_survive_anywhere(group: str, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS[group]))
    value = data.draw(json_of(kind))
    for item in objects_in(value):
        item["x-new"] = data.draw(ANY_JSON)
    written = write(read(kind, value))
    assert keeps(written, value)
    if isinstance(value, dict):
        assert written["x-new"] == value["x-new"]


def test_an_object_of_an_unknown_type_is_kept_whole() -> None:
    assert UNIONS
    with Failures() as failures:
        for kind in UNIONS:
            with failures.of(kind):
                tag_key = next(cls.TAG_KEY for cls in typing.get_args(kind) if cls.TAG)
                news = {tag_key: "fromTheFuture", "answer": 42, "nothing": None}
                assert isinstance(read(kind, news), Unknown)
                assert write(read(kind, news)) == news
                assert isinstance(read(kind, {"no": "type"}), Unknown)
                assert isinstance(read(kind, {tag_key: ["not", "a", "text"]}), Unknown)


def test_a_model_of_an_unknown_type_is_read_as_model_info() -> None:
    llm, odd = {"type": "llm", "modelKey": "a"}, {"type": "smell", "modelKey": "b", "odour": "lime"}
    models = read(list[AnyModelInfo], [llm, odd])
    assert [model.model_key for model in models] == ["a", "b"]
    assert type(models[1]) is ModelInfo
    assert (models[1].type, models[1].extra) == ("smell", {"odour": "lime"})


def test_an_unknown_enum_value_is_read_as_a_text() -> None:
    assert read(LlmPredictionStats, {"stopReason": "becameBored"}).stop_reason == "becameBored"


# -- values that do not fit

ODD: list[Json] = [None, True, 7, -1.5, math.inf, "x", [], [1], [None], {}, {"a": 1}, {"type": "x"}]


def is_required(field: attrs.Attribute[Any]) -> bool:
    return field.default is attrs.NOTHING


MEMBERS = [(cls, field) for cls in CLASSES for field in members(cls)]
LENIENT = [(cls, field) for cls, field in MEMBERS if not is_required(field)]
STRICT = [(cls, field) for cls, field in MEMBERS if is_required(field)]


def test_a_member_with_a_default_may_be_anything() -> None:
    assert LENIENT
    with Failures() as failures:
        for (cls, field), odd in product(LENIENT, ODD):
            with failures.of(f"{cls.__name__}.{field.name}: {odd!r}"):
                value = {**smallest(cls), wire_name(field): odd, "x-new": {"a": None}}
                made = read(cls, value)
                assert made.extra["x-new"] == {"a": None}
                assert keeps(write(made), value)


def test_a_required_member_that_is_absent_or_null_is_named() -> None:
    assert STRICT
    with Failures() as failures:
        for cls, field in STRICT:
            value = smallest(cls)
            del value[wire_name(field)]
            for absent in (value, {**value, wire_name(field): None}):
                with failures.of(f"{cls.__name__}.{field.name}: {absent!r}"):
                    with pytest.raises(MalformedError) as caught:
                        read(cls, absent)
                    assert str(caught.value) == f"{cls.__name__} has no {wire_name(field)!r}"


def test_a_required_member_deep_inside_is_named_with_its_place() -> None:
    with pytest.raises(MalformedError) as caught:
        read(ServerMessage, {"type": "rpcResult", "callId": "seven"})
    assert str(caught.value) == "RpcResult.callId: expected a whole number, got 'seven'"
    with pytest.raises(MalformedError) as caught:
        read(ModelTarget, {"type": "model", "source": "here"})
    assert str(caught.value) == "ModelTarget.source: expected an object for Unknown, got 'here'"
    with pytest.raises(MalformedError) as caught:
        read(IsAuthenticated, {"authenticated": "yes"})
    assert str(caught.value) == "IsAuthenticated.authenticated: expected true or false, got 'yes'"


def deep(depth: int) -> Json:
    value: Json = []
    for _ in range(depth):
        value = [value]
    return value


MONSTERS: dict[str, Json] = {
    "deep": deep(50_000),
    "huge": 10**6000,
    "nan": math.nan,
    "infinity": -math.inf,
    "surrogate": "\ud800",
    "long": "x" * 1_000_000,
    "null": None,
    "keys": {"": 1, "extra": {"a": 1}, "self": 2, "cls": 3, "__proto__": 4, "type": None},
}


def test_an_extreme_value_is_read_or_malformed() -> None:
    with Failures() as failures:
        for name, value in MONSTERS.items():
            for kind in [*ALL_KINDS, *CLASSES]:
                with failures.of(f"{kind}: {name}"):
                    read_or_malformed(kind, value)
                    read_or_malformed(kind, [value])
            for cls, field in MEMBERS:
                with failures.of(f"{cls.__name__}.{field.name}: {name}"):
                    read_or_malformed(cls, {**smallest(cls), wire_name(field): value})


@every_group
@bounded(60)
@given(data=st.data())
def test_arbitrary_json_is_read_or_malformed(group: str, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS[group]))
    value = data.draw(json_of(kind))
    for item in data.draw(
        st.lists(st.sampled_from(objects_in(value)), max_size=3) if objects_in(value) else st.just([])
    ):
        for key in item:
            item[key] = data.draw(st.just(item[key]) | ANY_JSON)
    read_or_malformed(kind, value)
    read_or_malformed(kind, data.draw(ANY_JSON))


def read_or_malformed(kind: Any, value: Json) -> None:
    try:
        read(kind, value)
    except MalformedError as error:
        message = str(error)
    else:
        message = ""
    # The message quotes the wrong value, and must not quote megabytes.
    assert len(message) < 500


# -- special members


def test_an_unknown_member_called_extra_is_kept_like_any_other() -> None:
    value = {"type": "rpcResult", "callId": 1, "result": 2, "extra": {"deep": True}}
    assert read(RpcResult, value).extra == {"extra": {"deep": True}}
    assert write(read(RpcResult, value)) == value


def test_a_whole_number_may_be_written_as_a_fraction() -> None:
    assert read(RpcResult, {"callId": 7.0}).call_id == 7
    with pytest.raises(MalformedError, match="whole number"):
        read(RpcResult, {"callId": 7.5})
    with pytest.raises(MalformedError, match="whole number"):
        read(RpcResult, {"callId": True})


def test_an_optional_union_may_be_null_or_an_object() -> None:
    optional: Any = AnyInstanceInfo | None
    assert read(optional, None) is None
    assert read(optional, {"type": "llm", "identifier": "mine"}) == LlmInstanceInfo(identifier="mine")


def test_a_null_is_written_for_nullable_members_only() -> None:
    nothing_selected = SelectDownloadOption(node_index=0, requested_plan_version=1)
    assert write(nothing_selected)["selectedDownloadOptionIndex"] is None
    assert "quantization" not in write(LlmInstanceInfo())
    assert write(LlmInstanceInfo())["ttlMs"] is None
    assert write(SuperJson(meta={"values": ["undefined"]})) == {
        "json": None,
        "meta": {"values": ["undefined"]},
    }


def test_a_wrong_value_of_an_optional_member_is_kept_and_written_back() -> None:
    info = read(
        LlmInstanceInfo, {"type": "llm", "identifier": "mine", "ttlMs": "an hour", "contextLength": "4k"}
    )
    assert (info.identifier, info.ttl_ms, info.context_length) == ("mine", None, 0)
    assert info.extra == {"ttlMs": "an hour", "contextLength": "4k"}
    assert write(info)["ttlMs"] == "an hour"


def test_lists_and_mappings_of_objects_are_written_too() -> None:
    result = RpcResult(call_id=1)
    assert write({"all": [result, (result,)]}) == {
        "all": [{"type": "rpcResult", "callId": 1}, [{"type": "rpcResult", "callId": 1}]]
    }


def test_a_time_out_of_range_is_read_as_none() -> None:
    assert read(LlmInstanceInfo, {"lastUsedTime": 10**30}).last_used is None
    assert read(LlmInstanceInfo, {"lastUsedTime": 10**400}).last_used is None
    assert str(read(LlmInstanceInfo, {"lastUsedTime": 0}).last_used) == "1970-01-01 00:00:00+00:00"


def test_a_fragment_in_the_old_dialect_is_a_fragment() -> None:
    packet = read(
        PredictPacket,
        {"type": "fragment", "fragment": {"content": "Hi", "tokensCount": 1}, "logprobs": [[-0.1]]},
    )
    assert isinstance(packet, FragmentPacket)
    assert (packet.fragment.content, packet.extra) == ("Hi", {"logprobs": [[-0.1]]})


def test_secrets_are_not_in_a_repr() -> None:
    hidden = [field for cls in CLASSES for field in members(cls) if not field.repr]
    assert {field.name for field in hidden} >= {"client_identifier", "client_passkey"}
    login = read(Authentication, {"authVersion": 1, "clientIdentifier": "me", "clientPasskey": "sesame"})
    assert "sesame" not in repr(login)
