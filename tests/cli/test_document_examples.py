"""The examples for a shell in `docs/lmsa.md` run as they stand there, on tiny models that have the names in them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lmstudio_sync
from lmstudio_async import EmbeddedServer
from lmstudio_async.testing import ModelsFolder, served
from lmstudio_async.testing._tiny_models import write_llm
from tests.cli.document import DOCUMENT, examples
from tests.examples import MEANING, make_home

if sys.platform == "win32":
    pytest.skip("Windows has other shells", allow_module_level=True)

from tests.cli.shell import Shell
from tests.embedded.local_hub import LocalHub
from tests.program_terminal import CTRL_C, CTRL_D

EXAMPLES = list(dict.fromkeys(examples(DOCUMENT)))

#: It needs a model that answers in JSON.
BOOK = 'lmsa run qwen3-4b "A book" --json-schema book.json'

#: Commands that go on until Ctrl-C.
ENDLESS = ("serve", "top", "events")

#: A line that must run before an example.
BEFORE = {
    "lmsa unload chat": "lmsa load qwen3-4b --as chat",
    "lmsa unload --all": "lmsa load qwen3-4b",
    "lmsa ps --json | jq -r '.[] | select(.status == \"idle\").identifier'": "lmsa load qwen3-4b",
}

#: Examples on a machine without models: text at which the user types, the keys, and a text of the output.
ON_A_BARE_MACHINE = {
    'lmsa run bartowski/SmolLM2-135M-Instruct-GGUF "hi"': ("[y/N]", "y\n", MEANING),
    "lmsa pull bartowski/SmolLM2-135M-Instruct-GGUF": (None, "", "smollm2-135m-instruct"),
    "lmsa pull bartowski/SmolLM2-135M-Instruct-GGUF:Q8_0": (None, "", "smollm2-135m-instruct"),
    "lmsa pull smollm2 135m": ("[y/N]", "y\n", "smollm2-135m-instruct"),
}

#: Examples in a terminal, on a machine with models.
IN_A_TERMINAL = {
    "lmsa rm smollm2-135m-instruct": ("for good? [y/N]", "y\n", "Deleted smollm2-135m-instruct"),
    "lmsa run qwen3-4b": (">>>", CTRL_D, ""),
}

#: A text in the output of an example that runs to its end.
OUTPUT = {
    "lmsa doctor": "Models folder",
    "lmsa ls": "llama-3.2-1b-instruct",
    "lmsa ls --embedding --json | jq -r '.[].model_key'": "text-embedding-nomic-embed-text-v1.5\n",
    "lmsa estimate qwen3-4b -c 32768": "Memory ",
    "lmsa ps": "",
    "lmsa ps --json | jq -r '.[] | select(.status == \"idle\").identifier'": "qwen3-4b",
    "lmsa load qwen3-4b --as chat --ttl 60m -c 8192": "chat\n",
    "lmsa load qwen3-4b --gpu max": "qwen3-4b\n",
    "lmsa load qwen3-4b --ensure --config flash_attention=true": "qwen3-4b\n",
    "lmsa unload chat": "Unloaded chat.",
    "lmsa unload --all": "Unloaded qwen3-4b",
    'lmsa run qwen3-4b "Why is the sky blue?"': MEANING,
    'git diff | lmsa run qwen3-4b "Write a commit message" --system "You write plain English."': MEANING,
    BOOK: '{\n  "title": "Dune"\n}\n',
    'lmsa embed nomic-embed-text-v1.5 "a text" "another one" --json': "[[",
    "cat lines.txt | lmsa embed nomic-embed-text-v1.5 --format jsonl": '{"text": "one", "embedding": [',
    "lmsa demo": MEANING.split()[0],
    "lmsa demo --host embedded --model smollm2-135m-instruct": "Done.",
    "lmsa doctor --json | jq '.checks[] | select(.status == \"problem\")'": "",
}


def command_of(line: str) -> str:
    """Return the name of the command in an example."""
    found = re.search(r"\blmsa (\w+)", line)
    assert found is not None, line
    return found[1]


def test_every_example_has_an_expectation() -> None:
    expected = OUTPUT.keys() | ON_A_BARE_MACHINE.keys() | IN_A_TERMINAL.keys()
    endless = {line for line in EXAMPLES if command_of(line) in ENDLESS}
    assert expected | endless == set(EXAMPLES)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with the models and the files of the examples, in a repository of git with a change."""
    home = tmp_path_factory.mktemp("home")
    make_home(home)
    schema = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
    (home / "book.json").write_text(json.dumps(schema))
    (home / "lines.txt").write_text("one\ntwo\n")
    (home / "tokens.txt").write_text("sk-lm-abcdefgh:ABCDEFGHIJKLMNOPQRST\n")
    if shutil.which("git"):
        for arguments in (["init", "--quiet"], ["add", "--intent-to-add", "lines.txt"]):
            subprocess.run(["git", *arguments], cwd=home, check=True)
    return home


