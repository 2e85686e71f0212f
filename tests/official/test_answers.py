"""The blocking official client: answers, tokens and embeddings of loaded models."""

from __future__ import annotations

import lmstudio
import pytest
from lmstudio import (
    LLM,
    AssistantResponse,
    Chat,
    Client,
    LMStudioPresetNotFoundError,
    LMStudioServerError,
    ToolResultMessage,
)

from tests.official.conftest import ROOM

#: One transparent pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c02"
    "0000000b4944415478da6364f80f00010501012718e3660000000049454e44ae426082"
)


@pytest.fixture
def tiny(client: Client) -> LLM:
    return client.llm.load_new_instance("tiny")


def test_a_model_responds(tiny: LLM) -> None:
    answer = tiny.respond("hi", config={"maxTokens": 50, "temperature": 0})
    stats = answer.stats
    assert answer.content == str(answer) == "Hello there, old friend"
    assert stats.stop_reason == "eosFound"
    assert stats.prompt_tokens_count and stats.predicted_tokens_count
    assert stats.total_tokens_count == stats.prompt_tokens_count + stats.predicted_tokens_count
    assert answer.model_info.model_key == "tiny"
    assert answer.prediction_config.to_dict()["maxTokens"] == 50


def test_a_model_responds_to_a_whole_conversation(tiny: LLM) -> None:
    chat = Chat("Be brief.")
    chat.add_user_message("hi")
    chat.add_assistant_response(tiny.respond(chat))
    chat.add_user_message("and again")
    prompt = tiny.apply_prompt_template(chat)
    assert "Be brief." in prompt and "assistant\nHello there, old friend" in prompt
    assert tiny.respond(chat, on_message=chat.append).content == "Hello there, old friend"


def test_an_answer_comes_in_fragments(tiny: LLM) -> None:
    first: list[int] = []
    progress: list[float] = []
    received: list[str] = []
    with tiny.respond_stream(
        "hi",
        on_first_token=lambda: first.append(1),
        on_prompt_processing_progress=progress.append,
        on_prediction_fragment=lambda fragment: received.append(fragment.content),
    ) as stream:
        fragments = [fragment.content for fragment in stream]
    assert len(fragments) > 2
    assert "".join(fragments) == stream.result().content == "Hello there, old friend"
    assert received == fragments
    assert first == [1]
    assert (progress[0], progress[-1]) == (0.0, 1.0)


def test_reasoning_fragments_have_a_reasoning_type(client: Client) -> None:
    thinker = client.llm.load_new_instance("thinker")
    texts: dict[str, str] = {}
    for fragment in thinker.respond_stream("hi"):
        texts[fragment.reasoning_type] = texts.get(fragment.reasoning_type, "") + fragment.content
    assert texts["reasoning"].strip() == "Hm"
    assert texts["none"].strip() == "Yes"


def test_a_cancelled_answer_keeps_the_content_so_far(client: Client) -> None:
    stream = client.llm.load_new_instance("talker", config=ROOM).respond_stream("hi")
    for number, _ in enumerate(stream):
        if number == 3:
            stream.cancel()
    assert stream.result().stats.stop_reason == "userStopped"
    assert stream.result().content.startswith("on and on")


def test_an_answer_ends_when_its_model_is_unloaded(client: Client) -> None:
    talker = client.llm.load_new_instance("talker", config=ROOM)
    stream = talker.respond_stream("hi")
    for number, _ in enumerate(stream):
        if number == 0:
            talker.unload()
    assert stream.result().stats.stop_reason == "modelUnloaded"
    assert client.llm.list_loaded() == []


def test_an_answer_ends_at_its_limit_and_at_stop_strings(client: Client) -> None:
    talker = client.llm.load_new_instance("talker")
    short = talker.respond("hi", config={"maxTokens": 3}).stats
    assert (short.stop_reason, short.predicted_tokens_count) == ("maxPredictedTokensReached", 3)
    stopped = talker.respond("hi", config={"stopStrings": ["goes"]})
    assert stopped.stats.stop_reason == "stopStringFound"
    assert stopped.content == "on and on it "


def test_false_disables_prediction_settings(tiny: LLM) -> None:
    answer = tiny.respond(
        "hi",
        config={"maxTokens": False, "topPSampling": False, "minPSampling": False, "repeatPenalty": False},
    )
    assert answer.content == "Hello there, old friend"
    assert answer.prediction_config.max_tokens is None
    assert answer.prediction_config.top_p_sampling is None


