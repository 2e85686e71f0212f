"""The table of exit codes in `docs/lmsa.md`: each code with its causes, for several commands."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmstudio_async import EmbeddedServer, errors
from lmstudio_async._cli import main
from lmstudio_async._cli._exit_codes import FAILURE, NO_SERVER, NOT_FOUND, USAGE, NotFoundError, exit_code_of
from lmstudio_async.errors import LMStudioError
from lmstudio_async.testing import ModelsFolder, served

#: The class that decides, and the code. The subclasses of each have the same code.
CODES = {
    errors.LMStudioValueError: USAGE,
    errors.LMStudioUnreachableError: NO_SERVER,
    errors.LMStudioConnectionBrokenError: NO_SERVER,
    errors.LMStudioModelNotFoundError: NOT_FOUND,
    NotFoundError: NOT_FOUND,
}

ERRORS = [
    each
    for _, each in inspect.getmembers(errors, inspect.isclass)
    if issubclass(each, LMStudioError) and each.__name__ in errors.__all__
]


@pytest.mark.parametrize("error", [*ERRORS, NotFoundError], ids=lambda each: each.__name__)
def test_each_error_of_the_sdk_has_the_code_of_its_kind(error: type[LMStudioError]) -> None:
    code = next((code for kind, code in CODES.items() if issubclass(error, kind)), FAILURE)
    assert exit_code_of(error("it failed")) == code


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    models = ModelsFolder(tmp_path_factory.mktemp("models"))
    models.add_llm("tiny")
    return str(models.folder)


@pytest.fixture(scope="module")
def host(folder: str) -> Iterator[str]:
    with served(EmbeddedServer(folder)) as host:
        yield host


@pytest.fixture(autouse=True)
def _no_input(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Standard input without a text, which is no terminal."""
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        yield


@pytest.fixture(autouse=True)
def _environment(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMSTUDIO_HOST", host)
    for name in ("LM_API_TOKEN", "LMSTUDIO_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run a command that fails; return its exit code and its message."""
    code = main(arguments)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    return code, shown.err


@pytest.mark.parametrize("command", [["load", "tiny"], ["estimate", "tiny"], ["run", "tiny", "hi"]])
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("contxt_length=512", "context_length"),
        ("context_length=much", "context_length"),
        ("seed", "NAME=VALUE"),
    ],
)
def test_wrong_settings_of_a_load_exit_with_2(
    capsys: pytest.CaptureFixture[str], command: list[str], setting: str, message: str
) -> None:
    code, shown = failed(capsys, *command, "--config", setting)
    assert code == 2
    assert message in shown


def test_wrong_settings_of_a_prediction_exit_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    code, shown = failed(capsys, "run", "tiny", "hi", "--config", "top_k_sampling=many")
    assert code == 2
    assert "top_k_sampling" in shown


@pytest.mark.parametrize(
    "command", [["ls"], ["ps"], ["load", "tiny"], ["unload", "tiny"], ["run", "tiny", "hi"], ["events"]]
)
def test_addresses_and_token_files_that_make_no_sense_exit_with_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: list[str]
) -> None:
    code, shown = failed(capsys, *command, "--host", "http://a b")
    assert code == 2
    assert "--host 'http://a b' makes no sense" in shown

    code, shown = failed(capsys, *command, "--token-file", str(tmp_path / "none"))
    assert code == 2
    assert f"The token file {tmp_path / 'none'} cannot be read" in shown

    monkeypatch.setenv("LMSTUDIO_HOST", "http://a b")
    code, shown = failed(capsys, *command)
    assert code == 2
    assert "LMSTUDIO_HOST 'http://a b' makes no sense" in shown


@pytest.mark.parametrize("command", [["ls"], ["estimate", "tiny"], ["pull", "tiny"], ["run", "tiny", "hi"]])
def test_options_that_exclude_each_other_and_missing_folders_exit_with_2(
    capsys: pytest.CaptureFixture[str], folder: str, tmp_path: Path, command: list[str]
) -> None:
    code, shown = failed(capsys, *command, "--models", folder, "--host", "127.0.0.1:1")
    assert (code, "give one of the two" in shown) == (2, True)

    code, shown = failed(capsys, *command, "--models", str(tmp_path / "none"))
    assert (code, f"There is no folder {tmp_path / 'none'}" in shown) == (2, True)


@pytest.mark.parametrize(
    "command", [["load", "nope"], ["estimate", "nope"], ["run", "nope", "hi"], ["embed", "nope", "hi"]]
)
def test_unknown_models_exit_with_4(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    code, shown = failed(capsys, *command)
    assert code == 4
    assert "nope" in shown


def test_a_failure_of_the_server_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    code, shown = failed(capsys, "embed", "tiny", "hi")
    assert code == 1
    assert "lmsa run tiny" in shown
