"""The examples and tables of the README: each example runs, on real models that have the names in the examples."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import get_args

import anyio
import attrs
import pytest

import lmstudio_async as lms
from tests.examples import MEANING, make_home, run_example, use_home

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
SNIPPETS = [
    pytest.param(match[1], id=f"line-{README.count(chr(10), 0, match.start()) + 1}")
    for match in re.finditer(r"```python\n(.*?)```", README, re.DOTALL)
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(autouse=True)
def home(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine that the examples are for: LM Studio's folder has the models, and its server is the embedded one."""
    use_home(models.parent.parent, monkeypatch)
    monkeypatch.setenv("LMSTUDIO_HOST", "embedded")
    # An example writes its files into the working directory.
    monkeypatch.chdir(tmp_path)


def is_program(snippet: str) -> bool:
    return ".run(main)" in snippet


def is_blocking(snippet: str) -> bool:
    return "import lmstudio_sync" in snippet


async def run_inside_a_client(snippet: str, models: Path) -> None:
    async with lms.AsyncClient(lms.EmbeddedServer(models, threads=1)) as client:
        with anyio.fail_after(60):
            await run_example(snippet, "README.md", {"anyio": anyio, "lms": lms, "client": client})


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_an_example_runs(snippet: str, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if is_blocking(snippet):
        # Run it in a process of its own, because its default client lives until the process ends.
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", snippet],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert MEANING in done.stdout
    elif is_program(snippet):
        exec(compile(snippet, "README.md", "exec"), {"__name__": "__main__"})
    else:
        anyio.run(run_inside_a_client, snippet, models)
    if is_program(snippet) or "respond_stream(chat)" in snippet:
        assert MEANING in capsys.readouterr().out


def test_there_are_programs_and_snippets() -> None:
    programs = [is_program(str(each.values[0])) for each in SNIPPETS]
    assert sum(programs) == 2
    assert len(programs) > 15


def test_the_table_of_load_config_keys_is_complete() -> None:
    table = README.split("| key | meaning |")[1].split("\n\n")[0]
    named = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named == {field.name for field in attrs.fields(lms.LlmLoadModelConfig)} - {"extra"}


def test_the_gpu_row_names_its_keys() -> None:
    row = next(line for line in README.splitlines() if line.startswith("| `gpu` |"))
    assert {field.name for field in attrs.fields(lms.GpuSetting)} <= set(re.findall(r"`(\w+)`", row))


def test_the_sentence_about_embedding_configs_names_all_keys() -> None:
    sentence = README.split("Embedding models have ")[1].split(". ")[0]
    named = set(re.findall(r"`(\w+)`", sentence))
    assert named == {field.name for field in attrs.fields(lms.EmbeddingLoadModelConfig)} - {"extra"}


def test_the_table_of_events_names_each_event_and_reason() -> None:
    table = README.split("| event | meaning |")[1].split("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", table))
    package: ModuleType = lms
    public = {name: getattr(package, name) for name in package.__all__}
    events = {
        n for n, each in public.items() if isinstance(each, type) and issubclass(each, lms.InstanceEvent)
    }
    assert (events - {"InstanceEvent"}) | set(get_args(lms.UnloadReason)) <= named


def test_the_tree_of_errors_is_that_of_the_errors_module() -> None:
    from lmstudio_async import errors

    tree = README.split("```\nLMStudioError\n")[1].split("```")[0]
    assert errors.__doc__ is not None
    assert textwrap.indent("LMStudioError\n" + tree, "    ").rstrip() in errors.__doc__


def prose(document: Path) -> str:
    """Return the text of a document, without its code."""
    text = document.read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", ["README.md", "docs/recipes.md", "docs/lmsa.md"])
def test_the_prose_is_no_wider_than_the_code(name: str) -> None:
    lines = prose(ROOT / name).splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: each.name)
def test_the_links_lead_to_files_and_headings(document: Path) -> None:
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([\w-]*)\)", prose(document)):
        target = document.parent / path if path else document
        assert target.is_file(), path
        assert not anchor or anchor in anchors(target), anchor
