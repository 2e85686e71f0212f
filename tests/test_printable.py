"""Hostile or careless texts of a server: printable and bounded wherever they are shown to a user or on a terminal."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstudio_async import (
    AsyncClient,
    AsyncLLM,
    Chat,
    FileHandle,
    LMStudioAuthenticationError,
    LMStudioModelNotFoundError,
    LMStudioPredictionError,
    LMStudioProtocolError,
    LMStudioServerError,
    LMStudioStructuredOutputError,
    ToolCallRequest,
)
from lmstudio_async._printable import printable, printable_lines
from tests.chat.scripted_predictions import Asked, ask, say_and_end
from tests.chat.shapes import Person
from tests.scripted_server import INSTANCE, ScriptedServer, list_nothing

Both = tuple[AsyncClient, ScriptedServer]

CLEAR = "\x1b[2J\x1b]0;owned\x07"
HUGE = "x" * 5_000_000


def assert_fit(text: str, longest: int = 10_000) -> None:
    assert len(text) <= longest
    for line in text.split("\n"):
        assert line.isprintable(), line


async def refused(
    both: Both, error: Any, send: Callable[[AsyncClient], Awaitable[object]] | None = None
) -> LMStudioServerError:
    """Let the server reply to a call with an error object, and return the exception that the call raises."""
    client, server = both
    raised: list[LMStudioServerError] = []

    async def run() -> None:
        with pytest.raises(LMStudioServerError) as caught:
            await (send(client) if send else client.llm.unload("qwen3-4b"))
        raised.append(caught.value)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            call = await server.next_message()
            await server.say(type="rpcError", callId=call["callId"], error=error)
    return raised[0]


# -- errors


@pytest.mark.parametrize("text", [CLEAR, HUGE, CLEAR + HUGE, "\x1b" * 100_000, "\u202egnp.exe", "\ud800"])
async def test_a_servers_error_is_printable_and_bounded(both: Both, text: str) -> None:
    wire = {"title": f"No{text}", "cause": text, "suggestion": text, "displayData": {"code": text}}
    error = await refused(both, wire)

    assert_fit(str(error))
    assert_fit(error.title)
    assert "error: No" in str(error)
    assert error.server_error == wire


async def test_an_error_of_several_lines_keeps_its_lines(both: Both) -> None:
    error = await refused(
        both, {"title": "It failed", "cause": "one\r\n\ttwo\n\nthree", "suggestion": "Do\u00a0it."}
    )

    assert str(error).split("\n")[1:] == ["one", "\ttwo", "", "three", "Do\u00a0it."]


@pytest.mark.parametrize(
    "data",
    [
        {"path": HUGE, "availablePathsSample": [CLEAR, *(HUGE[: number % 5000] for number in range(20_000))]},
        {"identifier": CLEAR, "loadedModelsSample": [CLEAR] * 20_000, "totalLoadedModels": 30_000},
        {"query": {f"{CLEAR}{number}": HUGE[:100] for number in range(20_000)}},
        {"query": {HUGE: CLEAR}, "loadedModelsSample": [HUGE]},
        {"query": {"path": ["x"]}, "loadedModelsSample": "a text"},
    ],
)
async def test_names_in_an_error_are_printable_and_few(both: Both, data: dict[str, Any]) -> None:
    code = "generic.pathNotFound"
    error = await refused(both, {"title": "Not found", "displayData": {"code": code, **data}})

    assert isinstance(error, LMStudioModelNotFoundError)
    assert_fit(str(error))
    names = data.get("availablePathsSample") or data.get("loadedModelsSample") or []
    # The original texts stay in `candidates`, because programs use them.
    assert error.candidates == (names if isinstance(names, list) else [])


async def test_a_few_names_are_shown_as_they_are(both: Both) -> None:
    data = {"path": "qwen3-4", "availablePathsSample": ["qwen3-4b", "modèle d'été"], "totalModels": 5}
    error = await refused(
        both, {"title": "Not found", "displayData": {"code": "generic.pathNotFound", **data}}
    )

    assert str(error).endswith("Did you mean 'qwen3-4b'? There are: qwen3-4b, modèle d'été, and 3 more")


@pytest.mark.parametrize("text", [CLEAR, HUGE])
async def test_an_authentication_error_is_printable_and_bounded(text: str) -> None:
    async with ScriptedServer(authentication={"success": False, "error": text}).client() as (client, _):
        with anyio.fail_after(10), pytest.raises(LMStudioAuthenticationError) as caught:
            await client.llm.list_loaded()

    assert_fit(str(caught.value))
    assert_fit(caught.value.title)
    assert caught.value.server_error["title"] == text


@pytest.mark.parametrize(
    "answer", [{CLEAR: 1}, {"success": CLEAR}, [HUGE], {"success": False, "error": {"a": HUGE}}]
)
async def test_an_odd_reply_to_the_authentication_is_shown_printable_and_bounded(answer: Any) -> None:
    async with ScriptedServer(authentication=answer).client() as (client, _):
        with anyio.fail_after(10), pytest.raises(LMStudioServerError) as caught:
            await client.llm.list_loaded()

    assert_fit(str(caught.value))


@pytest.mark.parametrize("text", [CLEAR, HUGE])
async def test_a_warning_is_printable_and_bounded_as_an_error_and_in_the_log(
    both: Both, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    client, server = both

    async def unload() -> None:
        for _ in range(2):
            with pytest.raises(LMStudioProtocolError) as caught:
                await client.llm.unload("qwen3-4b")
            assert_fit(str(caught.value))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(unload)
            await server.next_message()
            warning = f"Received rpcCall for unknown endpoint, endpoint = unloadModel {text}"
            await server.say(type="communicationWarning", warning=warning)

    assert caplog.messages
    for message in caplog.messages:
        assert_fit(message)


@pytest.mark.parametrize("text", [CLEAR, HUGE])
async def test_a_malformed_result_is_shown_printable_and_bounded(both: Both, text: str) -> None:
    client, server = both

    async def list_downloaded() -> None:
        with pytest.raises(LMStudioProtocolError) as caught:
            await client.llm.list_downloaded()
        assert_fit(str(caught.value))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(list_downloaded)
            await server.answer(await server.next_message(), {text: text})


@pytest.mark.parametrize("name", [CLEAR, HUGE])
async def test_a_response_that_does_not_fit_its_format_is_shown_printable_and_bounded(
    both: Both, name: str
) -> None:
    async def respond(llm: AsyncLLM) -> Any:
        with pytest.raises(LMStudioStructuredOutputError) as caught:
            await llm.respond("Who?", response_format=Person)
        assert_fit(str(caught.value))

    await ask(both, respond, lambda asked: say_and_end(asked, json.dumps({"name": "Ada", name: 1})))


@pytest.mark.parametrize("name", [CLEAR, HUGE])
async def test_an_unknown_tool_is_named_printable_and_bounded(both: Both, name: str) -> None:
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    errors: list[str] = []

    async def act(llm: AsyncLLM) -> Any:
        def handle(error: LMStudioPredictionError, _: object) -> str:
            errors.append(str(error))
            return "No."

        await llm.act("1 + 2?", [add], handle_invalid_tool_request=handle)

    async def play(asked: Asked) -> None:
        for request in ({"name": name}, {"name": "add", "arguments": {name: 1}}):
            await asked.server.packet(
                asked.message, type="toolCallGenerationEnd", toolCallRequest={"type": "function", **request}
            )
        await asked.end()
        asked.message = await asked.server.next_message()
        await say_and_end(asked, "Three.")

    await ask(both, act, play)

    assert len(errors) == 2
    for error in errors:
        assert_fit(error)


async def test_an_ambiguous_key_is_logged_printable_and_bounded(
    both: Both, caplog: pytest.LogCaptureFixture
) -> None:
    client, server = both
    await list_nothing(client, server)

    async def load() -> None:
        with pytest.raises(LMStudioServerError):
            await client.llm.load_new_instance("qwen3-4b")

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(load)
            channel = await server.next_message()
            info = INSTANCE | {"modelKey": CLEAR + HUGE}
            await server.packet(channel, type="resolved", info=info, ambiguous=[CLEAR, HUGE])
            await server.fail(channel, "enough")

    (record,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert_fit(record.getMessage())


# -- a chat, for people


def test_a_chat_shown_to_people_is_printable_and_bounded() -> None:
    chat = Chat(CLEAR)
    chat.add_user_message([CLEAR, FileHandle(name=CLEAR + HUGE, identifier="i", file_type=CLEAR)])
    chat.add_assistant_response(HUGE + CLEAR)
    chat.add_tool_result({"content": CLEAR + HUGE, "tool_call_id": "t"})
    request = ToolCallRequest(
        id="t", name=CLEAR, arguments={CLEAR: HUGE, **{f"a{n}": n for n in range(10_000)}}
    )
    chat.add_assistant_response("", [request])

    assert_fit(str(chat), 2000)
    assert_fit(repr(chat), 200)


# -- the functions


@given(st.text(), st.integers(1, 50))
def test_any_text_becomes_printable(text: str, longest: int) -> None:
    for make in (printable, printable_lines):
        shown = make(text, longest)
        assert len(shown) <= longest + len(f"… ({len(text)} characters)")
        kept = "" if make is printable else "\n\t"
        assert all(letter in kept or letter.isprintable() or letter.isspace() for letter in shown)
        assert "\x1b" not in shown
        if text.isprintable() and len(text) <= longest:
            assert shown == text


def test_blanks_of_other_scripts_are_kept_and_separators_of_lines_are_not() -> None:
    assert printable("a\u00a0b\u3000c") == "a\u00a0b\u3000c"
    assert printable("a\nb\u2028c\x85d\x1ce") == r"a\nb\u2028c\x85d\x1ce"
    assert printable_lines("a\r\nb\rc") == "a\nb\\rc"
