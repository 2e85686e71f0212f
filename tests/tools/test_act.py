"""`act` with a scripted server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import anyio.from_thread
import pytest

from lmstudio_async import (
    ActResult,
    AsyncLLM,
    Chat,
    LMStudioPredictionError,
    LMStudioServerError,
    LMStudioValueError,
    PredictionRoundResult,
    ToolCallRequest,
    ToolFunctionDef,
)
from lmstudio_async._wire._struct import write
from tests.scripted_server import ScriptedServer
from tests.tools.conversation import acting, answer, answer_and_close, call, config_of, history_of, results_of


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def boom() -> None:
    """Fail."""
    raise ZeroDivisionError("boom")


# -- rounds


async def test_act_calls_a_tool_and_sends_its_result_to_the_model(
    llm: AsyncLLM, server: ScriptedServer
) -> None:
    async with acting(llm, [add]) as outcome:
        first = await answer_and_close(server, "Let me ", "see.", call("add", 7, a=1, b=2))
        second = await answer_and_close(server, "It is 3.")

    assert outcome.result == ActResult(2, outcome.result.total_time_seconds)
    assert outcome.result.total_time_seconds >= 0
    user = {"role": "user", "content": [{"type": "text", "text": "go"}]}
    request = {"id": "c7", "type": "function", "name": "add", "arguments": {"a": 1, "b": 2}}
    assert history_of(first) == [user]
    assert history_of(second) == [
        user,
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Let me see."},
                {"type": "toolCallRequest", "toolCallRequest": request},
            ],
        },
        {
            "role": "tool",
            "content": [{"type": "toolCallResult", "content": "3", "toolCallId": "c7", "name": "add"}],
        },
    ]


async def test_act_sends_the_definitions_of_the_tools(llm: AsyncLLM, server: ScriptedServer) -> None:
    async with acting(llm, [add], config={"temperature": 0.5}, preset="mine"):
        channel = await answer_and_close(server, "No.")

    tools = config_of(channel)["llm.prediction.tools"]
    assert tools["type"] == "toolArray"
    assert [tool["function"]["name"] for tool in tools["tools"]] == ["add"]
    assert config_of(channel)["llm.prediction.temperature"] == 0.5
    assert channel["creationParameter"]["fuzzyPresetIdentifier"] == "mine"


async def test_the_last_round_has_no_tools(llm: AsyncLLM, server: ScriptedServer) -> None:
    async with acting(llm, [add], max_prediction_rounds=2, config={"tool_choice": "required"}) as outcome:
        first = await answer_and_close(server, call("add", a=1, b=2))
        second = await answer_and_close(server, "3")

    assert outcome.result.rounds == 2
    assert config_of(first)["llm.prediction.toolChoice"]["mode"] == "required"
    assert config_of(second)["llm.prediction.tools"] == {"type": "none"}
    assert config_of(second)["llm.prediction.toolChoice"]["mode"] == "auto"


async def test_a_tool_call_in_the_last_round_is_an_error(llm: AsyncLLM, server: ScriptedServer) -> None:
    received: list[Any] = []

    def handle(error: LMStudioPredictionError, request: ToolCallRequest | None) -> str:
        received.append((error, request))
        return "never sent"

    async with acting(llm, [add], max_prediction_rounds=1, handle_invalid_tool_request=handle) as outcome:
        channel = await answer(server, call("add", a=1, b=2))
        assert (await server.next_message())["message"] == {"type": "cancel"}
        await server.close(channel)

    assert isinstance(outcome.error, LMStudioPredictionError)
    assert "last round" in str(outcome.error)
    assert received == [(outcome.error, None)]


async def test_a_tool_call_that_the_model_could_not_finish_is_an_error(
    llm: AsyncLLM, server: ScriptedServer
) -> None:
    received: list[Any] = []
    handler: Callable[..., None] = lambda *args: received.append(args)  # noqa: E731
    async with acting(llm, [add], handle_invalid_tool_request=handler) as outcome:
        channel = await answer(server)
        await server.packet(channel, type="toolCallGenerationFailed", error={"title": "no such syntax"})
        assert (await server.next_message())["message"] == {"type": "cancel"}
        await server.close(channel)

    assert isinstance(outcome.error, LMStudioPredictionError)
    assert "no such syntax" in str(outcome.error)
    assert received == [(outcome.error, None)]


@pytest.mark.parametrize("name", ["max_prediction_rounds", "max_parallel_tool_calls"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "1"])
async def test_limits_are_whole_numbers_of_at_least_one(llm: AsyncLLM, name: str, value: Any) -> None:
    with pytest.raises(LMStudioValueError, match=name):
        await llm.act("go", [add], **{name: value})


@pytest.mark.parametrize(
    "name", ["on_message", "on_tool_call", "guard_tool_call", "handle_invalid_tool_request"]
)
async def test_a_callback_that_cannot_be_called_is_refused(llm: AsyncLLM, name: str) -> None:
    arguments: dict[str, Any] = {name: "print"}
    with pytest.raises(LMStudioValueError, match=f"{name} must be a function, plain or async, not 'print'"):
        await llm.act("go", [add], **arguments)


async def test_act_does_not_change_its_chat(llm: AsyncLLM, server: ScriptedServer) -> None:
    chat = [{"role": "user", "content": "go"}]
    async with acting(llm, [add], chat=chat):
        await answer_and_close(server, call("add", a=1, b=2))
        await answer_and_close(server, "3")

    assert chat == [{"role": "user", "content": "go"}]


async def test_a_chat_grows_if_on_message_appends_to_it(llm: AsyncLLM, server: ScriptedServer) -> None:
    chat = Chat("You are good at sums.")
    chat.add_user_message("What is one and two?")
    async with acting(llm, [add], chat=chat, on_message=chat.append):
        await answer_and_close(server, call("add", 7, a=1, b=2))
        second = await answer_and_close(server, "It is 3.")

    assert [message.role for message in chat] == ["system", "user", "assistant", "tool", "assistant"]
    assert [write(message) for message in chat[:-1]] == history_of(second)


async def test_act_refuses_raw_tools(llm: AsyncLLM) -> None:
    with pytest.raises(LMStudioValueError, match="raw_tools"):
        await llm.act("go", [add], config={"raw_tools": {"type": "none"}})


# -- callbacks


async def test_callbacks_receive_all_events_in_order(llm: AsyncLLM, server: ScriptedServer) -> None:
    heard: list[Any] = []

    def hear(name: str) -> Callable[..., None]:
        def record(*args: Any) -> None:
            heard.append((name, *args))

        return record

    async def on_message(message: Any) -> None:
        heard.append(("message", type(message).__name__))

    async with acting(
        llm,
        [add],
        on_message=on_message,
        on_first_token=hear("first"),
        on_prediction_fragment=lambda fragment, index: heard.append(("fragment", fragment.content, index)),
        on_round_start=hear("start"),
        on_round_end=hear("end"),
        on_prediction_completed=lambda result: heard.append(
            ("completed", result.content, result.round_index)
        ),
        on_prompt_processing_progress=hear("progress"),
    ):
        await answer_and_close(server, 0.5, 0.5, 1.0, "One ", "two", call("add", a=1, b=2))
        await answer_and_close(server, "Done")

    assert [event for event in heard if event[0] != "message"] == [
        ("start", 0),
        ("progress", 0.0, 0),
        ("progress", 0.5, 0),
        ("progress", 1.0, 0),
        ("first", 0),
        ("fragment", "One ", 0),
        ("fragment", "two", 0),
        ("completed", "One two", 0),
        ("end", 0),
        ("start", 1),
        ("progress", 0.0, 1),
        ("progress", 1.0, 1),
        ("first", 1),
        ("fragment", "Done", 1),
        ("completed", "Done", 1),
        ("end", 1),
    ]
    assert [event for event in heard if event[0] in ("message", "completed", "end")][:4] == [
        ("completed", "One two", 0),
        ("message", heard[heard.index(("completed", "One two", 0)) + 1][1]),
        ("message", heard[heard.index(("end", 0)) - 1][1]),
        ("end", 0),
    ]
    assert sum(event[0] == "message" for event in heard) == 3


async def test_on_prediction_completed_receives_the_full_result_of_a_round(
    llm: AsyncLLM, server: ScriptedServer
) -> None:
    results: list[PredictionRoundResult] = []
    async with acting(llm, [add], on_prediction_completed=results.append):
        await answer_and_close(server, "Hello")

    (result,) = results
    assert (result.content, result.round_index) == ("Hello", 0)
    assert result.stats.predicted_tokens_count == 3
    assert result.model_info.identifier == "qwen3-4b"


@pytest.mark.parametrize(
    "name",
    ["on_round_start", "on_prediction_fragment", "on_prediction_completed", "on_message", "on_round_end"],
)
async def test_an_exception_of_a_callback_is_raised_unchanged(
    llm: AsyncLLM, server: ScriptedServer, name: str
) -> None:
    error = KeyError("mine")

    def refuse(*_: Any) -> None:
        raise error

    async with acting(llm, [add], **{name: refuse}) as outcome, anyio.create_task_group() as tasks:
        if name != "on_round_start":
            channel = await answer(server, "Hello")
            if name == "on_prediction_fragment":
                assert (await server.next_message())["message"] == {"type": "cancel"}
            else:
                await server.packet(channel, type="success", stats={})
            await server.close(channel)
        tasks.cancel_scope.cancel()

    assert outcome.error is error
    assert error.__notes__ == [f"Raised by the callback {name}."]


@pytest.mark.parametrize("name", ["guard_tool_call", "handle_invalid_tool_request", "on_tool_call"])
async def test_an_error_out_of_a_callback_about_a_tool_call_names_the_callback(
    llm: AsyncLLM, server: ScriptedServer, name: str
) -> None:
    error = KeyError("mine")

    async def refuse(*about: Any) -> None:
        if name != "on_tool_call" or about[0].phase == "running":
            raise error

    async with acting(llm, [boom], **{name: refuse}) as outcome, anyio.create_task_group() as tasks:
        await answer_and_close(server, call("boom"))
        tasks.cancel_scope.cancel()

    assert outcome.error is error
    assert error.__notes__ == [f"Raised by the callback {name}."]


async def test_a_tool_may_return_a_dict_with_numbers_as_keys(llm: AsyncLLM, server: ScriptedServer) -> None:
    def menu() -> dict[int, str]:
        """Tell what there is."""
        return {1: "tea", 2: "cake"}

    async with acting(llm, [menu]):
        await answer_and_close(server, call("menu"))
        second = await answer_and_close(server, "Tea, please.")

    assert results_of(second) == ['{"1": "tea", "2": "cake"}']


# -- tools that fail


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (call("boom"), "\"Unhandled Python exception: ZeroDivisionError('boom')\""),
        (call("nothing"), "There is no tool called 'nothing'. There are: boom, add."),
        (call("add", a=1), "These arguments do not fit 'add': arguments: 'b' is missing"),
    ],
)
async def test_the_failure_of_a_tool_call_is_sent_to_the_model(
    llm: AsyncLLM, server: ScriptedServer, request_: dict[str, Any], text: str
) -> None:
    async with acting(llm, [boom, add]) as outcome:
        await answer_and_close(server, request_)
        second = await answer_and_close(server, "Sorry.")

    assert results_of(second) == [text]
    assert outcome.result.rounds == 2


async def test_a_handler_can_replace_the_text_for_the_model(llm: AsyncLLM, server: ScriptedServer) -> None:
    errors: list[tuple[LMStudioPredictionError, ToolCallRequest | None]] = []

    async def handle(error: LMStudioPredictionError, request: ToolCallRequest | None) -> str | None:
        errors.append((error, request))
        return "Use your head." if request and request.name == "boom" else None

    async with acting(llm, [boom, add], handle_invalid_tool_request=handle):
        await answer_and_close(server, call("boom"), call("other"))
        second = await answer_and_close(server, "Sorry.")

    assert results_of(second) == ["Use your head.", "There is no tool called 'other'. There are: boom, add."]
    assert [request.name for _, request in errors if request] == ["boom", "other"]
    assert isinstance(errors[0][0].__cause__, ZeroDivisionError)
    assert errors[0][0].__cause__.__notes__ == ["Raised by the tool 'boom'."]


async def test_an_exception_of_a_handler_is_raised_and_cancels_the_prediction(
    llm: AsyncLLM, server: ScriptedServer
) -> None:
    def handle(error: LMStudioPredictionError, request: ToolCallRequest | None) -> None:
        raise error

    async with acting(llm, [boom], handle_invalid_tool_request=handle) as outcome:
        channel = await answer(server, call("boom"))
        assert (await server.next_message())["message"] == {"type": "cancel"}
        await server.close(channel)

    assert isinstance(outcome.error, LMStudioPredictionError)
    assert isinstance(outcome.error.__cause__, ZeroDivisionError)


async def test_a_handler_may_raise_after_the_end_of_the_prediction(
    llm: AsyncLLM, server: ScriptedServer
) -> None:
    answered = anyio.Event()

    async def fail() -> None:
        """Fail in the end."""
        await answered.wait()
        raise KeyError("mine")

    def handle(error: LMStudioPredictionError, _: ToolCallRequest | None) -> None:
        assert error.__cause__ is not None
        raise error.__cause__

    completed = lambda _: answered.set()  # noqa: E731
    async with acting(
        llm, [fail], handle_invalid_tool_request=handle, on_prediction_completed=completed
    ) as outcome:
        await answer_and_close(server, call("fail"))

    assert isinstance(outcome.error, KeyError)


async def test_a_handler_must_return_a_text_or_none(llm: AsyncLLM, server: ScriptedServer) -> None:
    async with acting(llm, [boom], handle_invalid_tool_request=lambda *_: 5) as outcome:
        await answer_and_close(server, call("boom"))

    assert isinstance(outcome.error, LMStudioValueError)


async def test_a_result_without_a_json_form_is_a_failure(llm: AsyncLLM, server: ScriptedServer) -> None:
    tool = ToolFunctionDef("make", "Make something", {}, object)
    async with acting(llm, [tool]):
        await answer_and_close(server, call("make"))
        second = await answer_and_close(server, "Sorry.")

    assert "has no JSON form" in results_of(second)[0]


async def test_a_failed_prediction_cancels_the_tools_of_its_round(
    llm: AsyncLLM, server: ScriptedServer
) -> None:
    began, ended = anyio.Event(), anyio.Event()

    async def wait() -> None:
        """Wait for ever."""
        began.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    async with acting(llm, [wait]) as outcome:
        channel = await answer(server, call("wait"))
        await began.wait()
        await server.fail(channel, "out of memory")

    assert ended.is_set()
    assert isinstance(outcome.error, LMStudioServerError)
    assert "out of memory" in str(outcome.error)
