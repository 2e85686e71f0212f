"""The official packages for JavaScript, from npm: each runs `npm_client.mjs` once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lmstudio_async.testing import ModelsFolder
from lmstudio_async.testing._tiny_models import write_llm
from tests.embedded.local_hub import LocalHub
from tests.official.npm import OVERRIDES, install, needs_npm, run_node
from tests.official.serving import Served, served

TOKEN = "sk-lm-abcdefgh:ABCDEFGHIJKLMNOPQRST"

pytestmark = needs_npm


@pytest.fixture(scope="module", params=OVERRIDES)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def package(version: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package installed."""
    folder = tmp_path_factory.mktemp("npm")
    install(folder, version)
    return folder


@pytest.fixture(scope="module")
def outcome(package: Path, server: Served) -> dict[str, Any]:
    """The outcome of `npm_client.mjs`."""
    program = run_node(package, "npm_client.mjs", server.address)
    assert program.stderr == ""
    outcome: dict[str, Any] = json.loads(program.stdout)
    return outcome


def test_neither_side_logs_a_warning(outcome: dict[str, Any], server: Served) -> None:
    assert outcome["complaints"] == []
    assert server.complaints() == ""


def test_downloaded_models_are_listed(outcome: dict[str, Any]) -> None:
    assert {"tiny", "other", "eye", "text-embedding-embed"} <= set(outcome["downloaded"])


def test_a_model_is_loaded_under_an_identifier_with_progress(outcome: dict[str, Any], version: str) -> None:
    progress = outcome["progress"]
    assert (progress[0], progress[-1]) == (0, 1)
    assert progress == sorted(progress)
    info = outcome["info"]
    assert (info["identifier"], info["modelKey"], info["contextLength"]) == ("mine", "tiny", 512)
    assert outcome["contextLength"] == 512
    if version == "1.5.0":
        # This version returns the config in its wire form, and drops unknown fields of the info.
        fields = {field["key"]: field["value"] for field in outcome["loadConfig"]["fields"]}
        assert fields["llm.load.contextLength"] == 512
    else:
        assert outcome["loadConfig"]["contextLength"] == 512
        assert (info["publisher"], info["ttlMs"], info["lastUsedTime"]) == ("acme", 60_000, None)


def test_identifiers_in_use_and_unknown_models_are_errors(outcome: dict[str, Any]) -> None:
    assert 'A model with the identifier "mine" already exists.' in outcome["duplicate"]
    assert "no-such-model" in outcome["unknown"]


def test_loaded_models_are_found_and_listed(outcome: dict[str, Any]) -> None:
    assert (outcome["second"], outcome["found"], outcome["any"]) == ("tiny", "mine", "mine")
    # The just-in-time load of the embedding model evicted "other", which was also loaded just in time.
    assert outcome["onDemand"]["identifier"] == "other"
    assert outcome["loaded"] == ["mine", "tiny", "text-embedding-embed"]


def test_the_ttl_of_a_just_in_time_load_is_an_hour(outcome: dict[str, Any], version: str) -> None:
    # Version 1.5.0 drops this field.
    assert outcome["onDemand"].get("ttlMs") == (None if version == "1.5.0" else 3_600_000)


def test_a_load_is_cancelled_and_leaves_nothing(outcome: dict[str, Any]) -> None:
    assert "changed my mind" in outcome["aborted"]
    assert outcome["left"] == []


def test_a_model_answers_in_fragments_and_can_be_stopped(outcome: dict[str, Any]) -> None:
    answer = outcome["answer"]
    assert len(answer["fragments"]) > 2
    assert "".join(answer["fragments"]) == answer["content"] == "Hello there, old friend"
    assert answer["stopReason"] == "eosFound"
    assert outcome["completed"] == "Hello there, old friend"
    assert outcome["cancelled"] == "userStopped"


def test_a_model_follows_a_schema_and_calls_a_tool(outcome: dict[str, Any]) -> None:
    assert outcome["structured"]["count"] in ("one", "two")
    assert (outcome["acted"]["rounds"], outcome["acted"]["calls"]) == (2, [[1, 2]])
    assert outcome["acted"]["said"][-1] == "The sum is 3."


def test_texts_are_tokenized_formatted_and_embedded(outcome: dict[str, Any]) -> None:
    assert outcome["tokens"] == [[97, 98, 99], [[97], [98]], 3]
    assert outcome["prompt"] == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert (outcome["embedding"], outcome["embeddings"]) == (16, 2)


def test_calls_on_an_unloaded_instance_fail(outcome: dict[str, Any]) -> None:
    assert outcome["unloaded"] is not None
    assert "unloaded" in outcome["noLonger"]


def test_a_server_with_tokens_authenticates_only_clients_with_a_token(
    package: Path, version: str, models: Path
) -> None:
    def listed(*credentials: str) -> Any:
        return json.loads(run_node(package, "npm_list.mjs", server.address, *credentials).stdout)

    with served(models, "--token", TOKEN) as server:
        assert "this server needs an API token" in listed()
        # Only version 2.0.0 supports tokens.
        if version != "1.5.0":
            assert listed(TOKEN) == 10


def test_downloads_are_planned_engines_listed_and_texts_searched(
    package: Path, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if version == "1.5.0":
        pytest.skip("version 1.5.0 does not have these features")
    models = ModelsFolder(tmp_path / "models")
    models.add_embedding("acme/embed-GGUF/embed-F32.gguf")
    model = write_llm(tmp_path / "model.gguf").read_bytes()
    with LocalHub() as hub:
        hub.add("acme/new-GGUF", {"new-Q4_K_M.gguf": model, "new-Q8_0.gguf": model + bytes(100)})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with served(models.folder) as server:
            program = run_node(package, "npm_plan.mjs", server.address, "acme", "new-GGUF")
            assert program.stderr == ""
            assert server.complaints() == ""
    outcome = json.loads(program.stdout)
    assert outcome["complaints"] == []

    (engine,) = outcome["engines"]
    specifier = {"name": engine["name"], "version": engine["version"]}
    assert outcome["selections"] == [["GGUF", specifier]]
    assert outcome["selected"] is None
    for refused in (outcome["removed"], outcome["searched"]):
        assert "pip install" in refused
    assert outcome["survey"]["engines"][0]["compatibility"] == {"status": "compatible"}

    plan = outcome["plan"]
    assert plan["nodes"][0]["selected"]["quantName"] == "Q4_K_M"
    assert (plan["downloadSizeBytes"], plan["downloadAction"]) == (len(model), "startNewDownload")
    assert outcome["chosen"] == "Q8_0"
    assert (outcome["updates"][-1], outcome["finalized"]) == (len(model) + 100, 1)
    assert "acme/new-GGUF/new-Q8_0.gguf" in outcome["here"]
    assert outcome["wished"] == "Q4_K_M"
    assert (outcome["owned"]["state"], outcome["owned"]["alreadyOwned"]["modelKey"]) == ("satisfied", "new")
    assert "plan was cancelled" in outcome["cancelled"]
    assert "no such repository" in outcome["missing"]
    assert "LM Studio's own hub" in outcome["artifact"]

    assert outcome["account"] == [False, "none"]
    assert outcome["parsed"] == "The cat sleeps.\n\nThe dog barks."
    assert outcome["retrieved"] == [["The dog barks.", "a.txt"]]
