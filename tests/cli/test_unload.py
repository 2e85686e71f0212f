"""`lmsa unload`: instances by their identifiers, or all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

import lmstudio_sync as lms
from lmstudio_async import AsyncLLM, EmbeddedServer, LMStudioServerError
from lmstudio_async._cli import main
from lmstudio_async.testing import ModelsFolder, served
from tests.cli.commands import run


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    models = ModelsFolder(tmp_path_factory.mktemp("models"))
    models.add_llm("tiny")
    models.add_embedding("text-embedding-vectors")
    with served(EmbeddedServer(models.folder)) as host:
        yield host


def load(client: lms.Client, *names: str) -> None:
    for name in names:
        client.llm.load_new_instance("tiny", name)


def loaded(client: lms.Client) -> list[str]:
    return [model.identifier for model in client.list_loaded_models()]


def test_unload_unloads_each_of_several_instances_once(client: lms.Client) -> None:
    load(client, "one", "two", "three")
    assert run("unload", "three", "one", "three") == (0, "Unloaded three.\nUnloaded one.\n", "")
    assert loaded(client) == ["two"]


def test_unload_of_a_missing_instance_exits_with_4_and_unloads_the_others(client: lms.Client) -> None:
    load(client, "one", "two", "three")
    assert run("unload", "nope", "one", "tiny") == (
        4,
        "Unloaded one.\n",
        "lmsa: There is no instance 'nope', 'tiny'. Loaded: two, three.\n",
    )
    assert loaded(client) == ["two", "three"]


def test_unload_json_tells_what_was_unloaded_and_what_is_missing(client: lms.Client) -> None:
    load(client, "one")
    ended = run("unload", "nope", "one", "--json")
    assert json.loads(ended.out) == {"unloaded": ["one"], "missing": ["nope"], "failed": {}}
    assert ended.code == 4
    assert ended.err == "lmsa: There is no instance 'nope'. Nothing else is loaded.\n"
    assert run("unload", "one") == (4, "", "lmsa: There is no instance 'one'. Nothing is loaded.\n")


def test_unload_all_unloads_both_kinds(client: lms.Client) -> None:
    load(client, "one")
    client.embedding.load_new_instance("text-embedding-vectors")
    assert run("unload", "--all") == (0, "Unloaded one.\nUnloaded text-embedding-vectors.\n", "")
    assert loaded(client) == []


@pytest.mark.usefixtures("client")
def test_unload_all_succeeds_if_nothing_is_loaded() -> None:
    assert run("unload", "--all") == (0, "", "Nothing is loaded.\n")
    assert run("unload", "-a", "--json").json == {"unloaded": [], "missing": [], "failed": {}}


@pytest.mark.parametrize("arguments", [[], ["one", "--all"]])
def test_unload_needs_either_identifiers_or_all(
    arguments: list[str], client: lms.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    load(client, "one")
    assert main(["unload", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "give the identifiers of instances, or --all" in shown.err
    assert loaded(client) == ["one"]


def test_unload_unloads_the_others_if_the_server_refuses_one(
    client: lms.Client, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load(client, "one", "two", "three")
    unload = AsyncLLM.unload

    async def refuse_one(llm: AsyncLLM) -> None:
        if llm.identifier == "one":
            raise LMStudioServerError("It is in use.")
        await unload(llm)
        if llm.identifier == "two":
            # As if another client had been faster.
            await unload(llm)

    with monkeypatch.context() as patch:
        patch.setattr(AsyncLLM, "unload", refuse_one)
        assert main(["unload", "--all"]) == 1
    shown = capsys.readouterr()
    assert shown.out == "two was gone already.\nUnloaded three.\n"
    assert shown.err == "lmsa: one was not unloaded: It is in use.\n"
    assert loaded(client) == ["one"]
