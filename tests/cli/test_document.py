"""The document `docs/lmsa.md` and the program: each has the commands, options, arguments and names that the other has."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import lmstudio_async
from lmstudio_async import EmbeddedServer
from lmstudio_async._cli import _exit_codes
from lmstudio_async._cli._app import COMMANDS, make_app
from lmstudio_async._cli._chat_commands import COMMANDS as CHAT_COMMANDS
from lmstudio_async._cli._chat_history import history_file
from tests.cli.document import DOCUMENT, DOCUMENTED, SECTIONS, codes, examples, table

PACKAGE = Path(lmstudio_async.__file__).parent

#: Options of several commands, which the document describes once.
SHARED = {"--host", "--token-file", "--models", "--json", "--quiet", "-q", "--help", "-h"}


def parameters(name: str) -> list[Any]:
    """Return the options and the arguments of a command of the program."""
    return list(make_app().get_command(None, name).params)


def options(name: str) -> set[str]:
    """Return the options of a command of the program."""
    names = {option for each in parameters(name) for option in (*each.opts, *each.secondary_opts)}
    return {option for option in names if option.startswith("-")}


def options_in(text: str) -> set[str]:
    """Return the options in the code of a text, without those of other programs."""
    own = " ".join(code for code in codes(text) if not code.startswith(("python ", "pip ")))
    return set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", own))


def test_the_document_has_the_commands_of_the_program() -> None:
    assert set(DOCUMENTED) == set(COMMANDS)
    links = set(re.findall(r"\(#lmsa-(\w+)\)", DOCUMENT))
    assert links == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example(name: str) -> None:
    assert any(f"lmsa {name}" in example for example in examples(DOCUMENTED[name]))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_options_of_a_command_are_documented(name: str) -> None:
    documented, existing = options_in(DOCUMENTED[name]), options(name)
    assert existing - documented - SHARED == set()
    # A section may name options of other commands only together with the command.
    assert documented - existing == set()


def test_the_shared_options_are_documented() -> None:
    described = options_in(SECTIONS["The server"]) | options_in(SECTIONS["Output"])
    assert {"--help", "-h"} | described == SHARED


def test_the_options_of_the_program_are_documented() -> None:
    own = {option for each in make_app().params for option in each.opts}
    others = {"From other tools", *(name for name in SECTIONS if name.startswith("lmsa "))}
    sections = "".join(text for name, text in SECTIONS.items() if name not in others)
    introduction = DOCUMENT.partition("\n## ")[0]
    documented = options_in(introduction + sections) - (SHARED - {"--help", "-h"})
    assert documented == own | {"--help", "-h"}


def test_the_commands_beside_those_of_other_tools_exist() -> None:
    ours = [code.split() for row in table(SECTIONS["From other tools"]) for code in codes(row[0])]
    assert ours
    for program, name, *words in ours:
        assert (program, {word for word in words if word[0] == "-"} - options(name)) == ("lmsa", set())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_arguments_of_a_command_are_documented(name: str) -> None:
    arguments = [each for each in parameters(name) if not each.opts[0].startswith("-")]
    words = []
    for each in arguments:
        word = (each.metavar or each.name.upper()).strip("[].") + ("..." if each.nargs == -1 else "")
        words.append(word if each.required else f"[{word}]")
    synopsis = " ".join(["lmsa", name, *words])
    shown = [code for code in codes(DOCUMENTED[name]) if code.startswith(f"lmsa {name} ")]
    assert shown == ([synopsis] if words else [])


@pytest.mark.parametrize("name", COMMANDS)
def test_choices_of_an_option_are_documented(name: str) -> None:
    documented = codes(DOCUMENTED[name])
    for each in parameters(name):
        kind = each.type_descriptor if hasattr(each, "type_descriptor") else each.type
        choices = getattr(kind, "choices", None) or ()
        values = [getattr(choice, "value", choice) for choice in choices]
        option = each.opts[0]
        assert not values or f"{option} {'|'.join(values)}" in documented or set(values) <= set(documented)


def test_the_table_of_exit_codes_is_that_of_the_module() -> None:
    values = {value for name, value in vars(_exit_codes).items() if name.isupper()}
    assert {int(row[0]) for row in table(SECTIONS["Exit codes"]) if row[0].isdigit()} == values


def test_the_chat_commands_are_documented() -> None:
    documented = re.findall(r"(?<!\w)/[a-z]+", " ".join(codes(DOCUMENTED["run"])))
    assert documented == CHAT_COMMANDS


# -- environment variables

#: Variables that other modules read -> the module.
READ_ELSEWHERE = {
    "HF_TOKEN": "huggingface_hub.utils._auth",
    "HF_HUB_OFFLINE": "huggingface_hub.constants",
    "COLUMNS": "shutil",
    "XDG_CACHE_HOME": "lmstudio_async.embedded._catalog._hub_cache",
}

_OWN_FAMILIES = re.compile(r"(LMSTUDIO|LM_API|LMSA|HF|HUGGINGFACE|XDG)_[A-Z_]+")


def documented_variables() -> set[str]:
    return {name for row in table(SECTIONS["Environment variables"]) for name in codes(row[0])}


def variables_in(source: str) -> Iterator[str]:
    """Yield the environment variables that a module reads, and those that it names."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Constant(value=str(text)) if _OWN_FAMILIES.fullmatch(text):
                yield text
            case (
                ast.Call(
                    func=ast.Attribute(value=place, attr="get"), args=[ast.Constant(value=str(name)), *_]
                )
                | ast.Subscript(value=place, slice=ast.Constant(value=str(name)))
            ) if ast.unparse(place) in ("os.environ", "environment"):
                yield name


def test_the_environment_variables_are_documented() -> None:
    read = {name for path in PACKAGE.rglob("*.py") for name in variables_in(path.read_text(encoding="utf-8"))}
    assert {"LMSA_HISTORY", "NO_COLOR", "TERM", "HF_HUB_CACHE"} <= read
    assert read - documented_variables() == set()


def test_the_documented_environment_variables_are_read() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    for name in documented_variables():
        if name in READ_ELSEWHERE:
            spec = find_spec(READ_ELSEWHERE[name])
            assert spec is not None
            assert spec.origin is not None
            source = Path(spec.origin).read_text(encoding="utf-8")
        else:
            source = sources
        assert re.search(rf"[\"']{name}[\"']", source), name


# -- files


@pytest.mark.parametrize(
    ("platform", "system"), [("linux", "Linux"), ("darwin", "macOS"), ("win32", "Windows")]
)
def test_the_files_are_where_the_document_says(
    platform: str, system: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "Local"))
    text = SECTIONS["Files"]
    found = re.search(rf"`([^`]+)`\s+on\s+{system}", text)
    assert found is not None
    folder = found[1].replace("~", str(tmp_path)).replace("%LOCALAPPDATA%", str(tmp_path / "Local"))
    data = Path(folder.replace("\\", "/"))
    monkeypatch.setattr(sys, "platform", platform)
    named = {row[0]: row[1] for row in table(text)}
    assert "`chat_history` in the data folder" in named
    assert history_file() == data / "chat_history"
    assert "`models` in the data folder" in named
    assert EmbeddedServer().models[0] == data / "models"
    of_lm_studio = tmp_path / ".lmstudio" / "models"
    of_lm_studio.mkdir(parents=True)
    assert f"`~/{of_lm_studio.relative_to(tmp_path).as_posix()}`" in named
    assert EmbeddedServer().models[0] == of_lm_studio
