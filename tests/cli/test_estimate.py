"""`lmsa estimate`: the memory of a load, on a server and with the embedded server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lmstudio_sync as lms
from lmstudio_async import EmbeddedServer, MemoryEstimate, ModelUsage
from lmstudio_async._cli import main
from lmstudio_async._cli._commands._estimate import estimate_lines
from lmstudio_async.testing import ModelsFolder, served
from tests.cli.commands import run


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("tiny")
    folder.add_embedding("text-embedding-vectors")
    return folder.folder


def test_estimate_uses_the_embedded_server_with_a_models_folder(models: Path) -> None:
    code, output, errors = run("estimate", "tiny", "--models", str(models))
    assert (code, errors) == (0, "")
    lines = output.splitlines()
    assert [line[:12].rstrip() for line in lines] == ["Memory", "On GPUs", "Confidence", "Guardrails"]
    assert "weights" in lines[0]
    assert "context" in lines[0]
    assert lines[3].endswith("the server would load it")


def test_estimate_json_is_the_estimate_of_the_server(models: Path) -> None:
    with served(EmbeddedServer(models)) as host, lms.Client(host) as client:
        estimate = run("estimate", "tiny", "-c", "512", "--json", "--host", host).json
        usage = client.llm.estimate_resources("tiny", {"context_length": 512})
    assert estimate["model_key"] == "tiny"
    assert estimate["total_bytes"] == usage.memory.total_bytes > 0
    assert estimate["context_bytes"] == usage.memory.context_bytes > 0
    assert estimate["passes_guardrails"] is True


def estimate_json(models: Path, *arguments: str, capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    assert main(["estimate", *arguments, "--json", "--models", str(models)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_estimate_grows_with_the_context(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = estimate_json(models, "tiny", "-c", "256", capsys=capsys)
    long = estimate_json(models, "tiny", "--config", "contextLength=2048", capsys=capsys)
    assert long["context_bytes"] > short["context_bytes"] > 0


def test_estimate_knows_embedding_models(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert estimate_json(models, "text-embedding-vectors", capsys=capsys)["model_bytes"] > 0


def test_estimate_lines_tell_of_gpus_and_of_a_refusal() -> None:
    # The embedded server of the tests has no GPU, and refuses no load.
    memory = MemoryEstimate(
        confidence="low",
        total_bytes=6e9,
        model_bytes=4e9,
        context_bytes=1.5e9,
        total_vram_bytes=3e9,
        model_vram_bytes=2e9,
        context_vram_bytes=1e9,
    )
    assert estimate_lines(ModelUsage(memory=memory, passes_guardrails=False)) == (
        "Memory      6.00 GB (weights 4.00 GB, context 1.50 GB)",
        "On GPUs     3.00 GB (weights 2.00 GB, context 1.00 GB)",
        "Confidence  low",
        "Guardrails  the server would refuse to load it",
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["tyny"], 4, "Did you mean 'tiny'?"),
        (["tiny", "--config", "contxt_length=512"], 2, "Did you mean 'context_length'?"),
        (["text-embedding-vectors", "--config", "flash_attention=true"], 2, "flash_attention"),
    ],
)
def test_estimate_explains_wrong_arguments(
    arguments: list[str], code: int, message: str, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["estimate", *arguments, "--models", str(models)]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err


@pytest.mark.parametrize(
    ("wrong", "meant"), [("tyny", "tiny"), ("text-embedding-vektors", "text-embedding-vectors")]
)
def test_estimate_of_a_missing_model_names_one_of_either_kind_and_the_download(
    wrong: str, meant: str, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["estimate", wrong, "--models", str(models)]) == 4
    fact, advice = capsys.readouterr().err.splitlines()
    assert fact.startswith(f"lmsa: There is no model {wrong!r}. Did you mean {meant!r}? There are: ")
    assert advice == f"To download it: lmsa pull {wrong} --models {models}"
