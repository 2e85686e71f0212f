"""What the documentation of the official package shows of agents and tools, with the same calls and arguments."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import lmstudio_async
import lmstudio_sync as lms
from tests.tiny_gguf import HERMES, ModelsFolder, tool_call


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    for name, request, answer in (
        ("qwen2.5-7b-instruct", tool_call("multiply", a=12345, b=54321), "670592745, obviously."),
        ("sums", tool_call("add", a=377, b=568), "That makes 945."),
        ("writer", tool_call("create_file", name="output.txt", content="The meaning"), "I wrote it."),
        ("divider", tool_call("divide", numerator=1, denominator=0), "That cannot be done."),
    ):
        folder.add_llm(
            f"qwen/{name}-GGUF/{name}-Q8_0.gguf", script=request, then=[answer], chat_template=HERMES
        )
    return folder.folder


@pytest.fixture(scope="module")
def client(models: Path) -> Iterator[lms.Client]:
    with lms.Client(lmstudio_async.EmbeddedServer(models, threads=1)) as client:
        yield client


@pytest.fixture
async def async_client(models: Path) -> AsyncIterator[lmstudio_async.AsyncClient]:
    server = lmstudio_async.EmbeddedServer(models, threads=1)
    with anyio.fail_after(30):
        async with lmstudio_async.AsyncClient(server) as client:
            yield client


def multiply(a: float, b: float) -> float:
    """Given two numbers a and b. Returns the product of them."""
    return a * b


def add(a: int, b: int) -> int:
    """Given two numbers a and b, returns the sum of them."""
    return a + b


def divide(numerator: float, denominator: float) -> float:
    """Divide the given numerator by the given denominator. Return the result."""
    return numerator / denominator


def text_of(messages: list[Any]) -> str:
    return " ".join(str(part) for message in messages for part in message.content)


def test_the_automatic_tool_call(client: lms.Client) -> None:
    messages: list[Any] = []
    model = client.llm.model("qwen2.5-7b-instruct", config={"contextLength": 1024})
    result = model.act(
        "What is the result of 12345 multiplied by 54321?", [multiply], on_message=messages.append
    )

    assert result.rounds == 2
    assert "670592745.0" in text_of(messages)


async def test_the_automatic_tool_call_in_async_form(async_client: lmstudio_async.AsyncClient) -> None:
    messages: list[Any] = []
    model = await async_client.llm.model("qwen2.5-7b-instruct", config={"contextLength": 1024})
    result = await model.act(
        "What is the result of 12345 multiplied by 54321?", [multiply], on_message=messages.append
    )

    assert result.rounds == 2
    assert "670592745.0" in text_of(messages)


@pytest.mark.parametrize(
    "tool",
    [
        add,
        lms.ToolFunctionDef.from_callable(add, name="add"),
        lms.ToolFunctionDef(
            name="add",
            description="Given two numbers a and b, returns the sum of them.",
            parameters={"a": int, "b": int},
            implementation=add,
        ),
        {
            "name": "add",
            "description": "Given two numbers a and b, returns the sum of them.",
            "parameters": {"a": int, "b": {"type": int, "default": 1}},
            "implementation": add,
        },
    ],
)
def test_tools_can_be_defined_in_each_documented_way(client: lms.Client, tool: Any) -> None:
    messages: list[Any] = []
    model = client.llm.model("sums", config={"contextLength": 1024})
    model.act("What is 377 plus 568?", [tool], on_message=messages.append)

    assert "945" in text_of(messages[1:2])


def test_a_tool_may_have_effects_on_the_world(client: lms.Client, tmp_path: Path) -> None:
    def create_file(name: str, content: str) -> str:
        """Create a file with the given name and content."""
        dest_path = tmp_path / name
        if dest_path.exists():
            return "Error: File already exists."
        dest_path.write_text(content, encoding="utf-8")
        return "File created."

    model = client.llm.model("writer", config={"contextLength": 1024})
    model.act("Please create a file named output.txt with your understanding of life.", [create_file])

    assert (tmp_path / "output.txt").read_text(encoding="utf-8") == "The meaning"


def test_a_conversation_goes_on_with_the_chat_that_grew(
    client: lms.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    def print_fragment(fragment: lms.LlmPredictionFragment, round_index: int = 0) -> None:
        print(fragment.content, end="", flush=True)  # noqa: T201 - as documented

    model = client.llm.model("sums", config={"contextLength": 1024})
    chat = lms.Chat("You are a task focused AI assistant")
    chat.add_user_message("What is 377 plus 568?")
    model.act(chat, [add], on_message=chat.append, on_prediction_fragment=print_fragment)

    assert capsys.readouterr().out == "That makes 945."
    assert [message.role for message in chat] == ["system", "user", "assistant", "tool", "assistant"]
    chat.add_user_message("And the half of it?")
    assert model.respond(chat).content


def test_a_tool_that_raises_is_told_to_the_model(client: lms.Client) -> None:
    chat = lms.Chat()
    chat.add_user_message("Attempt to divide 1 by 0 using the tool. Explain the result.")
    model = client.llm.model("divider", config={"contextLength": 1024})
    model.act(chat, [divide], on_message=chat.append)

    assert "Unhandled Python exception: ZeroDivisionError" in text_of([chat[2]])


def test_a_handler_can_raise_what_a_tool_raised(client: lms.Client) -> None:
    def raise_exc_in_client(exc: lms.LMStudioPredictionError, request: lms.ToolCallRequest | None) -> None:
        raise exc

    model = client.llm.model("divider", config={"contextLength": 1024})
    with pytest.raises(lms.LMStudioPredictionError) as caught:
        model.act(
            "Attempt to divide 1 by 0 using the tool. Explain the result.",
            [divide],
            handle_invalid_tool_request=raise_exc_in_client,
        )

    assert isinstance(caught.value.__cause__, ZeroDivisionError)


async def test_a_handler_can_raise_what_a_tool_raised_in_async_form(
    async_client: lmstudio_async.AsyncClient,
) -> None:
    def raise_exc_in_client(exc: lms.LMStudioPredictionError, request: lms.ToolCallRequest | None) -> None:
        raise exc

    model = await async_client.llm.model("divider", config={"contextLength": 1024})
    with pytest.raises(lms.LMStudioPredictionError, match="ZeroDivisionError"):
        await model.act(
            "Attempt to divide 1 by 0 using the tool. Explain the result.",
            [divide],
            handle_invalid_tool_request=raise_exc_in_client,
        )
