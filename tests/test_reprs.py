"""Reprs of the values that people look at: one line, short, the members that matter first."""

from __future__ import annotations

import re
import tracemalloc
import typing
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar

import anyio
import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lmstudio_async as lms
import lmstudio_sync
from lmstudio_async._printable import short_members, short_repr
from lmstudio_sync._bridge import Bridge
from tests.scripted_server import INSTANCE, ScriptedServer
from tests.test_public_api import PUBLIC, is_ours

#: Characters of a repr; a config may have thirty settings, and shows more of them.
LONGEST, LONGEST_OF_CONFIGS = 200, 600

#: A text from a peer that means harm: it ends lines, moves the cursor, is long, and cannot be encoded.
HOSTILE = "\x1b[2J\r\n\u202e\ud800</b>'\"" + "long " * 2000

CONFIGS = (lms.LlmLoadModelConfig, lms.EmbeddingLoadModelConfig, lms.LlmPredictionConfig, lms.GpuSetting)
ATTRS_CLASSES = [
    cls
    for cls in (getattr(lms, name) for name in PUBLIC)
    if isinstance(cls, type) and attrs.has(cls) and is_ours(cls)
]
STATS = lms.LlmPredictionStats(
    stop_reason="eosFound", predicted_tokens_count=8, tokens_per_second=45.612345, prompt_tokens_count=23
)
INFO = lms.LlmInstanceInfo(
    identifier="my-qwen",
    model_key="qwen3-4b",
    context_length=8192,
    ttl_ms=3_600_000,
    size_bytes=2_497_281_120,
    quantization=lms.Quantization(name="Q4_K_M", bits=4),
    instance_reference="b6f1f6f6",
    path="lmstudio-community/Qwen3-4B-GGUF/Qwen3-4B-Q4_K_M.gguf",
)
AT = datetime(2026, 11, 30, 12, 0, 5, 123456, UTC)


def assert_short(shown: str, longest: int = LONGEST) -> None:
    assert len(shown) <= longest, shown
    assert shown.isprintable(), shown


def answer(content: str, **members: Any) -> lms.PredictionResult:
    return lms.PredictionResult(
        content=content,
        stats=STATS,
        model_info=INFO,
        load_config=lms.LlmLoadModelConfig(),
        prediction_config=lms.LlmPredictionConfig(),
        **members,
    )


# -- every class


