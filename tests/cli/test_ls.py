"""`lmsa ls`: the downloaded models as a table and as JSON, on the embedded default and on a running server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lmstudio_async import EmbeddedServer, LlmInfo, Quantization
from lmstudio_async._cli._commands._ls import row
from lmstudio_async.testing import ModelsFolder, served
from lmstudio_sync import Client
from tests.cli.commands import command_in_terminal, run

SMALL = "bartowski/SmolLM2-135M-Instruct-GGUF"
LONG = "acme/a-model-with-a-very-long-name-that-no-terminal-of-80-columns-shows-in-one-line-Q8_0.gguf"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelsFolder:
    models = ModelsFolder(tmp_path_factory.mktemp("models"))
    models.add_llm("acme/tiny-GGUF/tiny-Q4_K_M.gguf")
    models.add_llm("acme/tiny-GGUF/tiny-Q8_0.gguf")
    models.add_embedding("acme/embed-GGUF/embed-F32.gguf")
    models.add_llm(LONG)
    return models


@pytest.fixture(scope="module")
def host(models: ModelsFolder) -> Iterator[str]:
    """A server that has loaded two instances of one model."""
    with served(EmbeddedServer(models.folder, threads=1)) as host, Client(host) as client:
        for name in ("one", "two"):
            client.llm.load_new_instance("tiny@q8_0", name)
        yield host


def test_table_in_a_pipe_has_one_line_for_each_model(models: ModelsFolder) -> None:
    code, out, err = run("ls", "--models", str(models.folder))
    head, *rows = out.splitlines()
    assert (code, err, len(rows)) == (0, "", 4)
    assert head.split() == ["MODEL", "KIND", "PARAMS", "QUANT", "SIZE", "CONTEXT"]
    assert [row.split()[:2] for row in rows if "tiny" in row] == [
        ["tiny@q4_k_m", "llm"],
        ["tiny@q8_0", "llm"],
    ]
    assert any(Path(LONG).stem.removesuffix("-Q8_0") in row for row in rows)
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ((), {"llm", "embedding"}),
        (("--llm",), {"llm"}),
        (("--embedding",), {"embedding"}),
        (("--llm", "--embedding"), {"llm", "embedding"}),
    ],
)
def test_filters_choose_the_kinds(models: ModelsFolder, options: tuple[str, ...], kinds: set[str]) -> None:
    code, out, _ = run("ls", "--models", str(models.folder), "--json", *options)
    assert code == 0
    assert {each["kind"] for each in json.loads(out)} == kinds


def test_loaded_instances_are_shown_beside_their_model(host: str) -> None:
    code, out, _ = run("ls", "--host", host, "--json")
    assert code == 0
    loaded = {each["model_key"]: each["loaded"] for each in json.loads(out)}
    assert {key: names for key, names in loaded.items() if names} == {"tiny@q8_0": ["one", "two"]}
    _, out, _ = run("ls", "--host", host)
    assert "LOADED AS" in out.splitlines()[0]
    assert any(line.startswith("tiny@q8_0 ") and line.endswith("one, two") for line in out.splitlines())


def test_table_in_a_terminal_breaks_no_heading_and_repeats_no_name(tmp_path: Path) -> None:
    models = ModelsFolder(tmp_path)
    models.add_llm("qwen3-4b-instruct-2507")
    models.add_embedding("text-embedding-x")
    with served(EmbeddedServer(models.folder, threads=1)) as host, Client(host) as client:
        for _ in range(2):
            client.llm.load_new_instance("qwen3-4b-instruct-2507")
        with command_in_terminal("ls", "--host", host, columns=80) as narrow:
            assert narrow.wait_for_end() == 0
        with command_in_terminal("ls", "--host", host, columns=200) as wide:
            assert wide.wait_for_end() == 0
    head, *rows = narrow.shown.splitlines()
    assert head.split() == ["MODEL", "KIND", "PARAMS", "QUANT", "SIZE", "CONTEXT", "LOADED", "AS"]
    assert rows[0].split()[1] == "llm"
    assert "same name," in rows[0]
    assert "qwen3-4b-instruct-2507, qwen3-4b-instruct-2507:2" in wide.shown.splitlines()[1]


def test_json_has_each_field_of_a_model(models: ModelsFolder) -> None:
    _, out, _ = run("ls", "--models", str(models.folder), "--json", "--embedding")
    (model,) = json.loads(out)
    file = models.folder / "acme/embed-GGUF/embed-F32.gguf"
    assert model == {
        "model_key": "text-embedding-embed",
        "kind": "embedding",
        "path": "acme/embed-GGUF/embed-F32.gguf",
        "params": model["params"],
        "quantization": "F32",
        "architecture": "bert",
        "size_bytes": file.stat().st_size,
        "max_context_length": model["max_context_length"],
        "variants": [],
        "selected_variant": None,
        "vision": None,
        "trained_for_tool_use": None,
        "loaded": [],
    }


def test_variants_of_lm_studio_have_a_column() -> None:
    info = LlmInfo(
        model_key="qwen/qwen3-4b",
        quantization=Quantization(name="Q4_K_M", bits=4),
        variants=["qwen/qwen3-4b@q4_k_m", "qwen/qwen3-4b@q8_0"],
        selected_variant="qwen/qwen3-4b@q4_k_m",
    )
    model: Any = SimpleNamespace(info=info, model_key=info.model_key, path=info.path)
    assert row(model, [], None) == ("qwen/qwen3-4b", "llm", "", "Q4_K_M", "0 kB", "0", "q4_k_m, q8_0", "")


def test_skipped_files_are_hinted_at(tmp_path: Path) -> None:
    (tmp_path / "acme").mkdir()
    for name in ("a", "b"):
        (tmp_path / "acme" / f"{name}.gguf").write_bytes(b"not a model")
    code, out, err = run("ls", "--models", str(tmp_path))
    assert (code, out) == (0, "")
    first, second = err.splitlines()
    assert first == f"There are no models. To download one: lmsa pull {SMALL} --models {tmp_path}"
    assert second.startswith("2 files were skipped, such as acme/a.gguf: ")
    assert second.endswith(f"To list all of them: lmsa doctor --models {tmp_path}")
    assert run("ls", "--models", str(tmp_path), "--json", "--quiet") == (0, "[]\n", "")


@pytest.mark.parametrize(
    ("option", "kind", "model"),
    [
        ("--llm", "language models", SMALL),
        ("--embedding", "embedding models", "nomic-ai/nomic-embed-text-v1.5-GGUF"),
    ],
)
def test_no_model_of_a_kind_is_said(tmp_path: Path, option: str, kind: str, model: str) -> None:
    _, _, err = run("ls", "--models", str(tmp_path), option)
    assert err == f"There are no {kind}. To download one: lmsa pull {model} --models {tmp_path}\n"
