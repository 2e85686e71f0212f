"""The fixtures of the plugin, with code under test that does not know of them. The conftest loads the plugin."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

import lmstudio_async
import lmstudio_sync
from lmstudio_async.testing import HERMES, ModelsFolder, tool_call
from tests.processes import needs_proc, workers


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def test_async_code_under_test_finds_the_server(
    lmstudio_models: ModelsFolder, lmstudio_host: str
) -> None:
    lmstudio_models.add_llm("qwen3-4b", script="Forty-two.")

    async with lmstudio_async.AsyncClient() as client:
        assert client.api_host == lmstudio_host
        llm = await client.llm.model("qwen3-4b")
        assert str(await llm.respond("What is the answer?")) == "Forty-two."


@pytest.mark.parametrize("answer", ["Forty-two.", "Forty-three."])
def test_a_script_under_test_has_a_new_default_client_in_each_test(
    lmstudio_models: ModelsFolder, lmstudio_host: str, answer: str
) -> None:
    lmstudio_models.add_llm("qwen3-4b", script=answer)

    assert str(lmstudio_sync.llm("qwen3-4b").respond("What is the answer?")) == answer


def test_a_model_calls_the_tools_of_the_code_under_test(
    lmstudio_models: ModelsFolder, lmstudio_host: str
) -> None:
    lmstudio_models.add_llm(
        "tools", script=tool_call("add", a=1, b=2), then=["The sum is 3."], chat_template=HERMES
    )
    chat = lmstudio_sync.Chat()
    chat.add_user_message("What is 1 + 2?")

    lmstudio_sync.llm("tools").act(chat, [add], on_message=chat.append)

    assert [message.role for message in chat] == ["user", "assistant", "tool", "assistant"]


def test_a_program_that_the_test_starts_finds_the_server(
    lmstudio_models: ModelsFolder, lmstudio_host: str
) -> None:
    lmstudio_models.add_llm("qwen3-4b", script="Forty-two.")
    program = "import lmstudio_sync as lms; print(lms.llm().respond('What is the answer?'))"

    lmstudio_sync.llm("qwen3-4b")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )

    assert (done.stdout, done.stderr) == ("Forty-two.\n", "")


@pytest.fixture
def my_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LM_API_TOKEN", "sk-lm-abcdefgh:ABCDEFGHIJKLMNOPQRST")


@pytest.mark.usefixtures("my_token")
def test_a_token_of_the_environment_is_not_sent_to_the_server(lmstudio_host: str) -> None:
    assert "LM_API_TOKEN" not in os.environ
    assert lmstudio_sync.list_loaded_models() == []


@pytest.fixture
def nothing_is_left() -> Iterator[None]:
    """Check for worker processes after the later fixtures of the test have ended."""
    yield
    assert workers() == set()


@needs_proc
def test_the_worker_process_of_a_loaded_model_ends_with_the_test(
    nothing_is_left: None, lmstudio_models: ModelsFolder, lmstudio_host: str
) -> None:
    lmstudio_models.add_llm("qwen3-4b")
    lmstudio_sync.llm("qwen3-4b")
    assert len(workers()) == 1