def huge(kind: Any) -> Any:
    """Make a value of a type that is as long and as hostile as a server could make it."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any or isinstance(kind, TypeVar):
        return {HOSTILE: [HOSTILE] * 1000}
    if origin is Literal:
        return arguments[0]
    if origin in (UnionType, typing.Union):
        return huge(next(each for each in arguments if each is not NoneType))
    if origin in (list, tuple):
        return origin(huge(arguments[0]) for _ in range(100))
    if isinstance(kind, type) and attrs.has(kind):
        return made(kind)
    values: dict[Any, Any] = {
        str: HOSTILE,
        int: 10**300,
        float: -1.2345678e-200,
        bool: True,
        datetime: AT,
        lms.LMStudioError: lms.LMStudioError(HOSTILE),
        lms.LMStudioPredictionError: lms.LMStudioPredictionError(HOSTILE),
    }
    if kind in values:
        return values[kind]
    return {HOSTILE: HOSTILE} if "Mapping" in str(origin) or origin is dict else lambda: None


def made(cls: type[Any]) -> Any:
    """Make an object with the longest value in every member."""
    public = {name: getattr(lms, name) for name in PUBLIC}
    attrs.resolve_types(cls, localns=public | {"ModelInfo": lms.LlmInstanceInfo})
    fields = [field for field in attrs.fields(cls) if field.init and field.alias]
    return cls(**{field.alias: {} if field.name == "extra" else huge(field.type) for field in fields})


def test_the_public_classes_are_found() -> None:
    assert len(ATTRS_CLASSES) >= 40
    assert {lms.PredictionResult, lms.LlmInfo, lms.InstanceUnloaded, lms.LoadProgress} <= set(ATTRS_CLASSES)


@pytest.mark.parametrize("cls", ATTRS_CLASSES, ids=lambda cls: cls.__name__)
def test_the_repr_of_a_value_is_one_short_line_whatever_is_in_it(cls: type[Any]) -> None:
    shown = repr(made(cls))

    assert_short(shown, LONGEST_OF_CONFIGS if cls in CONFIGS else LONGEST)
    assert re.fullmatch(rf"{cls.__name__}\(.*\)", shown)


@pytest.mark.parametrize("cls", ATTRS_CLASSES, ids=lambda cls: cls.__name__)
def test_the_repr_of_a_value_shows_a_member(cls: type[Any]) -> None:
    assert "=" in repr(made(cls))


async def test_the_repr_of_a_handle_is_short_whatever_its_name_is() -> None:
    name = HOSTILE.replace("\ud800", "")
    hostile = INSTANCE | {"identifier": name, "modelKey": name, "displayName": name, "architecture": name}
    with anyio.fail_after(10):
        (llm,) = await listed(lambda client: client.llm.list_loaded(), hostile)
        (model,) = await listed(lambda client: client.llm.list_downloaded(), hostile)

    bridge = Bridge()
    for core, twin in [
        (llm, lmstudio_sync.LLM(llm, bridge)),
        (model, lmstudio_sync.DownloadedLlm(model, bridge)),
    ]:
        assert_short(repr(core))
        assert repr(core) == f"Async{twin!r}"


async def listed(request: Callable[[lms.AsyncClient], Awaitable[Any]], info: dict[str, Any]) -> Any:
    """Return what a request for a list returns, if the server answers with one info."""
    found = []
    async with ScriptedServer().client() as (client, server), anyio.create_task_group() as tasks:

        async def ask() -> None:
            found.extend(await request(client))

        tasks.start_soon(ask)
        await server.answer(await server.next_message(), [info])
    return found


# -- the members that matter


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (
            answer("Water boils at 100 °C."),
            (
                "PredictionResult(content='Water boils at 100 °C.', stop_reason='eosFound', predicted_tokens_count=8,"
                " tokens_per_second=45.61, identifier='my-qwen')"
            ),
        ),
        (
            answer("<think>Hm.</think>42", reasoning_content="Hm.", non_reasoning_content="42"),
            (
                "PredictionResult(non_reasoning_content='42', stop_reason='eosFound', predicted_tokens_count=8,"
                " tokens_per_second=45.61, identifier='my-qwen')"
            ),
        ),
        (
            answer('{"a": 1}', parsed={"a": 1}),
            (
                "PredictionResult(parsed={'a': 1}, stop_reason='eosFound', predicted_tokens_count=8,"
                " tokens_per_second=45.61, identifier='my-qwen')"
            ),
        ),
        (
            answer("", tool_call_requests=(lms.ToolCallRequest(name="add", arguments={"a": 1}),)),
            (
                "PredictionResult(tool_call_requests=['add'], stop_reason='eosFound', predicted_tokens_count=8,"
                " tokens_per_second=45.61, identifier='my-qwen')"
            ),
        ),
        (
            INFO,
            (
                "LlmInstanceInfo(identifier='my-qwen', model_key='qwen3-4b', context_length=8192, ttl=3600.0,"
                " quantization='Q4_K_M', size_bytes=2497281120, type='llm')"
            ),
        ),
        (
            STATS,
            (
                "LlmPredictionStats(stop_reason='eosFound', predicted_tokens_count=8, tokens_per_second=45.61,"
                " prompt_tokens_count=23)"
            ),
        ),
        (
            lms.LoadProgress("loading", 1 / 3, INFO),
            "LoadProgress(phase='loading', fraction=0.3333, info='qwen3-4b')",
        ),
        (lms.ActResult(2, 1.23456789), "ActResult(rounds=2, total_time_seconds=1.235)"),
        (
            lms.InstanceUnloaded(
                at=AT, identifier="my-qwen", kind="llm", info=INFO, reason="evicted", evicted_for="llama"
            ),
            (
                "InstanceUnloaded(identifier='my-qwen', kind='llm', reason='evicted', evicted_for='llama',"
                " at=2026-11-30T12:00:05+00:00)"
            ),
        ),
        (
            lms.ServerLost(at=AT, error=lms.LMStudioError("no answer")),
            "ServerLost(error=LMStudioError('no answer'), at=2026-11-30T12:00:05+00:00)",
        ),
        (
            lms.ModelUsage(memory=lms.MemoryEstimate(total_bytes=1234567890.0), passes_guardrails=False),
            "ModelUsage(total_bytes=1234567890, total_vram_bytes=0, confidence='low', passes_guardrails=False)",
        ),
        (
            lms.ToolResultMessage(content=[lms.ToolCallResultData(content="42", tool_call_id="1")]),
            "ToolResultMessage(content=[ToolCallResultData(content='42', tool_call_id='1')])",
        ),
        (
            lms.LlmPredictionConfig(temperature=0.123456789, stop_strings=[]),
            "LlmPredictionConfig(temperature=0.123456789, stop_strings=[])",
        ),
        (lms.Chat(), "Chat()"),
        (lms.Chat("Be brief."), "Chat(1 message; system: 'Be brief.')"),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_a_repr_shows_what_people_look_for(value: object, shown: str) -> None:
    assert repr(value) == shown


def test_the_repr_of_a_chat_has_its_first_message_and_its_last_two() -> None:
    chat = lms.Chat("Be brief.")
    for number in range(20):
        chat.add_user_message(f"Question {number}")
        chat.add_assistant_response(f"Answer {number}")

    assert (
        repr(chat) == "Chat(41 messages; system: 'Be brief.'; …; user: 'Question 19'; assistant: 'Answer 19')"
    )


def test_the_repr_of_a_chat_is_short_whatever_is_in_it() -> None:
    chat = lms.Chat(HOSTILE)
    chat.add_user_message([HOSTILE, lms.FileHandle(name=HOSTILE, identifier=HOSTILE, file_type=HOSTILE)])
    chat.add_assistant_response(HOSTILE, [{"id": "1", "name": HOSTILE, "arguments": {HOSTILE: HOSTILE}}])
    chat.add_tool_result({"content": HOSTILE, "tool_call_id": "1"})

    assert_short(repr(chat))
    assert_short(repr(chat[1:2]), LONGEST + 2)


def test_a_long_text_is_shown_with_its_length() -> None:
    assert "content='wwwww" in repr(answer("w" * 1000))
    assert "'… (1000 characters), stop_reason='eosFound'" in repr(answer("w" * 1000))
    assert answer("w" * 1000).content == "w" * 1000


# -- the functions


class Odd:
    """A class of a user whose repr raises, or is of several lines."""

    def __init__(self, shown: str | None) -> None:
        self.shown = shown

    def __repr__(self) -> str:
        if self.shown is None:
            raise RuntimeError("no repr")
        return self.shown


def within_itself() -> Iterator[Any]:
    items: list[Any] = []
    items.append(items)
    members: dict[str, Any] = {}
    members["a"] = members
    both: list[Any] = []
    both += [both, both, {"a": both, "b": both}]
    yield from (items, members, both)


@pytest.mark.parametrize(
    "value",
    [Odd(None), Odd("a\nb" * 1000), *within_itself(), 10**5000, [10**5000]],
    ids=lambda each: type(each).__name__,
)
def test_values_with_odd_reprs_do_not_break_that_of_a_result(value: Any) -> None:
    shown = repr(answer("x", parsed=value))

    assert_short(shown)
    assert shown.startswith("PredictionResult(parsed=")
    assert "stop_reason='eosFound'" in shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.123456789, "0.123456789"),
        ([1, "a", None], "[1, 'a', None]"),
        ((1,), "(1,)"),
        ({"a": {"b": ()}}, "{'a': {'b': ()}}"),
        ({1}, "{1}"),
        (set(), "set()"),
        (b"abc", "b'abc'"),
        (range(10**6), "range(0, 1000000)"),
    ],
    ids=repr,
)
def test_the_short_repr_of_a_short_value_is_its_repr(value: object, shown: str) -> None:
    assert short_repr(value) == shown == repr(value)


class Counted:
    """A value that counts how often its repr is made."""

    count = 0

    def __repr__(self) -> str:
        self.count += 1
        return "x"


@pytest.mark.parametrize("kind", [list, tuple, dict.fromkeys, set, lambda items: [[items] * 1000] * 1000])
def test_only_the_first_items_of_a_huge_value_are_looked_at(kind: Callable[[list[Any]], Any]) -> None:
    item = Counted()
    items = [item] * 10_000 if kind is not set else [item, *range(10_000)]

    assert len(short_repr(kind(items), 100)) <= 100
    assert item.count < 100


def test_a_huge_text_is_not_walked_through() -> None:
    for value in ("x" * 10**8, b"x" * 10**8):
        tracemalloc.start()
        try:
            assert len(short_repr(value, 100)) <= 100
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert most < 100_000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.lists(st.tuples(st.sampled_from(["a", "content", "x" * 30]), JSON), max_size=8))
def test_any_members_fit_into_one_line(members: list[tuple[str, Any]]) -> None:
    assert_short(short_members("PredictionRoundResult", members))


@given(JSON, st.integers(40, 300))
def test_any_value_fits_into_its_room(value: Any, longest: int) -> None:
    assert len(short_repr(value, longest)) <= longest


@given(st.text(max_size=30).filter(lambda text: text.isprintable()))
def test_a_short_text_is_shown_as_it_is(text: str) -> None:
    assert short_repr(text, 100) == repr(text)
