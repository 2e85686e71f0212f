"""The pages on chats, on working with chats, and on cancelling."""

from __future__ import annotations

import pytest

from tests.documented.conftest import Models

pytestmark = pytest.mark.usefixtures("loaded")


# -- a quick answer


def test_an_answer_from_any_model(models: Models, capsys: pytest.CaptureFixture[str]) -> None:
    import lmstudio_sync as lms

    model = lms.llm()
    print(model.respond("What is the meaning of life?"))

    models.check_answer(capsys.readouterr().out)


def test_an_answer_in_a_scope(models: Models, capsys: pytest.CaptureFixture[str]) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        model = client.llm.model()
        print(model.respond("What is the meaning of life?"))

    models.check_answer(capsys.readouterr().out)


async def test_an_answer_in_async_form(models: Models, capsys: pytest.CaptureFixture[str]) -> None:
    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        model = await client.llm.model()
        print(await model.respond("What is the meaning of life?"))

    models.check_answer(capsys.readouterr().out)


# -- streaming


def test_fragments_are_printed_as_they_come(models: Models, capsys: pytest.CaptureFixture[str]) -> None:
    import lmstudio_sync as lms

    model = lms.llm()

    for fragment in model.respond_stream("What is the meaning of life?"):
        print(fragment.content, end="", flush=True)
    print()  # Advance to a new line at the end of the response

    models.check_answer(capsys.readouterr().out)


def test_fragments_are_printed_in_a_scope(models: Models, capsys: pytest.CaptureFixture[str]) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        model = client.llm.model()

        for fragment in model.respond_stream("What is the meaning of life?"):
            print(fragment.content, end="", flush=True)
        print()  # Advance to a new line at the end of the response

    models.check_answer(capsys.readouterr().out)


async def test_fragments_are_printed_in_async_form(
    models: Models, capsys: pytest.CaptureFixture[str]
) -> None:
    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        model = await client.llm.model()

        async for fragment in model.respond_stream("What is the meaning of life?"):
            print(fragment.content, end="", flush=True)
        print()  # Advance to a new line at the end of the response

    models.check_answer(capsys.readouterr().out)


async def test_the_async_stream_may_be_awaited_first(
    models: Models, capsys: pytest.CaptureFixture[str]
) -> None:
    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        model = await client.llm.model()

        async for fragment in await model.respond_stream("What is the meaning of life?"):
            print(fragment.content, end="", flush=True)

    models.check_answer(capsys.readouterr().out)


# -- cancelling


def prediction_should_be_cancelled() -> bool:
    """Stand in for the condition of the application."""
    return True


def test_an_answer_is_cancelled(models: Models) -> None:
    import lmstudio_sync as lms

    model = lms.llm()

    prediction_stream = model.respond_stream("What is the meaning of life?")
    cancelled = False
    for _fragment in prediction_stream:
        if prediction_should_be_cancelled():
            cancelled = True
            prediction_stream.cancel()

    assert cancelled
    assert prediction_stream.result().stats.stop_reason in stopped(models)


def test_an_answer_is_cancelled_in_a_scope(models: Models) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        model = client.llm.model()

        prediction_stream = model.respond_stream("What is the meaning of life?")
        cancelled = False
        for _fragment in prediction_stream:
            if prediction_should_be_cancelled():
                cancelled = True
                prediction_stream.cancel()

        assert cancelled
        assert prediction_stream.result().stats.stop_reason in stopped(models)


async def test_an_answer_is_cancelled_in_async_form(models: Models) -> None:
    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        model = await client.llm.model()

        prediction_stream = await model.respond_stream("What is the meaning of life?")
        cancelled = False
        async for _fragment in prediction_stream:
            if prediction_should_be_cancelled():
                cancelled = True
                await prediction_stream.cancel()

        assert cancelled
        assert prediction_stream.result().stats.stop_reason in stopped(models)


def stopped(models: Models) -> set[str]:
    """Return the possible stop reasons; a tiny model may finish before the cancel message arrives."""
    return {"userStopped"} if models.is_real else {"userStopped", "eosFound"}


def test_an_answer_that_is_not_cancelled_has_a_result(
    models: Models, capsys: pytest.CaptureFixture[str]
) -> None:
    import lmstudio_sync as lms

    model = lms.llm()

    prediction_stream = model.respond_stream("What is the meaning of life?")
    for _fragment in prediction_stream:
        pass
    print(prediction_stream.result())

    models.check_answer(capsys.readouterr().out)


# -- chats, settings and statistics of an answer


