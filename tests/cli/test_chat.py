"""The chat of the command ``run``, in a terminal."""

from __future__ import annotations

import json
import signal
import stat
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

import lmstudio_async as lms
import lmstudio_sync
from lmstudio_async.testing import THINKING, ModelsFolder, served

if sys.platform == "win32":
    pytest.skip("Windows has no pseudo-terminals", allow_module_level=True)

from tests.cli.commands import command_in_terminal, run
from tests.embedded.local_hub import LocalHub
from tests.program_terminal import CTRL_C, CTRL_D, ENTER, ProgramTerminal

PROMPT = ">>>"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server, which all tests use."""
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("tiny", script="First answer.", then=["Second answer.", "Third answer."])
    folder.add_llm("other", script="Other answer.")
    folder.add_llm("forever", script="la ", endless=True, context_length=1_000_000)
    folder.add_llm("small", script="Yes", context_length=256)
    folder.add_llm("thinker", script="<think>Hm, let me see</think>Yes indeed", chat_template=THINKING)
    with served(lms.EmbeddedServer(folder.folder)) as address:
        yield address


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The user's data folder."""
    return tmp_path / "data"


@pytest.fixture
def chat(host: str, data: Path) -> Iterator[ProgramTerminal]:
    """A chat with ``tiny``, at its first prompt."""
    with chatting(host, data) as terminal:
        terminal.wait_for(PROMPT)
        yield terminal


def chatting(
    host: str, data: Path, *options: str, model: str = "tiny", **environment: str
) -> AbstractContextManager[ProgramTerminal]:
    variables: Any = {"XDG_DATA_HOME": str(data), "HOME": str(data), **environment}
    return command_in_terminal("run", "--host", host, model, *options, columns=200, **variables)


def say(chat: ProgramTerminal, line: str, answer: str) -> str:
    """Type a line, wait for the answer and the next prompt, and return the text between them."""
    chat.type(line + ENTER)
    chat.wait_for(answer)
    return chat.wait_for(PROMPT)


def messages(file: Path) -> list[tuple[str, str]]:
    content = json.loads(file.read_text("utf-8"))
    return [(message["role"], message["content"]) for message in content["messages"]]


# -- the conversation


def test_chat_sends_the_whole_conversation(chat: ProgramTerminal) -> None:
    say(chat, "One", "First answer.\n")
    say(chat, "Two", "Second answer.\n")
    say(chat, "/clear", "The messages are forgotten.")
    say(chat, "Three", "First answer.\n")
    chat.type(CTRL_D)
    assert chat.wait_for_end() == 0


def test_ctrl_c_clears_the_line_at_the_prompt(chat: ProgramTerminal, tmp_path: Path) -> None:
    chat.type("not this")
    chat.wait_for("not this")
    chat.type(CTRL_C)
    chat.wait_for(PROMPT)
    say(chat, "but this", "First answer.")
    say(chat, f"/save {tmp_path / 'chat'}", "Saved 2 messages")
    assert messages(tmp_path / "chat")[0] == ("user", "but this")


def test_ctrl_c_stops_the_answer_and_not_the_chat(host: str, data: Path, tmp_path: Path) -> None:
    with chatting(host, data, "-c", "500000", model="forever") as chat:
        chat.wait_for(PROMPT)
        for number in range(1, 3):
            chat.type("Sing" + ENTER)
            chat.wait_for("la la la")
            chat.type(CTRL_C)
            chat.wait_for(PROMPT)
            say(chat, "/stats", "stop: userStopped")
            file = tmp_path / str(number)
            say(chat, f"/save {file}", f"Saved {2 * number} messages")
            assert [role for role, _ in messages(file)] == ["user", "assistant"] * number
            # The text that was there stays a part of the conversation.
            assert messages(file)[-1][1].startswith("la la la")
        chat.type("/exit" + ENTER)
        assert chat.wait_for_end() == 0
    with lmstudio_sync.Client(host) as client:
        [instance] = [each for each in client.list_instances() if each.identifier == "forever"]
        assert instance.status == "idle"


def test_message_of_several_lines(chat: ProgramTerminal, tmp_path: Path) -> None:
    chat.type('"""one' + ENTER)
    chat.wait_for("...")
    say(chat, 'two"""', "First answer.")
    chat.type("three\x1b\r")
    chat.wait_for("...")
    say(chat, "four", "Second answer.")
    say(chat, f"/save {tmp_path / 'chat'}", "Saved 4 messages")
    said = [text for role, text in messages(tmp_path / "chat") if role == "user"]
    assert said == ["one\ntwo", "three\nfour"]


def test_lines_that_are_typed_before_the_prompt_are_read_one_by_one(host: str, data: Path) -> None:
    with chatting(host, data) as chat:
        chat.type("One" + ENTER + "Two" + ENTER)
        chat.wait_for("First answer.")
        chat.wait_for("Second answer.")
        chat.wait_for(PROMPT)
        chat.type(CTRL_D)
        assert chat.wait_for_end() == 0


