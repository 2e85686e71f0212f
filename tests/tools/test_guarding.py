"""`guard_tool_call`, which decides whether a tool runs, and `on_tool_call`, which reports each step."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from lmstudio_async import AsyncLLM, Chat, LMStudioPredictionError, LMStudioValueError, ToolCallRequest
from tests.scripted_server import ScriptedServer
from tests.tools.conversation import acting, answer_and_close, call, history_of, results_of

deleted: list[str] = []


@pytest.fixture(autouse=True)
def nothing_deleted() -> None:
    deleted.clear()


def delete(path: str) -> str:
    """Delete a file."""
    deleted.append(path)
    return "done"


async def test_an_allowed_call_is_made(llm: AsyncLLM, server: ScriptedServer) -> None:
    asked: list[Any] = []

    def allow(request: ToolCallRequest, round_index: int) -> bool:
        asked.append((request.name, request.arguments, round_index, list(deleted)))
        return True

    async with acting(llm, [delete], guard_tool_call=allow):
        await answer_and_close(server, call("delete", 1, path="a"))
        second = await answer_and_close(server, call("delete", 2, path="b"))
        await answer_and_close(server, "Done")

    assert asked == [("delete", {"path": "a"}, 0, []), ("delete", {"path": "b"}, 1, ["a"])]
    assert deleted == ["a", "b"]
    assert results_of(second) == ['"done"']


@pytest.mark.parametrize(
    ("verdict", "text"), [("Not that one.", "Not that one."), (False, "The call of 'delete' was refused.")]
)
async def test_the_reason_of_a_refused_call_is_sent_to_the_model(
    llm: AsyncLLM, server: ScriptedServer, verdict: Any, text: str
) -> None:
    invalid: list[Any] = []

    async def refuse(request: ToolCallRequest, round_index: int) -> Any:
        await anyio.lowlevel.checkpoint()
        return verdict

    async with acting(
        llm,
        [delete],
        guard_tool_call=refuse,
        handle_invalid_tool_request=lambda error, request: invalid.append(error),
    ) as outcome:
        await answer_and_close(server, call("delete", path="a"))
        second = await answer_and_close(server, "Fine.")

    assert outcome.result.rounds == 2
    assert results_of(second) == [text]
    assert deleted == invalid == []


async def test_a_guard_can_change_the_arguments_and_the_chat_has_the_changed_ones(
    llm: AsyncLLM, server: ScriptedServer
) -> None:
    chat = Chat("You tidy up.")
    chat.add_user_message("go")

    async with acting(
        llm,
        [delete],
        chat=chat.copy(),
        on_message=chat.append,
        guard_tool_call=lambda request, index: {"path": f"trash/{request.arguments['path']}"},
    ):
        await answer_and_close(server, "Well. ", call("delete", path="a"))
        second = await answer_and_close(server, "Done")

    assert deleted == ["trash/a"]
    text, request = history_of(second)[2]["content"]
    assert text["text"] == "Well. "
    assert request["toolCallRequest"]["arguments"] == {"path": "trash/a"}
    assert [message.role for message in chat] == ["system", "user", "assistant", "tool", "assistant"]


async def test_the_guard_is_not_called_for_an_invalid_call(llm: AsyncLLM, server: ScriptedServer) -> None:
    asked: list[ToolCallRequest] = []

    def guard(request: ToolCallRequest, round_index: int) -> bool:
        asked.append(request)
        return True

    async with acting(llm, [delete], guard_tool_call=guard):
        await answer_and_close(server, call("format", disk=0), call("delete", file="a"))
        second = await answer_and_close(server, "Oh.")

    assert asked == []
    assert [
        "There is no tool" in results_of(second)[0],
        "These arguments do not fit" in results_of(second)[1],
    ] == [
        True,
        True,
    ]


@pytest.mark.parametrize("verdict", [None, 1, "", ["path"], {"file": "b"}])
async def test_a_guard_that_returns_no_decision_is_an_error(
    llm: AsyncLLM, server: ScriptedServer, verdict: Any
) -> None:
    async with acting(llm, [delete], guard_tool_call=lambda request, index: verdict) as outcome:
        await answer_and_close(server, call("delete", path="a"))

    assert isinstance(outcome.error, LMStudioValueError)
    assert "guard_tool_call" in str(outcome.error)
    assert deleted == []


async def test_an_exception_of_a_guard_ends_act(llm: AsyncLLM, server: ScriptedServer) -> None:
    def guard(request: ToolCallRequest, round_index: int) -> bool:
        raise PermissionError(request.name)

    async with acting(llm, [delete], guard_tool_call=guard) as outcome:
        await answer_and_close(server, call("delete", path="a"))

    assert isinstance(outcome.error, PermissionError)
    assert deleted == []


# -- reporting the steps of calls


async def test_on_tool_call_reports_each_step_of_a_call(llm: AsyncLLM, server: ScriptedServer) -> None:
    steps: list[Any] = []

    async with acting(llm, [delete], on_tool_call=steps.append):
        channel = await server.next_message()
        await server.packet(channel, type="toolCallGenerationStart")
        await server.packet(channel, type="toolCallGenerationNameReceived", name="delete")
        for piece in ('{"path": ', '"a"}'):
            await server.packet(channel, type="toolCallGenerationArgumentFragmentGenerated", content=piece)
        await server.packet(
            channel,
            type="toolCallGenerationEnd",
            toolCallRequest=call("delete", path="a"),
            rawContent='delete({"path": "a"})',
        )
        await server.packet(channel, type="success", stats={"stopReason": "toolCalls"})
        await server.close(channel)
        await answer_and_close(server, "Done")

    assert [step.phase for step in steps] == [
        "started",
        "named",
        "arguments",
        "arguments",
        "requested",
        "running",
        "finished",
    ]
    assert "".join(step.fragment for step in steps) == '{"path": "a"}'
    assert [step.name for step in steps] == ["", *["delete"] * 6]
    requested, running, finished = steps[4:]
    assert requested.request.arguments == running.request.arguments == {"path": "a"}
    assert requested.raw_content == 'delete({"path": "a"})'
    assert (finished.result, finished.error) == ('"done"', None)


async def test_calls_are_numbered_through_all_rounds(llm: AsyncLLM, server: ScriptedServer) -> None:
    steps: list[Any] = []

    async with acting(llm, [delete], on_tool_call=steps.append):
        await answer_and_close(server, call("delete", 1, path="a"), call("delete", 2, path="b"))
        await answer_and_close(server, call("delete", 3, path="c"))
        await answer_and_close(server, "Done")

    finished = [step for step in steps if step.phase == "finished"]
    assert [(step.call_id, step.round_index, step.request.id) for step in finished] == [
        (0, 0, "c1"),
        (1, 0, "c2"),
        (2, 1, "c3"),
    ]
    # The server sends no name beforehand here, so the name comes with the whole request.
    assert [step.phase for step in steps if step.call_id == 2] == [
        "started",
        "named",
        "requested",
        "running",
        "finished",
    ]


async def test_the_last_step_of_a_call_that_does_not_run_has_the_reason(
    llm: AsyncLLM, server: ScriptedServer
) -> None:
    steps: list[Any] = []

    async with acting(
        llm, [delete], on_tool_call=steps.append, guard_tool_call=lambda request, index: "Not now."
    ):
        await answer_and_close(server, call("delete", path="a"), call("format", disk=0))
        await answer_and_close(server, "Done")

    assert "running" not in [step.phase for step in steps]
    refused, unknown = (step for step in steps if step.phase == "finished")
    assert refused.result == "Not now."
    assert isinstance(refused.error, LMStudioPredictionError)
    assert "no tool called 'format'" in str(unknown.error)


async def test_the_last_step_of_a_tool_that_fails_has_its_error(
    llm: AsyncLLM, server: ScriptedServer
) -> None:
    steps: list[Any] = []

    def fail() -> None:
        """Fail."""
        raise OSError("disk full")

    async with acting(llm, [fail], on_tool_call=steps.append):
        await answer_and_close(server, call("fail"))
        await answer_and_close(server, "Done")

    assert isinstance(steps[-1].error.__cause__, OSError)
    assert "disk full" in steps[-1].result


async def test_a_request_that_the_model_cannot_finish_is_reported_as_failed(
    llm: AsyncLLM, server: ScriptedServer
) -> None:
    steps: list[Any] = []

    async with acting(llm, [delete], on_tool_call=steps.append) as outcome:
        channel = await server.next_message()
        await server.packet(channel, type="toolCallGenerationStart")
        await server.packet(
            channel, type="toolCallGenerationFailed", error={"title": "no JSON"}, rawContent="delete(("
        )
        assert (await server.next_message())["message"] == {"type": "cancel"}
        await server.close(channel)

    assert [(step.phase, step.raw_content) for step in steps] == [("started", None), ("failed", "delete((")]
    assert steps[-1].error is outcome.error


async def test_a_call_in_the_last_round_is_reported_as_failed(llm: AsyncLLM, server: ScriptedServer) -> None:
    steps: list[Any] = []

    async with acting(llm, [delete], on_tool_call=steps.append, max_prediction_rounds=1) as outcome:
        await answer_and_close(server, call("delete", path="a"))

    assert [step.phase for step in steps] == ["started", "failed"]
    assert steps[-1].error is outcome.error
