"""Errors of servers about settings: they name the settings as the user types them, and end with exit code 2."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lmstudio_async import EmbeddedServer
from lmstudio_async._cli._setting_names import with_setting_names
from lmstudio_async._config._rules import EMBEDDING_LOAD, LLM_LOAD, PREDICTION
from lmstudio_async.testing import ModelsFolder, served
from tests.cli.commands import run

OPTIONS = {"context_length": "context_length (--context)"}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("acme/tiny-GGUF/tiny-Q4_K_M.gguf")
    with served(EmbeddedServer(folder.folder, threads=1)) as address:
        yield address


@pytest.mark.parametrize(
    "rules", [LLM_LOAD, EMBEDDING_LOAD, PREDICTION], ids=["llm", "embedding", "prediction"]
)
def test_each_setting_has_the_name_that_the_user_types(
    rules: dict[str, tuple[tuple[str, ...], object]],
) -> None:
    for name, (keys, _) in rules.items():
        for key in keys:
            assert with_setting_names(f"{key} must be 3") == f"{OPTIONS.get(name, name)} must be 3"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["-c", "1"],
            "context_length (--context) must be at least 2, a token of a prompt and one of an answer, not 1",
        ),
        (
            ["-c", "9999999"],
            "To extend it, set rope_frequency_scale or rope_frequency_base: rope_frequency_scale ",
        ),
        (
            ["--config", "eval_batch_size=1"],
            "eval_batch_size must be at least 4, so that each of max_parallel_pred",
        ),
        (
            ["--config", "num_experts=3"],
            "num_experts: the engine always uses the model's own number of experts",
        ),
        (["--config", "gpu_strict_vram_cap=true"], "gpu_strict_vram_cap: the engine has no limit"),
    ],
)
@pytest.mark.parametrize("command", ["load", "estimate"])
def test_setting_that_the_server_refuses_is_a_wrong_argument(
    host: str, command: str, options: list[str], message: str
) -> None:
    ended = run(command, "tiny", *options, LMSTUDIO_HOST=host)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert "llm.load" not in ended.err


def test_draft_model_that_is_missing_is_named(host: str) -> None:
    ended = run("load", "tiny", "--config", "speculative_draft_model=nix", LMSTUDIO_HOST=host)
    assert ended.code == 4
    assert "nix" in ended.err
    assert "There is no model 'tiny'" not in ended.err
