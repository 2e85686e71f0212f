"""The pages on agents: acting, and defining tools.

A real model of this size seldom calls a tool. So the tests check tool calls with the tiny models, and with the real model
only that the programs run.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import lmstudio_sync
from tests.documented.conftest import CALM, Models


@pytest.fixture(autouse=True)
def agent(models: Models, server: str, nothing_loaded: None) -> None:
    """Load the real model with a limited context, so that its answers end."""
    if models.is_real:
        with lmstudio_sync.Client(server) as client:
            client.llm.load_new_instance(models.chat, config=CALM)


def multiply(a: float, b: float) -> float:
    """Given two numbers a and b. Returns the product of them."""
    return a * b


def add(a: int, b: int) -> int:
    """Given two numbers a and b, returns the sum of them."""
    return a + b


def is_prime(n: int) -> bool:
    """Given a number n, returns True if n is a prime number."""
    if n < 2:
        return False
    sqrt = int(math.sqrt(n))
    return all(n % i != 0 for i in range(2, sqrt + 1))


def divide(numerator: float, denominator: float) -> float:
    """Divide the given numerator by the given denominator. Return the result."""
    return numerator / denominator


def check(models: Models, result: Any, capsys: pytest.CaptureFixture[str], tool_result: str) -> None:
    """Check that the model gave an answer, and that a tiny model called a tool with this result before."""
    messages = capsys.readouterr().out.splitlines()
    assert messages[-1].startswith("AssistantResponse(content=[TextData(text=")
    assert result.total_time_seconds > 0
    if not models.is_real:
        assert result.rounds == 2
        assert [line.partition("(")[0] for line in messages] == [
            "AssistantResponse",
            "ToolResultMessage",
            "AssistantResponse",
        ]
        assert f"ToolCallResultData(content='{tool_result}'" in messages[1]


# -- one tool


def test_a_tool_is_called(models: Models, capsys: pytest.CaptureFixture[str]) -> None:
    import lmstudio_sync as lms

    model = lms.llm(models.agents["multiply"])
    result = model.act(
        "What is the result of 12345 multiplied by 54321?",
        [multiply],
        on_message=print,
    )

    check(models, result, capsys, "670592745.0")


def test_a_tool_is_called_in_a_scope(models: Models, capsys: pytest.CaptureFixture[str]) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        model = client.llm.model(models.agents["multiply"])
        result = model.act(
            "What is the result of 12345 multiplied by 54321?",
            [multiply],
            on_message=print,
        )

    check(models, result, capsys, "670592745.0")


async def test_a_tool_is_called_in_async_form(models: Models, capsys: pytest.CaptureFixture[str]) -> None:
    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        model = await client.llm.model(models.agents["multiply"])
        result = await model.act(
            "What is the result of 12345 multiplied by 54321?",
            [multiply],
            on_message=print,
        )

    check(models, result, capsys, "670592745.0")


# -- several tools


def test_one_of_several_tools_is_called(models: Models, capsys: pytest.CaptureFixture[str]) -> None:
    import lmstudio_sync as lms

    model = lms.llm(models.agents["is_prime"])
    result = model.act(
        "Is the result of 12345 + 45668 a prime? Think step by step.",
        [add, is_prime],
        on_message=print,
    )

    check(models, result, capsys, "true")


def test_one_of_several_tools_is_called_in_a_scope(
    models: Models, capsys: pytest.CaptureFixture[str]
) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        model = client.llm.model(models.agents["is_prime"])
        result = model.act(
            "Is the result of 12345 + 45668 a prime? Think step by step.",
            [add, is_prime],
            on_message=print,
        )

    check(models, result, capsys, "true")


async def test_one_of_several_tools_is_called_in_async_form(
    models: Models, capsys: pytest.CaptureFixture[str]
) -> None:
    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        model = await client.llm.model(models.agents["is_prime"])
        result = await model.act(
            "Is the result of 12345 + 45668 a prime? Think step by step.",
            [add, is_prime],
            on_message=print,
        )

    check(models, result, capsys, "true")


# -- a conversation with a tool that has a side effect


def create_file(name: str, content: str) -> str:
    """Create a file with the given name and content."""
    dest_path = Path(name)
    if dest_path.exists():
        return "Error: File already exists."
    try:
        dest_path.write_text(content, encoding="utf-8")
    except Exception as exc:  # noqa: BLE001 - as documented
        return f"Error: {exc!r}"
    return "File created."


def print_fragment(fragment: lmstudio_sync.LlmPredictionFragment, round_index: int = 0) -> None:
    # .act() supplies the round index as the second parameter
    # Setting a default value means the callback is also
    # compatible with .complete() and .respond().
    print(fragment.content, end="", flush=True)


@pytest.fixture
def at_the_keyboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated keyboard input, in an empty folder."""
    typed = iter(["Please create a file named output.txt with your understanding of life.", ""])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed))


