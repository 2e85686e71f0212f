"""The command ``run`` with a prompt: answers, their formats, and their end."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

import lmstudio_async as lms
import lmstudio_sync
from lmstudio_async._cli import main
from lmstudio_async.testing import THINKING, ModelsFolder, served
from tests.cli.commands import Outcome, run, start
from tests.images import png

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for other processes")

ANSWER = "One, two and three good reasons."


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("tiny", script=ANSWER)
    folder.add_llm("forever", script="la ", endless=True, context_length=1_000_000)
    folder.add_llm("small", script="la ", endless=True, context_length=256)
    folder.add_llm("thinker", script="<think>Hm, let me see</think>Yes indeed", chat_template=THINKING)
    folder.add_llm("painter", script=["Red\x1b[31m", " alert\x07\x9b!"])
    folder.add_llm("dice", script=None)
    folder.add_llm("acme/eye-GGUF/eye-Q4_K_M.gguf", script="A cat")
    folder.add_projector("acme/eye-GGUF/mmproj-eye-F16.gguf")
    folder.add_embedding("embed")
    return folder.folder


@pytest.fixture(scope="module")
def host(models: Path) -> Iterator[str]:
    """The address of a server, which all tests use: a command does not wait for an engine of its own."""
    with served(lms.EmbeddedServer(models)) as address:
        yield address


@pytest.fixture
def anyio_backend() -> str:
    """One backend is enough, because the command runs in another process."""
    return "asyncio"


def ask(host: str, *arguments: str, stdin: str | bytes = "") -> Outcome:
    return run("run", "--host", host, *arguments, stdin=stdin)


def prompt_tokens(outcome: Outcome) -> int:
    count = outcome.json["stats"]["prompt_tokens_count"]
    assert isinstance(count, int)
    return count


# -- the answer


def test_run_prints_the_answer_and_nothing_else(host: str) -> None:
    assert ask(host, "tiny", "Why", "so?") == Outcome(0, f"{ANSWER}\n", "")


def test_run_uses_an_embedded_server_that_ends_with_it(models: Path) -> None:
    assert run("run", "--models", str(models), "tiny", "Why?") == Outcome(0, f"{ANSWER}\n", "")


def test_json_has_content_reasoning_stats_and_model(host: str) -> None:
    answer = ask(host, "thinker", "Why?", "--json").json
    assert answer["content"] == "Yes indeed"
    assert answer["reasoning"] == "Hm, let me see"
    assert (answer["model"], answer["identifier"]) == ("thinker", "thinker")
    assert answer["stats"]["stop_reason"] == "eosFound"
    assert "parsed" not in answer


def test_reasoning_is_hidden_in_a_pipe_unless_it_is_asked_for(host: str) -> None:
    assert ask(host, "thinker", "Why?") == Outcome(0, "Yes indeed\n", "")
    assert ask(host, "thinker", "Why?", "--reasoning", "show") == Outcome(
        0, "Yes indeed\n", "Hm, let me see\n\n"
    )


def test_control_characters_of_an_answer_are_removed(host: str) -> None:
    assert ask(host, "painter", "Warn me").out == "Red[31m alert!\n"


def test_stats_are_printed_on_standard_error(host: str) -> None:
    outcome = ask(host, "tiny", "Why?", "--stats", "--quiet")
    assert outcome.out == f"{ANSWER}\n"
    for part in ("prompt ", "answer 7 tokens", "tokens/s", "first token ", "stop: eosFound"):
        assert part in outcome.err
    assert outcome.err.count("\n") == 1


def test_answer_that_fills_the_context_says_so(host: str) -> None:
    outcome = ask(host, "small", "Sing")
    assert outcome.code == 0
    # A note about an eviction may come before it.
    last = outcome.err.splitlines()[-1]
    assert last.startswith("The answer is cut off, because the context of 256 tokens is full.")


# -- the prompt


def test_pipe_is_the_prompt_or_below_it(host: str) -> None:
    def count(*words: str, stdin: str = "") -> int:
        return prompt_tokens(ask(host, "tiny", *words, "--json", stdin=stdin))

    assert count(stdin="some words\n") == count("some words") == count("some", "words")
    assert count("some words", stdin="and more\n") == count("some words\n\nand more") > count("some words")


def test_system_prompt_precedes_the_prompt(host: str) -> None:
    chat = lms.Chat("You sing.")
    chat.add_user_message("Why?")
    with lmstudio_sync.Client(host) as client:
        expected = client.llm.model("tiny").respond(chat).stats.prompt_tokens_count
        alone = client.llm.model("tiny").respond("Why?").stats.prompt_tokens_count
    assert prompt_tokens(ask(host, "tiny", "Why?", "--system", "You sing.", "--json")) == expected != alone


@pytest.mark.parametrize(
    ("stdin", "message"), [("", "standard input has no text"), (b"\xff\xfe", "not text in UTF-8")]
)
def test_unusable_prompt_exits_with_2(stdin: str | bytes, message: str, host: str) -> None:
    outcome = ask(host, "tiny", stdin=stdin)
    assert outcome.code == 2
    assert message in outcome.err


def test_run_says_that_it_waits_for_a_pipe_that_stays_open(host: str) -> None:
    with start("run", "--host", host, "tiny", "Why?", stdin=subprocess.PIPE) as command:
        note = "Reading standard input to its end. To use none, add: < /dev/null\n"
        assert command.err.readline() == note
        assert command.process.stdin is not None
        command.process.stdin.close()
        assert command.end() == Outcome(0, f"{ANSWER}\n", "")
    # Without a prompt, only standard input can have it.
    with start("run", "--host", host, "tiny", stdin=subprocess.PIPE) as command:
        assert command.err.readline() == "Reading standard input to its end.\n"


# -- options


SCHEMA = {"type": "object", "properties": {"word": {"type": "string", "maxLength": 5}}, "required": ["word"]}


def test_json_schema_prints_the_structured_answer(host: str, tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(SCHEMA), "utf-8")
    options = ("dice", "A word", "--json-schema", str(file))
    answer = ask(host, *options).json
    assert list(answer) == ["word"]
    assert len(answer["word"]) <= 5
    whole = ask(host, *options, "--json").json
    assert whole["parsed"] == json.loads(whole["content"])
    cut = ask(host, *options, "--max-tokens", "1")
    assert (cut.code, cut.out) == (1, "")
    assert "was cut off by max_tokens" in cut.err


@pytest.mark.parametrize("text", ["{", "[]"])
def test_json_schema_that_is_no_object_exits_with_2(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "schema.json"
    file.write_text(text, "utf-8")
    assert main(["run", "tiny", "Why?", "--json-schema", str(file)]) == 2
    assert "--json-schema" in capsys.readouterr().err


def test_images_reach_a_model_that_sees_them(host: str, tmp_path: Path) -> None:
    file = tmp_path / "cat.png"
    file.write_bytes(png(200, 30, 30))
    seen = ask(host, "eye", "What is it?", "--image", str(file), "--image", str(file), "--json")
    once = ask(host, "eye", "What is it?", "--image", str(file), "--json")
    without = ask(host, "eye", "What is it?", "--json")
    assert seen.json["content"] == "A cat"
    assert prompt_tokens(seen) > prompt_tokens(once) > prompt_tokens(without)


def test_image_for_a_blind_model_is_refused(host: str, tmp_path: Path) -> None:
    file = tmp_path / "cat.png"
    file.write_bytes(png(200, 30, 30))
    outcome = ask(host, "tiny", "What is it?", "--image", str(file), "--quiet")
    assert outcome == Outcome(
        1, "", "lmsa: tiny cannot see images: run a model with vision, or leave out --image.\n"
    )
    assert main(["run", "eye", "What is it?", "--image", str(tmp_path / "dog.png")]) == 2


def test_settings_of_the_prediction_reach_the_server(host: str) -> None:
    short = ask(host, "tiny", "Why?", "--max-tokens", "2", "--json").json["stats"]
    assert (short["predicted_tokens_count"], short["stop_reason"]) == (2, "maxPredictedTokensReached")
    stopped = ask(host, "tiny", "Why?", "--config", 'stop_strings=["and"]', "--json").json
    assert (stopped["content"], stopped["stats"]["stop_string"]) == ("One, two ", "and")
    # At a temperature above 0, these tokens would be the same only once in many times the age of the universe.
    cold = [ask(host, "dice", "Throw", "-t", "0", "--max-tokens", "30").out for _ in range(2)]
    assert cold[0] == cold[1]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--config", "top_k=3"), "'top_k' is no setting. Did you mean 'top_k_sampling'?"),
        (("--config", "temprature=1"), "Did you mean 'temperature'?"),
        (("--config", "temperature"), "is not NAME=VALUE"),
        (("--config", "gpu=1", "--config", "gpu.ratio=1"), "given twice"),
        (("--temperature", "-1"), "--temperature"),
        (("--max-tokens", "0"), "--max-tokens"),
        (("--ttl", "never"), "lmsa load tiny --ttl never"),
        (("--ttl", "soon"), "is not a duration"),
        (("--ttl", "0"), "0 would unload the model at once"),
        (("--reasoning", "maybe"), "Invalid value for '--reasoning': 'maybe' is not one of 'show', 'hide'."),
    ],
)
def test_invalid_options_exit_with_2(
    option: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "tiny", "Why?", *option]) == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


async def test_settings_of_the_load_reach_a_new_instance_only(host: str) -> None:
    async with lms.AsyncClient(host) as client:
        for llm in await client.llm.list_loaded():
            await llm.unload()
        options = ("--ttl", "1m30s", "-c", "512", "--config", "seed=7")
        assert await anyio.to_thread.run_sync(lambda: ask(host, "tiny", "Why?", *options)) == Outcome(
            0, f"{ANSWER}\n", ""
        )
        [llm] = await client.llm.list_loaded()
        assert (llm.info.ttl, llm.info.context_length) == (90, 512)
        assert (await llm.get_load_config()).seed == 7
        outcome = await anyio.to_thread.run_sync(lambda: ask(host, "tiny", "Why?", "-c", "1024"))
        assert outcome.out == f"{ANSWER}\n"
        assert outcome.err.startswith("tiny has a context of 512 tokens, not 1024")
        assert (await client.llm.list_loaded())[0] == llm


# -- failures and the end


def test_unknown_model_exits_with_4_and_names_the_pull(host: str) -> None:
    outcome = ask(host, "nix", "Why?")
    assert (outcome.code, outcome.out) == (4, "")
    assert outcome.err.startswith("lmsa: There is no model 'nix'. There are: ")
    assert outcome.err.endswith(f"\nTo download it: lmsa pull nix --host {host}\n")


def test_embedding_model_has_no_answers(host: str) -> None:
    outcome = ask(host, "text-embedding-embed", "Why?")
    assert (outcome.code, outcome.out) == (1, "")
    assert "lmsa embed text-embedding-embed TEXT" in outcome.err


def test_missing_server_exits_with_3(closed_port: int) -> None:
    outcome = run("run", "--host", f"127.0.0.1:{closed_port}", "tiny", "Why?")
    assert (outcome.code, outcome.out) == (3, "")


async def test_ctrl_c_stops_the_answer_on_the_server(host: str) -> None:
    async with lms.AsyncClient(host) as client, client.watch_instances(interval=0.05) as watch:
        options = ("-c", "500000", "--stats", "--quiet")
        with start("run", "--host", host, "forever", "Sing", *options) as command:
            assert await anyio.to_thread.run_sync(command.out.read, 6) == "la la "
            outcome = await anyio.to_thread.run_sync(command.interrupt)
        assert outcome.code == 130
        assert outcome.err == "\nInterrupted.\n"
        with anyio.fail_after(20):
            async for _ in watch:
                [instance] = [each for each in await client.list_instances() if each.identifier == "forever"]
                if instance.status == "idle":
                    break


def test_closed_pipe_ends_the_command_without_a_message(host: str) -> None:
    with start("run", "--host", host, "forever", "Sing", "--quiet") as command:
        assert command.out.read(6) == "la la "
        command.out.close()
        assert command.err.read() == ""
        assert command.process.wait(30) == 1


@pytest.mark.parametrize(
    ("redirection", "code", "output"),
    [
        ("<&-", 0, f"{ANSWER}\n"),
        (">&-", 0, ""),
        ("2>&-", 0, f"{ANSWER}\n"),
        (">/dev/full", 1, "lmsa: The disk is full, so the output cannot be written."),
    ],
)
def test_closed_and_full_streams_cause_no_traceback(
    redirection: str, code: int, output: str, host: str
) -> None:
    arguments = ("run", "--host", host, "tiny", "Why?", "--quiet")
    command = shlex.join([sys.executable, "-m", "lmstudio_async", *arguments])
    done = subprocess.run(
        f"{command} </dev/null {redirection}",
        shell=True,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == code, done
    assert output in done.stdout + done.stderr
    assert done.stderr.count("\n") == (code != 0)