def test_a_chat_is_answered_and_measured(
    models: Models, loaded: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import lmstudio_sync as lms

    model = lms.llm(loaded)
    chat = lms.Chat("You are a resident AI philosopher.")
    chat.add_user_message("What is the meaning of life?")
    result = model.respond(chat, config={"temperature": 0.6, "maxTokens": 50})

    print("Model used:", result.model_info.display_name)
    print("Predicted tokens:", result.stats.predicted_tokens_count)
    print("Time to first token (seconds):", result.stats.time_to_first_token_sec)
    print("Stop reason:", result.stats.stop_reason)

    models.check_statistics(capsys.readouterr().out, max_tokens=50)


def test_a_chat_is_answered_and_measured_as_a_stream(
    models: Models, loaded: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        model = client.llm.model(loaded)
        chat = lms.Chat.from_history(
            {
                "messages": [
                    {"role": "system", "content": "You are a resident AI philosopher."},
                    {"role": "user", "content": "What is the meaning of life?"},
                ]
            }
        )
        prediction_stream = model.respond_stream(chat, config={"temperature": 0.6, "maxTokens": 50})
        for _fragment in prediction_stream:
            pass
        result = prediction_stream.result()

        print("Model used:", result.model_info.display_name)
        print("Predicted tokens:", result.stats.predicted_tokens_count)
        print("Time to first token (seconds):", result.stats.time_to_first_token_sec)
        print("Stop reason:", result.stats.stop_reason)

    models.check_statistics(capsys.readouterr().out, max_tokens=50)


async def test_a_chat_is_answered_and_measured_in_async_form(
    models: Models, loaded: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        model = await client.llm.model(loaded)
        chat = lms.Chat("You are a resident AI philosopher.")
        chat.add_user_message("What is the meaning of life?")
        result = await model.respond(chat, config={"temperature": 0.6, "maxTokens": 50})

        print("Model used:", result.model_info.display_name)
        print("Predicted tokens:", result.stats.predicted_tokens_count)
        print("Time to first token (seconds):", result.stats.time_to_first_token_sec)
        print("Stop reason:", result.stats.stop_reason)

    models.check_statistics(capsys.readouterr().out, max_tokens=50)


def test_a_chat_can_be_given_in_each_form(models: Models) -> None:
    import lmstudio_sync as lms

    llm = lms.llm()
    chat = lms.Chat("You are a resident AI philosopher.")
    chat.add_user_message("What is the meaning of life?")
    history = {
        "messages": [
            {"role": "system", "content": "You are a resident AI philosopher."},
            {"role": "user", "content": "What is the meaning of life?"},
        ]
    }
    assert lms.Chat.from_history(history) == chat
    assert len(lms.Chat.from_history("What is the meaning of life?")) == 1

    models.check_answer(llm.respond(chat, config={"maxTokens": 50}).content)
    models.check_answer(llm.respond(history, config={"maxTokens": 50}).content)
    models.check_answer(llm.respond("What is the meaning of life?", config={"maxTokens": 50}).content)


# -- a conversation


def test_a_conversation_with_the_chat_bot(
    models: Models, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import lmstudio_sync as lms

    typed = iter(["What is the meaning of life?", "And of everything?", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed))

    model = lms.llm()
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
        prediction_stream = model.respond_stream(
            chat,
            on_message=chat.append,
        )
        print("Bot: ", end="", flush=True)
        for fragment in prediction_stream:
            print(fragment.content, end="", flush=True)
        print()

    assert [message.role for message in chat] == ["system", "user", "assistant", "user", "assistant"]
    first, second = capsys.readouterr().out.split("Bot: ")[1:]
    models.check_answer(first)
    models.check_answer(second)


async def test_a_conversation_in_async_form(models: Models) -> None:
    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        model = await client.llm.model()
        chat = lms.Chat("You are a task focused AI assistant")
        for user_input in ("What is the meaning of life?", "And of everything?"):
            chat.add_user_message(user_input)
            prediction_stream = await model.respond_stream(chat, on_message=chat.append)
            async for fragment in prediction_stream:
                print(fragment.content, end="", flush=True)

    assert [message.role for message in chat] == ["system", "user", "assistant", "user", "assistant"]


def test_the_interpreter_session_prints_the_documented_output(
    loaded: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import lmstudio_sync as lms

    loaded_models = lms.list_loaded_models()
    for idx, model in enumerate(loaded_models):
        print(f"{idx:>3} {model}")
    assert capsys.readouterr().out == f"  0 LLM(identifier='{loaded}')\n"

    (llm,) = lms.list_loaded_models("llm")
    chat = lms.Chat("You answer questions concisely")
    message = chat.add_user_message("Tell me three fruits")
    assert repr(message) == "UserMessage(content=[TextData(text='Tell me three fruits')])"
    assert isinstance(llm, lms.LLM)
    print(llm.respond(chat, on_message=chat.append))
    chat.add_user_message("Tell me three more fruits")
    print(llm.respond(chat, on_message=chat.append))
    assert len(chat) == 5