@pytest.fixture(scope="module")
def host(home: Path) -> Iterator[str]:
    with served(EmbeddedServer(home / "models", threads=1)) as host:
        yield host


@pytest.fixture
def client(host: str) -> Iterator[lmstudio_sync.Client]:
    with lmstudio_sync.Client(host) as client:
        yield client
        for model in client.list_loaded_models():
            model.unload()


@pytest.fixture
def shell(home: Path, host: str, tmp_path: Path) -> Shell:
    """A shell in the home folder, whose LM Studio is the server."""
    shell = Shell(tmp_path, {"LMSTUDIO_HOST": host})
    shell.use_home(home)
    return shell


def needs_jq(line: str) -> None:
    if "| jq " in line and shutil.which("jq") is None:
        pytest.skip("jq is not installed")


@pytest.mark.parametrize("line", OUTPUT)
def test_example_runs_to_its_end(
    line: str, shell: Shell, client: lmstudio_sync.Client, home: Path, tmp_path: Path
) -> None:
    needs_jq(line)
    if line == BOOK:
        (tmp_path / "home" / "book.json").write_text((home / "book.json").read_text())
        shell.use_home(tmp_path / "home")
        shell.environment["LMSTUDIO_HOST"] = "embedded"
        ModelsFolder(shell.home / ".lmstudio" / "models").add_llm("qwen3-4b", script='{"title": "Dune"}')
    if line in BEFORE:
        assert shell.run(BEFORE[line]).code == 0
    outcome = shell.run(line)
    assert outcome.code == 0, outcome
    assert OUTPUT[line] in outcome.out


@pytest.mark.parametrize("line", [line for line in EXAMPLES if command_of(line) in ENDLESS])
def test_example_goes_on_until_ctrl_c(line: str, shell: Shell, client: lmstudio_sync.Client) -> None:
    mark = {"serve": "Serving at http://", "top": "qwen3-4b", "events": '"event": "loaded"'}[command_of(line)]
    # Another server may use the port of the example. The last one counts.
    with shell.in_terminal(f"{line} --port 0" if "serve" in line else line) as terminal:
        if command_of(line) == "events":
            terminal.wait_for("Watching the instances")
        if command_of(line) != "serve":
            client.llm.load_new_instance("qwen3-4b")
        terminal.wait_for(mark)
        terminal.type(CTRL_C)
        assert terminal.wait_for_end() == 0, terminal.shown


@pytest.mark.parametrize("line", IN_A_TERMINAL)
def test_example_runs_in_a_terminal(line: str, home: Path, shell: Shell, tmp_path: Path) -> None:
    mark, keys, output = IN_A_TERMINAL[line]
    if command_of(line) == "rm":
        shell.use_home(tmp_path / "copy")
        make_home(shell.home)
        shell.environment["LMSTUDIO_HOST"] = "embedded"
    with shell.in_terminal(line) as terminal:
        terminal.wait_for(mark)
        terminal.type(keys)
        terminal.wait_for(output)
        assert terminal.wait_for_end() == 0


@pytest.mark.parametrize("line", ON_A_BARE_MACHINE)
def test_example_runs_on_a_bare_machine(line: str, tmp_path: Path) -> None:
    mark, keys, output = ON_A_BARE_MACHINE[line]
    model = write_llm(tmp_path / "model.gguf", script=MEANING).read_bytes()
    with LocalHub() as hub:
        files = {f"SmolLM2-135M-Instruct-{name}.gguf": model for name in ("Q4_K_M", "Q8_0")}
        hub.add("bartowski/SmolLM2-135M-Instruct-GGUF", files)
        variables = {"HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1", "LMSTUDIO_HOST": "embedded"}
        with Shell(tmp_path, variables).in_terminal(line) as terminal:
            if mark is not None:
                terminal.wait_for(mark)
                terminal.type(keys)
            terminal.wait_for(output)
            assert terminal.wait_for_end() == 0
