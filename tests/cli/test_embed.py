"""The command ``embed``."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import lmstudio_async as lms
import lmstudio_sync
from lmstudio_async._cli import main
from lmstudio_async.testing import ModelsFolder, served
from tests.cli.commands import Outcome, run

KEY = "text-embedding-embed"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with an embedding model and an LLM."""
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_embedding("embed", dimensions=6)
    folder.add_llm("tiny")
    with served(lms.EmbeddedServer(folder.folder)) as address:
        yield address


def embed(host: str, *arguments: str, stdin: str = "") -> Outcome:
    return run("embed", "--host", host, *arguments, stdin=stdin)


def vectors(host: str, *texts: str) -> list[list[float]]:
    """Return the vectors of each text alone: within a batch they differ in the last digits."""
    with lmstudio_sync.Client(host) as client:
        model = client.embedding.model(KEY)
        return [list(model.embed(text)) for text in texts]


def test_json_is_an_array_with_a_vector_for_each_text(host: str) -> None:
    found = embed(host, KEY, "a cat", "a dog", "--json").json
    for vector, expected in zip(found, vectors(host, "a cat", "a dog"), strict=True):
        assert vector == pytest.approx(expected, abs=1e-4)
    assert embed(host, KEY, "a cat", "--format", "json").json == [pytest.approx(found[0], abs=1e-4)]


def test_each_line_of_a_pipe_is_a_text(host: str) -> None:
    lines = embed(host, KEY, "--format", "jsonl", stdin="a cat\na dog\n").out.splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["a cat", "a dog"]
    assert json.loads(lines[1])["embedding"] == pytest.approx(vectors(host, "a dog")[0], abs=1e-4)


def test_lines_of_a_pipe_end_only_at_line_breaks(host: str) -> None:
    lines = embed(host, KEY, "--format", "jsonl", stdin="a\u2028b\f\r\n\nc").out.split("\n")
    assert [json.loads(line)["text"] for line in lines[:-1]] == ["a\u2028b\f", "", "c"]


def test_pipe_that_is_no_text_exits_with_2(host: str) -> None:
    outcome = run("embed", "--host", host, KEY, stdin=b"\xff\xfe")
    assert outcome.code == 2
    assert "Invalid value: Standard input is not text in UTF-8." in outcome.err


def test_csv_has_the_text_and_the_numbers(host: str) -> None:
    [row] = csv.reader(embed(host, KEY, 'a "cat", say', "--format", "csv").out.splitlines())
    assert row[0] == 'a "cat", say'
    assert [float(number) for number in row[1:]] == pytest.approx(vectors(host, row[0])[0], abs=1e-4)


def test_pipe_gets_all_numbers_of_a_text_in_a_line(host: str) -> None:
    outcome = embed(host, KEY, "a cat", "a dog")
    assert outcome.err == ""
    assert [len(line.split()) for line in outcome.out.splitlines()] == [6, 6]


def test_terminal_gets_a_table_with_the_first_numbers(
    host: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")  # no colours
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["embed", "--host", host, KEY, "a cat", "x" * 99]) == 0
    title, first, second = capsys.readouterr().out.splitlines()
    assert title.split() == ["TEXT", "DIMENSIONS", "VECTOR"]
    [vector] = vectors(host, "a cat")
    assert first.split() == ["a", "cat", "6", *(f"{number:.4f}" for number in vector[:3]), "…"]
    assert second.startswith("x" * 35 + "… ")


def test_language_model_has_no_vectors(host: str) -> None:
    outcome = embed(host, "tiny", "a cat")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == (
        "lmsa: tiny is a language model, which has no vectors. "
        f"For an answer: lmsa run tiny PROMPT --host {host}\n"
    )


def test_unknown_model_exits_with_4(host: str) -> None:
    outcome = embed(host, "nix", "a cat")
    assert (outcome.code, outcome.out) == (4, "")
    assert outcome.err.endswith(f"lmsa pull nix --host {host}\n")


def test_embed_uses_an_embedded_server_that_ends_with_it(tmp_path: Path) -> None:
    folder = ModelsFolder(tmp_path)
    folder.add_embedding("embed", dimensions=4)
    found = run("embed", "--models", str(tmp_path), KEY, "a cat", "--json").json
    assert [len(vector) for vector in found] == [4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((), "There is no text"), (("a", "--json", "--format", "csv"), "exclude each other")],
)
def test_invalid_arguments_exit_with_2(arguments: tuple[str, ...], message: str, host: str) -> None:
    outcome = embed(host, KEY, *arguments)
    assert outcome.code == 2
    assert message in outcome.err
