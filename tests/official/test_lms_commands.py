"""The commands of `lmsa` that `lms`, LM Studio's own command line, has too.

`lms` belongs to the app. Its commands are thin: they print what its client, the package `@lmstudio/sdk`, returns. The
same calls are made here, and have to agree with `lmsa`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.official.npm import install, needs_npm, run_node
from tests.official.serving import Served

pytestmark = needs_npm

#: Field of `lmsa ls --json` -> that of `lms ls --json`.
DOWNLOADED = {
    "model_key": "modelKey",
    "kind": "type",
    "path": "path",
    "params": "paramsString",
    "architecture": "architecture",
    "size_bytes": "sizeBytes",
    "max_context_length": "maxContextLength",
    "vision": "vision",
    "trained_for_tool_use": "trainedForToolUse",
}

#: The same for `ps`. The last two are no part of its JSON; its table has them.
LOADED = {
    "identifier": "identifier",
    "kind": "type",
    "model_key": "modelKey",
    "instance_reference": "instanceReference",
    "size_bytes": "sizeBytes",
    "context_length": "context",
}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package installed."""
    folder = tmp_path_factory.mktemp("npm")
    install(folder, "2.0.0")
    return folder


def lms(package: Path, server: Served, *arguments: str) -> Any:
    """Return what `lms` would find."""
    program = run_node(package, "npm_lms.mjs", server.address, *arguments)
    assert program.stderr == ""
    return json.loads(program.stdout)


def lmsa(server: Served, *arguments: str) -> str:
    """Run `lmsa` on the server, and return its standard output."""
    command = [sys.executable, "-m", "lmstudio_async", *arguments, "--host", server.address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_both_list_the_same_downloaded_models(package: Path, server: Served) -> None:
    theirs = {model["modelKey"]: model for model in lms(package, server, "ls")}
    ours = {model["model_key"]: model for model in json.loads(lmsa(server, "ls", "--json"))}
    assert ours.keys() == theirs.keys()
    for key, model in ours.items():
        given = {name: model[name] for name in DOWNLOADED}
        # A model without one of these has no such member there, and null here.
        assert given == {name: theirs[key].get(there) for name, there in DOWNLOADED.items()}
        assert model["quantization"] == theirs[key]["quantization"]["name"]


@pytest.mark.parametrize(("option", "kind"), [("--llm", "llm"), ("--embedding", "embedding")])
def test_both_choose_the_kind_by_the_same_options(
    package: Path, server: Served, option: str, kind: str
) -> None:
    theirs = {model["modelKey"] for model in lms(package, server, "ls") if model["type"] == kind}
    ours = {model["model_key"] for model in json.loads(lmsa(server, "ls", option, "--json"))}
    assert ours == theirs


def test_a_load_of_lmsa_is_seen_by_lms_as_it_was_asked_for(package: Path, server: Served) -> None:
    """`lms load tiny --identifier mine --ttl 60 --context-length 512 --gpu off`."""
    shown = lmsa(server, "load", "tiny", "--as", "mine", "--ttl", "60", "-c", "512", "--gpu", "off")
    assert shown == "mine\n"
    lmsa(server, "load", "text-embedding-embed")
    theirs = {instance["identifier"]: instance for instance in lms(package, server, "ps")}
    assert theirs.keys() == {"mine", "text-embedding-embed"}
    assert (theirs["mine"]["ttlMs"], theirs["mine"]["context"]) == (60_000, 512)
    assert theirs["text-embedding-embed"]["ttlMs"] is None

    ours = {instance["identifier"]: instance for instance in json.loads(lmsa(server, "ps", "--json"))}
    assert ours.keys() == theirs.keys()
    for identifier, instance in ours.items():
        there = theirs[identifier]
        assert {name: instance[name] for name in LOADED} == {name: there[LOADED[name]] for name in LOADED}
        assert (instance["status"], instance["queued"]) == (
            there["state"]["status"],
            there["state"]["queued"],
        )
        assert instance["ttl"] == (None if there["ttlMs"] is None else there["ttlMs"] / 1000)

    lmsa(server, "unload", "--all")
    assert lms(package, server, "ps") == []


def test_both_estimate_the_same_memory(package: Path, server: Served) -> None:
    """`lms load tiny --estimate-only --context-length 2048 --gpu off`."""
    theirs = lms(package, server, "estimate", "tiny", "2048")
    ours = json.loads(lmsa(server, "estimate", "tiny", "-c", "2048", "--gpu", "off", "--json"))
    assert ours["total_bytes"] == theirs["memory"]["totalBytes"]
    assert ours["total_vram_bytes"] == theirs["memory"]["totalVramBytes"]
    assert (ours["confidence"], ours["passes_guardrails"]) == (
        theirs["memory"]["confidence"],
        theirs["passesGuardrails"],
    )
