"""The command at the end of a message about missing models: it works as it stands, and then the program works too."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmstudio_async._cli._download_advice import advice_for, small_model_advice
from lmstudio_async._cli._target import Target
from lmstudio_async.testing._tiny_models import write_embedding, write_llm
from tests.cli.shell import Shell
from tests.embedded.local_hub import LocalHub

if sys.platform == "win32":
    pytest.skip("Windows has other shells", allow_module_level=True)

SMALL = "bartowski/SmolLM2-135M-Instruct-GGUF"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    """A hub with the models that the messages recommend, and one more."""
    folder = tmp_path_factory.mktemp("files")
    llm = write_llm(folder / "llm.gguf", script="Here I am.").read_bytes()
    embedding = write_embedding(folder / "embedding.gguf").read_bytes()
    with LocalHub() as hub:
        hub.add(SMALL, {"SmolLM2-135M-Instruct-Q4_K_M.gguf": llm})
        hub.add("nomic-ai/nomic-embed-text-v1.5-GGUF", {"nomic-embed-text-v1.5.Q8_0.gguf": embedding})
        hub.add("acme/tiny-GGUF", {"tiny-Q4_K_M.gguf": llm})
        yield hub


@pytest.fixture
def shell(hub: LocalHub, tmp_path: Path) -> Shell:
    variables = {"HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1", "LMSTUDIO_HOST": "embedded"}
    shell = Shell(tmp_path, variables)
    (shell.home / "my models").mkdir()
    return shell


def command_in(text: str) -> str:
    """Return the command at the end of a message."""
    found = re.search(r"(?:^|: )(lmsa pull .*)$", text.rstrip().splitlines()[-1])
    assert found is not None, text
    return found[1]


ASYNC = """
import anyio
import lmstudio_async as lms

async def main():
    async with lms.AsyncClient({server}) as client:
        llm = await client.llm.model({key!r})
        print(await llm.respond("Hello"))

anyio.run(main)
"""
BLOCKING = """
import lmstudio_sync as lms

with lms.Client({server}) as client:
    print(client.llm.model({key!r}).respond("Hello"))
"""


@pytest.mark.parametrize("program", [ASYNC, BLOCKING], ids=["async", "blocking"])
@pytest.mark.parametrize("server", ["", "'embedded'", "lms.EmbeddedServer('my models')"])
@pytest.mark.parametrize("key", ["acme/tiny-GGUF", "tiny"])
def test_program_answers_after_the_command_of_its_error(
    program: str, server: str, key: str, shell: Shell
) -> None:
    (shell.home / "program.py").write_text(program.format(server=server, key=key))
    line = f"{shlex.quote(sys.executable)} -W error program.py"
    failed = subprocess.run(
        ["sh", "-c", line], cwd=shell.home, env=shell.environment, capture_output=True, text=True, check=False
    )
    assert failed.returncode == 1
    pulled = shell.run(command_in(failed.stderr))
    assert (pulled.code, pulled.out) == (0, "tiny\n"), pulled
    done = shell.run(line)
    assert (done.code, done.out, done.err) == (0, "Here I am.\n", "")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("lmsa run tiny hi", 4),
        ("lmsa run acme/tiny-GGUF hi --models 'my models'", 4),
        ("lmsa demo --models 'my models' --model tiny", 4),
        ("lmsa embed nomic-embed-text-v1.5 hi", 4),
        ("lmsa doctor", 1),
        ("lmsa doctor --models 'my models'", 1),
    ],
)
def test_command_succeeds_after_the_one_of_its_message(line: str, code: int, shell: Shell) -> None:
    failed = shell.run(line)
    assert failed.code == code
    found = [text for text in (failed.out + failed.err).splitlines() if "lmsa pull" in text]
    pulled = shell.run(command_in(found[-1]))
    assert pulled.code == 0, pulled
    assert shell.run(line).code == 0


@pytest.mark.parametrize("options", ["", "--embedding", "--models 'my models'"])
def test_ls_lists_the_model_that_it_has_recommended(options: str, shell: Shell) -> None:
    line = f"lmsa ls {options}"
    empty = shell.run(line)
    assert (empty.code, empty.out) == (0, "")
    assert shell.run(command_in(empty.err)).code == 0
    listed = shell.run(line)
    assert len(listed.out.splitlines()) == 2
    assert listed.err == ""


def test_server_without_models_uses_the_model_that_it_has_recommended(shell: Shell) -> None:
    with shell.in_terminal("lmsa serve --models 'my models' --port 0") as serve:
        serve.wait_for("To download one:\nlmsa pull")
        serve.wait_for("\n")
        command = command_in(serve.shown)
        assert "--models" in command
        host = serve.shown.split("http://")[1].split()[0]
        assert shell.run(f"{command} --quiet").code == 0
        listed = shell.run(f"lmsa ls --host {host}")
    assert "smollm2-135m-instruct" in listed.out


def test_doctor_recommends_a_download_for_its_subject(shell: Shell, closed_port: int) -> None:
    host = f"127.0.0.1:{closed_port}"
    report = json.loads(shell.run(f"lmsa doctor --host {host} --json").out)
    (remedy,) = [each["remedy"] for each in report["checks"] if each["name"] == "Models"]
    # Without the option, the server that the user has named would get the model.
    assert remedy == f"To download one: lmsa pull {SMALL} --host embedded"


def test_advice_names_the_server_that_the_user_has_named(shell: Shell, closed_port: int) -> None:
    host = f"127.0.0.1:{closed_port}"
    target = Target(host, Path("my token"))
    assert advice_for("tiny", target, host) == (
        f'To download it: lmsa pull tiny --host {host} --token-file "my token"'
    )
    assert small_model_advice(target, host) == (
        f'To download one: lmsa pull {SMALL} --host {host} --token-file "my token"'
    )
    # Downloads need a folder.
    file = shell.home / "model.gguf"
    assert advice_for("tiny", Target(models=[file]), "embedded") == "To download it: lmsa pull tiny"
