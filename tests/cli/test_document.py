"""The document `docs/lmsa.md` and the application: each has the commands and the options that the other has."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from lmstudio_async._cli import _exit_codes
from lmstudio_async._cli._app import COMMANDS, make_app
from lmstudio_async.testing import ModelsFolder
from tests.cli.running import command, run

DOCUMENT = (Path(__file__).parents[2] / "docs" / "lmsa.md").read_text(encoding="utf-8")

#: Heading -> the text of the section.
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", DOCUMENT, re.DOTALL | re.MULTILINE))
DOCUMENTED = {name.removeprefix("lmsa "): text for name, text in SECTIONS.items() if name.startswith("lmsa ")}

#: Options of several commands, which the document describes once.
SHARED = {"--host", "--token-file", "--models", "--json", "--quiet", "-q", "--help", "-h"}


def options(name: str) -> set[str]:
    """Return the options of a command of the application."""
    parameters = make_app().get_command(None, name).params
    names = {option for each in parameters for option in (*each.opts, *each.secondary_opts)}
    return {option for option in names if option.startswith("-")}


def documented_options(text: str) -> set[str]:
    """Return the options in the code of a text."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    code = " ".join(re.findall(r"`([^`]+)`", prose))
    return set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", code))


def test_every_command_has_a_section_with_an_example() -> None:
    assert set(COMMANDS) - set(DOCUMENTED) == set()
    for name in COMMANDS:
        examples = "".join(re.findall(r"```sh\n(.*?)```", DOCUMENTED[name], re.DOTALL))
        assert f"lmsa {name}" in examples, name


@pytest.mark.xfail(reason="the modules of these commands are added one by one", strict=True)
def test_every_documented_command_is_in_the_application() -> None:
    assert set(DOCUMENTED) - set(COMMANDS) == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_documented(name: str) -> None:
    assert options(name) - documented_options(DOCUMENTED[name]) - SHARED == set()


#: The document describes options of these commands that are not there yet.
INCOMPLETE = ("ls", "ps")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.xfail(strict=True)) if name in INCOMPLETE else name
        for name in COMMANDS
    ],
)
def test_every_documented_option_exists(name: str) -> None:
    assert documented_options(DOCUMENTED[name]) - options(name) == set()


def test_the_shared_options_are_documented() -> None:
    described = documented_options(SECTIONS["The server"]) | documented_options(SECTIONS["Output"])
    assert {"--help", "-h"} | described == SHARED


def test_the_options_of_the_program_are_documented() -> None:
    own = {name for each in make_app().params for name in each.opts}
    assert own <= documented_options(DOCUMENT)


def test_the_table_of_exit_codes_is_that_of_the_module() -> None:
    codes = {value for name, value in vars(_exit_codes).items() if name.isupper()}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", SECTIONS["Exit codes"], re.MULTILINE)} == codes


# -- JSON


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("tiny")
    return folder.folder


def undocumented(command: str, *values: Mapping[str, object]) -> set[str]:
    """Return the fields of JSON objects that the section of a command does not have."""
    named = set(re.findall(r"`(\w+)`", DOCUMENTED[command]))
    return {field for value in values for field in value} - named


def test_the_fields_of_ls_and_ps_are_documented(models: Path) -> None:
    with command(
        "serve", "--models", str(models), "--port", "0", "--preload", "tiny", "--json", "-q"
    ) as server:
        assert server.stdout is not None
        facts = json.loads(server.stdout.readline())
        assert undocumented("serve", facts) == set()
        for name in ("ls", "ps"):
            code, output = run(name, "--host", facts["address"], "--json")
            assert code == 0, output
            (row,) = json.loads(output)
            assert undocumented(name, row) == set()


def test_the_fields_of_doctor_are_documented(models: Path) -> None:
    _, output = run("doctor", "--models", str(models), "--json")
    report = json.loads(output)
    assert undocumented("doctor", report, *report["checks"]) == set()