def test_thoughts_are_shown_dim_and_are_no_part_of_the_answer(host: str, data: Path) -> None:
    with chatting(host, data, model="thinker") as chat:
        chat.wait_for(PROMPT)
        say(chat, "Why?", "Hm, let me see\n\nYes indeed\n")
        assert "\x1b[2mHm," in chat.raw
        assert "\x1b[2mYes" not in chat.raw
    with chatting(host, data, "--reasoning", "hide", model="thinker", NO_COLOR="1") as chat:
        chat.wait_for(PROMPT)
        say(chat, "Why?", "Yes indeed\n")
        assert "Hm," not in chat.shown


# -- commands


def test_system_prompt_is_set_and_kept(chat: ProgramTerminal, tmp_path: Path) -> None:
    say(chat, "/system", "System prompt: none")
    say(chat, "/system You sing.", "System prompt: You sing.")
    say(chat, "Why?", "First answer.")
    say(chat, "/system You dance.", "System prompt: You dance.")
    say(chat, f"/save {tmp_path / 'chat'}", "Saved 3 messages")
    assert messages(tmp_path / "chat") == [
        ("system", "You dance."),
        ("user", "Why?"),
        ("assistant", "First answer."),
    ]
    say(chat, "/clear", "forgotten")
    say(chat, "/system", "System prompt: You dance.")