def check_conversation(
    models: Models, chat: lmstudio_sync.Chat, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert capsys.readouterr().out.startswith("Bot: ")
    assert chat[-1].role == "assistant"
    if not models.is_real:
        assert (folder / "output.txt").read_text(encoding="utf-8") == "The meaning"
        assert [message.role for message in chat] == ["system", "user", "assistant", "tool", "assistant"]


@pytest.mark.usefixtures("at_the_keyboard")
def test_a_conversation_with_a_tool_that_creates_files(
    models: Models, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import lmstudio_sync as lms

    model = lms.llm(models.agents["create_file"])
    chat = lms.Chat("You are a task focused AI assistant")

    while True:
        try:
            user_input = input("You (leave blank to exit): ")
        except EOFError:
            print()
            break
        if not user_input:
            break
        chat.add_user_message(user_input)
        print("Bot: ", end="", flush=True)
        model.act(
            chat,
            [create_file],
            on_message=chat.append,
            on_prediction_fragment=print_fragment,
        )
        print()

    check_conversation(models, chat, tmp_path, capsys)


@pytest.mark.usefixtures("at_the_keyboard")
def test_a_conversation_with_a_tool_that_creates_files_in_a_scope(
    models: Models, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        model = client.llm.model(models.agents["create_file"])
        chat = lms.Chat("You are a task focused AI assistant")

        while user_input := input("You (leave blank to exit): "):
            chat.add_user_message(user_input)
            print("Bot: ", end="", flush=True)
            model.act(
                chat,
                [create_file],
                on_message=chat.append,
                on_prediction_fragment=print_fragment,
            )
            print()

    check_conversation(models, chat, tmp_path, capsys)


@pytest.mark.usefixtures("at_the_keyboard")
async def test_a_conversation_with_a_tool_that_creates_files_in_async_form(
    models: Models, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        model = await client.llm.model(models.agents["create_file"])
        chat = lms.Chat("You are a task focused AI assistant")

        while user_input := input("You (leave blank to exit): "):
            chat.add_user_message(user_input)
            print("Bot: ", end="", flush=True)
            await model.act(
                chat,
                [create_file],
                on_message=chat.append,
                on_prediction_fragment=print_fragment,
            )
            print()

    check_conversation(models, chat, tmp_path, capsys)


# -- ways to define a tool


def cryptic_name(a, b):  # type: ignore[no-untyped-def]
    return a + b


def cryptic_name_with_hints(a: int, b: int) -> int:
    return a + b


DESCRIPTION = "Given two numbers a and b, returns the sum of them."


@pytest.mark.parametrize(
    "tool_def",
    [
        add,
        lmstudio_sync.ToolFunctionDef.from_callable(
            cryptic_name_with_hints, name="add", description=DESCRIPTION
        ),
        lmstudio_sync.ToolFunctionDef(
            name="add",
            description=DESCRIPTION,
            parameters={
                "a": int,
                "b": int,
            },
            implementation=cryptic_name,
        ),
        {
            "name": "add",
            "description": DESCRIPTION,
            "parameters": {"a": int, "b": {"type": int, "default": 1}},
            "implementation": cryptic_name,
        },
    ],
)
def test_a_tool_can_be_defined_in_each_way(
    models: Models, tool_def: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    import lmstudio_sync as lms

    model = lms.llm(models.agents["add"])
    result = model.act("What is 377 plus 568?", [tool_def], on_message=print)

    check(models, result, capsys, "945")


# -- tools that fail


def test_error_of_a_tool_is_sent_to_the_model(models: Models, capsys: pytest.CaptureFixture[str]) -> None:
    import lmstudio_sync as lms

    model = lms.llm(models.agents["divide"])
    chat = lms.Chat()
    chat.add_user_message("Attempt to divide 1 by 0 using the tool. Explain the result.")
    model.act(chat, [divide], on_message=print)

    printed = capsys.readouterr().out
    assert models.is_real or "Unhandled Python exception: ZeroDivisionError" in printed


def test_error_of_a_tool_can_be_raised_by_act(models: Models) -> None:
    import lmstudio_sync as lms

    def _raise_exc_in_client(exc: lms.LMStudioPredictionError, request: lms.ToolCallRequest | None) -> None:
        raise exc

    model = lms.llm(models.agents["divide"])
    chat = lms.Chat()
    chat.add_user_message("Attempt to divide 1 by 0 using the tool. Explain the result.")
    caught: lms.LMStudioPredictionError | None = None
    try:
        model.act(
            chat,
            [divide],
            handle_invalid_tool_request=_raise_exc_in_client,
        )
    except lms.LMStudioPredictionError as error:
        caught = error

    assert models.is_real or caught is not None
    assert caught is None or isinstance(caught.__cause__, ZeroDivisionError)


def test_error_of_a_tool_is_sent_to_the_model_in_a_scope(
    models: Models, capsys: pytest.CaptureFixture[str]
) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        model = client.llm.model(models.agents["divide"])
        chat = lms.Chat()
        chat.add_user_message("Attempt to divide 1 by 0 using the tool. Explain the result.")
        model.act(chat, [divide], on_message=print)

    printed = capsys.readouterr().out
    assert models.is_real or "Unhandled Python exception: ZeroDivisionError" in printed


async def test_error_of_a_tool_can_be_raised_by_act_in_async_form(models: Models) -> None:
    import lmstudio_async as lms

    def _raise_exc_in_client(exc: lms.LMStudioPredictionError, request: lms.ToolCallRequest | None) -> None:
        raise exc

    async with lms.AsyncClient() as client:
        model = await client.llm.model(models.agents["divide"])
        caught: lms.LMStudioPredictionError | None = None
        try:
            await model.act(
                "Attempt to divide 1 by 0 using the tool. Explain the result.",
                [divide],
                handle_invalid_tool_request=_raise_exc_in_client,
            )
        except lms.LMStudioPredictionError as error:
            caught = error

        assert models.is_real or caught is not None
        assert caught is None or isinstance(caught.__cause__, ZeroDivisionError)
