"""`act` on the embedded server: a real but tiny model calls tools through a real chat template."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import anyio
import attrs
import pytest

from lmstudio_async import AsyncClient, EmbeddedServer, LMStudioPredictionError, ToolCallProgress
from lmstudio_async.testing import HERMES, ModelsFolder, tool_call


@attrs.frozen
class Point:
    x: int
    y: int


@dataclass(frozen=True)
class Line:
    start: Point
    end: Point


class Operation(Enum):
    ADD = "add"
    MULTIPLY = "multiply"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm(
        "acme/tools-GGUF/tools-Q8_0.gguf",
        script=["Let me ", *tool_call("calculate", a=2, b=3, operation="multiply")],
        then=["The product is 6."],
        chat_template=HERMES,
    )
    folder.add_llm(
        "acme/fool-GGUF/fool-Q8_0.gguf",
        script=tool_call("divide", a=1, b=0),
        then=["I cannot do that."],
        chat_template=HERMES,
    )
    folder.add_llm(
        "acme/drawer-GGUF/drawer-Q8_0.gguf",
        script=tool_call("draw", line={"start": {"x": 1, "y": 2}, "end": {"x": 3, "y": 4}}, pen="red"),
        then=["Done."],
        chat_template=HERMES,
    )
    folder.add_llm(
        "acme/talker-GGUF/talker-Q8_0.gguf", script="on and on ", endless=True, chat_template=HERMES
    )
    return folder.folder


@pytest.fixture
async def client(models: Path) -> AsyncIterator[AsyncClient]:
    with anyio.fail_after(30):
        async with EmbeddedServer(models, threads=1) as server, AsyncClient(server) as client:
            yield client


def calculate(a: int, b: int, operation: Operation) -> int:
    """Calculate.

    :param a: one number.
    :param b: the other.
    :param operation: the operation.
    """
    return a + b if operation is Operation.ADD else a * b


async def test_a_model_calls_a_tool_and_responds_to_its_result(client: AsyncClient) -> None:
    llm = await client.llm.load_new_instance("tools", config={"context_length": 2048})
    messages: list[Any] = []
    received: list[str] = []
    result = await llm.act(
        "What is two times three?",
        [calculate],
        on_message=messages.append,
        on_prediction_fragment=lambda fragment, index: received.append(fragment.content),
    )

    assert result.rounds == 2
    assert "".join(received) == "Let me The product is 6."
    assert len(messages) == 3


async def test_a_tool_call_is_guarded_and_reported_step_by_step(client: AsyncClient) -> None:
    llm = await client.llm.load_new_instance("tools", config={"context_length": 2048})
    steps: list[ToolCallProgress] = []
    result = await llm.act(
        "What is two times three?",
        [calculate],
        on_tool_call=steps.append,
        guard_tool_call=lambda request, index: {**(request.arguments or {}), "b": 7},
    )

    assert result.rounds == 2
    assert [step.phase for step in steps if step.phase != "arguments"] == [
        "started",
        "named",
        "requested",
        "running",
        "finished",
    ]
    assert {step.name for step in steps[1:]} == {"calculate"}
    requested, running, finished = steps[-3:]
    assert requested.request is not None
    assert requested.request.arguments == {"a": 2, "b": 3, "operation": "multiply"}
    assert running.request == finished.request != requested.request
    assert finished.result == "14"


def draw(line: Line, pen: Literal["red", "blue"] = "blue", at: Point | None = None) -> str:
    """Draw a line."""
    return f"{line.end.x - line.start.x} {pen} {at}"


async def test_a_tool_receives_arguments_of_its_annotated_types(client: AsyncClient) -> None:
    llm = await client.llm.load_new_instance("drawer", config={"context_length": 2048})
    messages: list[Any] = []
    await llm.act("Draw!", [draw], on_message=messages.append)

    assert messages[1].content[0].content == '"2 red None"'


def divide(a: int, b: int = 1) -> float:
    """Divide."""
    return a / b


async def test_the_exception_of_a_tool_is_sent_to_the_model(client: AsyncClient) -> None:
    llm = await client.llm.load_new_instance("fool", config={"context_length": 2048})
    errors: list[str] = []
    messages: list[Any] = []

    def handle(error: LMStudioPredictionError, request: Any) -> None:
        errors.append(f"{request.name} {request.arguments}: {error.__cause__!r}")

    result = await llm.act(
        "Divide one by zero.",
        [divide, calculate],
        handle_invalid_tool_request=handle,
        on_message=messages.append,
    )

    assert result.rounds == 2
    assert errors == ["divide {'a': 1, 'b': 0}: ZeroDivisionError('division by zero')"]
    assert "division by zero" in str(messages[1])


async def test_cancelling_act_stops_the_model(client: AsyncClient) -> None:
    llm = await client.llm.load_new_instance("talker", config={"context_length": 2048})
    with anyio.CancelScope() as scope:
        await llm.act("Talk", [calculate], on_first_token=lambda _: scope.cancel())

    assert scope.cancelled_caught
    while (await llm.get_processing_state()).status != "idle":
        await anyio.lowlevel.checkpoint()