def test_saved_chat_goes_on_in_another_one(
    chat: ProgramTerminal, host: str, data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "my chat.json"
    say(chat, "Why?", "First answer.")
    say(chat, f"/save {file}", "Saved 2 messages")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with chatting(host, data) as other:
        other.wait_for(PROMPT)
        other.type(f"/save {file}" + ENTER)
        other.wait_for("exists already")
        other.wait_for(PROMPT)
        say(other, f"/load '{file}'", "Loaded 2 messages")
        say(other, "And?", "Second answer.")
        # It may replace the file that it has read.
        say(other, f"/save {file}", "Saved 4 messages")
    assert [text for _, text in messages(file)] == ["Why?", "First answer.", "And?", "Second answer."]
    assert [path.name for path in tmp_path.iterdir() if path != data] == ["my chat.json"]


def test_failures_of_commands_are_messages(chat: ProgramTerminal, tmp_path: Path) -> None:
    (tmp_path / "no_chat").write_text('{"model": 1}', "utf-8")
    for line, message in {
        "/save": "/save needs a FILE.",
        f"/save {tmp_path / 'no' / 'folder'}": f"\n{tmp_path / 'no' / 'folder'}: there is no such file or folder. Correct the path.\n",
        f"/load {tmp_path / 'nothing'}": f"\n{tmp_path / 'nothing'}: there is no such file or folder. Correct the path.\n",
        f"/load {tmp_path / 'no_chat'}": "has no chat",
        "/model": "/model needs a KEY.",
        "/stats": "There is no answer yet.",
        "/dance": "There is no command /dance. /help lists them.",
        "/help": "/system TEXT",
    }.items():
        say(chat, line, message)
    # A path is no command.
    say(chat, "/usr/bin", "First answer.")


def test_empty_answer_is_a_message(host: str, data: Path) -> None:
    with chatting(host, data, "--config", 'stop_strings=["First"]') as chat:
        chat.wait_for(PROMPT)
        assert "stop: stopStringFound" in say(
            chat, "Hi", "The answer is empty, and the message is forgotten."
        )


def test_statistics_end_with_their_conversation(chat: ProgramTerminal, tmp_path: Path) -> None:
    say(chat, "Hi", "First answer.")
    say(chat, f"/save {tmp_path / 'chat.json'}", "Saved 2 messages")
    say(chat, "/stats", "tokens of the context are used.")
    say(chat, f"/load {tmp_path / 'chat.json'}", "Loaded 2 messages")
    say(chat, "/stats", "There is no answer yet.")


def test_clear_forgets_an_image_that_the_server_refuses(tmp_path: Path, data: Path) -> None:
    models = ModelsFolder(tmp_path / "models")
    models.add_llm("eye", script="First answer.")
    models.add_projector("test/eye-GGUF/mmproj-eye-F16.gguf")
    image = tmp_path / "image.png"
    image.write_text("no image")
    with (
        served(lms.EmbeddedServer(models.folder)) as host,
        chatting(host, data, "--image", str(image), model="eye") as chat,
    ):
        chat.wait_for(PROMPT)
        say(chat, "Hi", "In this chat: /clear forgets the images")
        say(chat, "/clear", "The messages are forgotten.")
        say(chat, "Hi", "First answer.")


def test_commands_are_known_in_any_case_and_their_help_fits_the_terminal(chat: ProgramTerminal) -> None:
    shown = say(chat, "/Help", "Show this help.")
    assert max(map(len, shown.splitlines())) <= 80


def test_model_command_goes_on_with_another_model(
    chat: ProgramTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(chat, "Why?", "First answer.")
    say(chat, "/model other", "The chat goes on with other.")
    say(chat, "And you?", "Other answer.")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with LocalHub() as hub:
        hub.add("acme/nix-GGUF", {"nix-Q4_K_M.gguf": bytes(2_000_000)})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        chat.type("/model nix" + ENTER)
        chat.wait_for("Download acme/nix-GGUF (Q4_K_M, 2.0 MB)? [y/N] ")
        chat.type("n\n")
        chat.wait_for("To download it: lmsa pull nix")
        chat.wait_for(PROMPT)
    say(chat, "Still there?", "Other answer.")


# -- failures


@pytest.mark.parametrize("identifier", ["tiny", "mine"])
def test_unloaded_model_is_loaded_again(identifier: str, host: str, data: Path) -> None:
    with lmstudio_sync.Client(host) as client:
        for llm in client.llm.list_loaded():
            llm.unload()
        llm = client.llm.load_new_instance("tiny", identifier)
        with chatting(host, data, model=identifier) as chat:
            chat.wait_for(PROMPT)
            say(chat, "One", "First answer.")
            llm.unload()
            chat.type("Two" + ENTER)
            chat.wait_for("Loading it again.")
            chat.wait_for("Second answer.")
            chat.wait_for(PROMPT)
            say(chat, "Three", "Third answer.")
        assert [each.identifier for each in client.llm.list_loaded()] == ["tiny"]


def test_message_beyond_the_context_is_explained_and_does_not_count(host: str, data: Path) -> None:
    with chatting(host, data, model="small") as chat:
        chat.wait_for(PROMPT)
        chat.type("x " * 300 + ENTER)
        chat.wait_for("was loaded with a context of 256")
        chat.wait_for("/clear begins again")
        chat.wait_for(PROMPT)
        say(chat, "Short", "Yes\n")


def test_chat_survives_the_loss_of_its_server(data: Path, tmp_path: Path) -> None:
    ModelsFolder(tmp_path / "models").add_llm("tiny", script="First answer.")
    with served(lms.EmbeddedServer(tmp_path / "models")) as host:
        terminal = chatting(host, data)
        chat = terminal.__enter__()
        chat.wait_for(PROMPT)
    try:
        chat.type("Are you there?" + ENTER)
        chat.wait_for(host)
        chat.wait_for(PROMPT)
        say(chat, "/stats", "There is no answer yet.")
        chat.type(CTRL_D)
        assert chat.wait_for_end() == 0
    finally:
        terminal.__exit__(None, None, None)


def test_sigterm_and_hang_up_end_the_chat(host: str, data: Path) -> None:
    with chatting(host, data) as chat:
        chat.wait_for(PROMPT)
        chat.process.send_signal(signal.SIGTERM)
        assert chat.wait_for_end() == 130
    with chatting(host, data) as chat:
        chat.wait_for(PROMPT)
        chat.hang_up()
        assert chat.process.wait(30) != 0


# -- the history of lines


def test_history_is_kept_for_its_user_alone(chat: ProgramTerminal, host: str, data: Path) -> None:
    say(chat, "A remarkable question", "First answer.")
    chat.type(CTRL_D)
    assert chat.wait_for_end() == 0
    file = data / "lmstudio-async" / "chat_history"
    assert "A remarkable question" in file.read_text("utf-8")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with chatting(host, data) as other:
        other.wait_for(PROMPT)
        other.type("\x1b[A")  # the arrow up
        other.wait_for("A remarkable question")
        other.type(ENTER)
        other.wait_for("First answer.")


def test_rights_of_an_open_history_are_narrowed(host: str, data: Path) -> None:
    file = data / "lmstudio-async" / "chat_history"
    file.parent.mkdir(parents=True)
    file.touch(0o644)
    file.chmod(0o644)
    with chatting(host, data) as chat:
        chat.wait_for(PROMPT)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(("options", "environment"), [(["--no-history"], {}), ([], {"LMSA_HISTORY": "0"})])
def test_history_can_be_switched_off(
    options: list[str], environment: dict[str, str], host: str, data: Path
) -> None:
    with chatting(host, data, *options, **environment) as chat:
        chat.wait_for(PROMPT)
        say(chat, "Why?", "First answer.")
        chat.type(CTRL_D)
        assert chat.wait_for_end() == 0
    assert not (data / "lmstudio-async").exists()


def test_unusable_data_folder_does_not_prevent_a_chat(host: str, data: Path) -> None:
    data.write_text("not a folder", "utf-8")
    with chatting(host, data) as chat:
        chat.wait_for(PROMPT)
        say(chat, "Why?", "First answer.")


# -- without a terminal


def test_chat_needs_a_terminal(host: str) -> None:
    outcome = run("run", "--host", host, "tiny")
    assert outcome.code == 2


def test_prompt_of_a_chat_into_json_is_refused(host: str, data: Path) -> None:
    with chatting(host, data, "--json") as chat:
        chat.wait_for("There is no prompt")
        assert chat.wait_for_end() == 2