def test_a_text_is_completed(tiny: LLM) -> None:
    assert tiny.complete("Once upon a time").content == "Hello there, old friend"
    fragments = list(tiny.complete_stream("Once", config={"maxTokens": 2}))
    assert "Hello there, old friend".startswith("".join(fragment.content for fragment in fragments))


def test_an_answer_follows_a_json_schema(client: Client) -> None:
    dice = client.llm.load_new_instance("dice")
    schema = {
        "type": "object",
        "properties": {"word": {"type": "string", "maxLength": 8}, "count": {"enum": [1, 2, 3]}},
        "required": ["word", "count"],
    }
    answer = dice.respond("hi", response_format=schema, config={"maxTokens": 200})
    assert isinstance(answer.parsed, dict)
    assert isinstance(answer.parsed["word"], str)
    assert answer.parsed["count"] in (1, 2, 3)


def test_an_answer_follows_a_class(client: Client) -> None:
    class Choice(lmstudio.BaseModel, forbid_unknown_fields=True):  # type: ignore[misc, call-arg, unused-ignore]
        yes: bool

    answer = client.llm.load_new_instance("dice").respond("hi", response_format=Choice)
    assert isinstance(answer.parsed, dict)
    assert answer.parsed["yes"] in (True, False)


def test_a_model_acts_with_a_tool(client: Client) -> None:
    calls: list[tuple[int, int]] = []
    messages: list[AssistantResponse | ToolResultMessage] = []

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        calls.append((a, b))
        return a + b

    result = client.llm.load_new_instance("caller").act("1 + 2?", [add], on_message=messages.append)
    assert result.rounds == 2
    assert calls == [(1, 2)]
    assert [message.role for message in messages] == ["assistant", "tool", "assistant"]
    assert "The sum is 3." in str(messages[-1])


def test_error_of_a_tool_is_sent_to_the_model(client: Client) -> None:
    failures: list[str] = []

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        raise ArithmeticError(f"not {a} + {b}")

    caller = client.llm.load_new_instance("caller")
    result = caller.act(
        "1 + 2?", [add], handle_invalid_tool_request=lambda error, _: failures.append(repr(error.__cause__))
    )
    assert result.rounds == 2
    assert failures == ["ArithmeticError('not 1 + 2')"]


def test_an_image_is_described_or_refused_by_a_model_without_vision(client: Client, tiny: LLM) -> None:
    chat = Chat()
    chat.add_user_message("What is this?", images=[client.prepare_image(PNG, "pixel.png")])
    assert client.llm.load_new_instance("eye").respond(chat).content == "A cat"
    with pytest.raises(LMStudioServerError):
        tiny.respond(chat)


def test_a_preset_that_does_not_exist_is_an_error(tiny: LLM) -> None:
    with pytest.raises(LMStudioPresetNotFoundError, match="my-preset"):
        tiny.respond("hi", preset="my-preset")


def test_the_prompt_template_is_applied(tiny: LLM) -> None:
    prompt = tiny.apply_prompt_template("hi")
    assert prompt == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


def test_an_llm_tokenizes_and_counts(tiny: LLM) -> None:
    assert tiny.tokenize("abc") == list(b"abc")
    assert tiny.tokenize(["abc", "d"]) == [list(b"abc"), list(b"d")]
    assert tiny.count_tokens("abc") == 3


def test_texts_are_embedded(client: Client) -> None:
    embed = client.embedding.load_new_instance("text-embedding-embed")
    vector = embed.embed("hello")
    assert len(vector) == 16
    others = embed.embed(["hello", "goodbye"])
    assert others[0] == pytest.approx(vector)
    assert others[1] != pytest.approx(vector)
    assert embed.embed([]) == []


def test_count_tokens_of_an_embedding_model_omits_the_two_special_tokens(client: Client) -> None:
    embed = client.embedding.load_new_instance("text-embedding-embed")
    tokens = embed.tokenize("hello world")
    assert len(tokens) == embed.count_tokens("hello world") + 2


def test_error_for_an_unknown_draft_model_names_it(tiny: LLM) -> None:
    with pytest.raises(LMStudioServerError, match='draft model "no-such-model"'):
        tiny.respond("hi", config={"draftModel": "no-such-model"})


def test_tokens_of_a_draft_model_are_accepted(tiny: LLM) -> None:
    result = tiny.respond("hi", config={"draftModel": "tiny", "temperature": 0})
    assert result.content == "Hello there, old friend"
    assert result.stats.used_draft_model_key == "tiny"
    assert result.stats.accepted_draft_tokens_count
