"""The JSON of the commands has the fields that `docs/lmsa.md` has for them, and no others."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import lmstudio_sync
from lmstudio_async._cli._app import COMMANDS
from lmstudio_async.testing import ModelsFolder
from tests.cli.commands import Command, read_line, run, serving, start
from tests.cli.document import DOCUMENTED, codes, fields, table
from tests.cli.test_document import options

SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("acme/tiny-GGUF/tiny-Q4_K_M.gguf", script='{"name": "Ada"}')
    folder.add_llm("acme/old-GGUF/old-Q4_K_M.gguf")
    folder.add_embedding("embed")
    return folder.folder


@pytest.fixture(scope="module")
def facts(models: Path) -> Iterator[dict[str, Any]]:
    """The line that a server prints. It has one instance."""
    arguments = ("--models", str(models), "--port", "0", "--preload", "tiny")
    with start("serve", *arguments, "--json", "--quiet") as server:
        yield json.loads(read_line(server.out, "address"))
        server.interrupt(signal.SIGTERM)


@pytest.fixture
def host(facts: dict[str, Any]) -> str:
    return str(facts["address"])


def check(name: str, value: Mapping[str, Any]) -> None:
    assert set(value) == fields(name)


def test_every_command_with_json_has_a_paragraph_about_it() -> None:
    with_json = {name for name in COMMANDS if "--json" in options(name)}
    assert {name for name in DOCUMENTED if "--json" in codes(DOCUMENTED[name])} == with_json
    assert with_json == set(COMMANDS) - {"demo"}
    for name in with_json - {"embed"}:
        assert fields(name)


def test_fields_of_serve(facts: dict[str, Any]) -> None:
    check("serve", facts)


@pytest.mark.parametrize("name", ["ls", "ps"])
def test_fields_of_a_row(name: str, host: str) -> None:
    rows = run(name, "--host", host, "--json").json
    assert rows
    for row in rows:
        check(name, row)


def test_fields_of_a_line_of_top(host: str) -> None:
    with start("top", "--host", host, "--json") as top:
        line = json.loads(read_line(top.out))
        check("top", line)
        (row,) = line["instances"]
        check("ps", row)


def test_fields_of_load_and_unload(host: str) -> None:
    check("load", run("load", "tiny", "--as", "two", "--host", host, "--json").json)
    check("unload", run("unload", "two", "--host", host, "--json").json)


def test_fields_of_estimate(host: str) -> None:
    check("estimate", run("estimate", "tiny", "--host", host, "--json").json)


def test_fields_of_pull(host: str) -> None:
    check("pull", run("pull", "acme/tiny-GGUF", "--host", host, "--json").json)


def test_fields_of_rm(tmp_path: Path) -> None:
    ModelsFolder(tmp_path).add_llm("tiny")
    (row,) = run("rm", "tiny", "--yes", "--models", str(tmp_path), "--json").json
    check("rm", row)


def test_fields_of_run(host: str, tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(SCHEMA))
    answer = run("run", "tiny", "A name", "--json-schema", str(file), "--host", host, "--json").json
    check("run", answer)
    (paragraph,) = re.findall(r"^The statistics.*?(?=\n\n)", DOCUMENTED["run"], re.DOTALL | re.MULTILINE)
    named = {code for code in codes(paragraph) if code != "LlmPredictionStats"}
    assert named
    assert named <= set(answer["stats"])


def test_fields_of_embed(host: str) -> None:
    assert isinstance(run("embed", "embed", "a", "--host", host, "--json").json[0][0], float)
    lines = run("embed", "embed", "a", "--host", host, "--format", "jsonl").json
    (sentence,) = re.findall(r"`jsonl` \((.*?)\)", DOCUMENTED["embed"], re.DOTALL)
    assert set(lines) == set(codes(sentence))


def test_fields_of_doctor(models: Path) -> None:
    report = run("doctor", "--models", str(models), "--json").json
    for each in report["checks"]:
        assert set(report) | set(each) == fields("doctor")


@pytest.mark.skipif(
    sys.platform == "win32", reason="a server cannot be killed and restarted at its port at once"
)
def test_fields_of_events(models: Path) -> None:
    of_event = {name.strip("`"): set(codes(cells)) for name, _, cells in table(DOCUMENTED["events"])}
    # A row of a table ends without a cell if the last one is empty.
    of_instance = fields("events") - {"at", "event"}
    seen: dict[str, set[str]] = {}

    def read(events: Command, until: str) -> None:
        while until not in seen:
            event = json.loads(read_line(events.out))
            seen[event["event"]] = set(event)

    with (
        serving(models, "--preload", "tiny") as (host, server),
        start("events", "--host", host, "--json") as events,
    ):
        read(events, "present")
        with lmstudio_sync.Client(host) as client:
            llm = client.llm.load_new_instance("old", ttl=60)
            read(events, "loaded")
            llm.respond("Hello")
            read(events, "changed")
            llm.unload()
            read(events, "unloaded")
        server.process.kill()
        server.process.wait()
        read(events, "server_lost")
        with serving(models, "--preload", "tiny", port=host.rpartition(":")[2]):
            read(events, "server_back")
    assert seen.keys() == of_event.keys()
    for name, found in seen.items():
        about = set() if name.startswith("server_") else of_instance
        assert found == {"at", "event"} | about | of_event[name], name
