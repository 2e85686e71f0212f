"""The page on completing a text."""

from __future__ import annotations

import pytest

from tests.documented.conftest import Models


def test_a_text_is_completed_and_the_completion_measured(
    models: Models, loaded: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import lmstudio_sync as lms

    model = lms.llm(loaded)
    result = model.complete("My name is", config={"maxTokens": 100})

    print(result)
    models.check_answer(capsys.readouterr().out)

    print("Model used:", result.model_info.display_name)
    print("Predicted tokens:", result.stats.predicted_tokens_count)
    print("Time to first token (seconds):", result.stats.time_to_first_token_sec)
    print("Stop reason:", result.stats.stop_reason)
    models.check_statistics(capsys.readouterr().out, max_tokens=100)


def test_a_text_is_completed_as_a_stream_in_a_scope(
    models: Models, loaded: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        model = client.llm.model(loaded)
        prediction_stream = model.complete_stream("My name is", config={"maxTokens": 100})

        for fragment in prediction_stream:
            print(fragment.content, end="", flush=True)
        print()  # Advance to a new line at the end of the response
        models.check_answer(capsys.readouterr().out)

        result = prediction_stream.result()

        print("Model used:", result.model_info.display_name)
        print("Predicted tokens:", result.stats.predicted_tokens_count)
        print("Time to first token (seconds):", result.stats.time_to_first_token_sec)
        print("Stop reason:", result.stats.stop_reason)
        models.check_statistics(capsys.readouterr().out, max_tokens=100)


async def test_a_text_is_completed_in_async_form(
    models: Models, loaded: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        model = await client.llm.model(loaded)
        result = await model.complete("My name is", config={"maxTokens": 100})
        models.check_answer(str(result))

        prediction_stream = await model.complete_stream("My name is", config={"maxTokens": 100})
        async for fragment in prediction_stream:
            print(fragment.content, end="", flush=True)
        models.check_answer(capsys.readouterr().out)

        result = prediction_stream.result()
        print("Model used:", result.model_info.display_name)
        print("Predicted tokens:", result.stats.predicted_tokens_count)
        print("Time to first token (seconds):", result.stats.time_to_first_token_sec)
        print("Stop reason:", result.stats.stop_reason)
        models.check_statistics(capsys.readouterr().out, max_tokens=100)


@pytest.mark.usefixtures("loaded")
def test_the_terminal_is_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    import lmstudio_sync as lms

    typed = iter(["ls", "exit"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed))

    model = lms.llm()
    console_history: list[str] = []

    while True:
        try:
            user_command = input("$ ")
        except EOFError:
            print()
            break
        if user_command.strip() == "exit":
            break
        console_history.append(f"$ {user_command}")
        history_prompt = "\n".join(console_history)
        prediction_stream = model.complete_stream(
            history_prompt,
            config={"stopStrings": ["$"]},
        )
        for fragment in prediction_stream:
            print(fragment.content, end="", flush=True)
        print()
        console_history.append(prediction_stream.result().content)

    command, shown = console_history
    assert command == "$ ls"
    assert "$" not in shown


@pytest.mark.usefixtures("loaded")
async def test_the_terminal_is_simulated_in_async_form(monkeypatch: pytest.MonkeyPatch) -> None:
    import lmstudio_async as lms

    typed = iter(["ls", "exit"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed))

    async with lms.AsyncClient() as client:
        model = await client.llm.model()
        console_history: list[str] = []

        while (user_command := input("$ ")).strip() != "exit":
            console_history.append(f"$ {user_command}")
            history_prompt = "\n".join(console_history)
            prediction_stream = await model.complete_stream(
                history_prompt,
                config={"stopStrings": ["$"]},
            )
            async for fragment in prediction_stream:
                print(fragment.content, end="", flush=True)
            console_history.append(prediction_stream.result().content)

    command, shown = console_history
    assert command == "$ ls"
    assert "$" not in shown
