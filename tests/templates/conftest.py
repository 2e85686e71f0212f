"""Fixtures: a model with each chat template, and a server that loads it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import pytest

import lmstudio_sync as lms
from tests.templates.families import FAMILIES, Family
from tests.templates.scripted import EOS, Scripts, byte_vocabulary, tokens_of, write_scripted
from tests.templates.scripts import THOUGHT, scripts_of
from tests.templates.sources import unpack

_CONTEXT = 16384


@attrs.frozen
class Speaker:
    """A loaded model that generates the requested script.

    :ivar name: name of its chat template.
    :ivar template: its chat template, in Jinja.
    """

    llm: lms.LLM
    name: str
    template: str
    _scripts: Scripts
    _lengths: dict[bool, int] = attrs.Factory(dict)

    @property
    def family(self) -> Family:
        """The format of its answers."""
        return FAMILIES[self.name]

    @property
    def thought(self) -> str:
        """The reasoning before each of its answers; empty if the family has none."""
        return "" if self.family.thought is None else THOUGHT

    def question(self, script: str, tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """Return the question that the model answers with a script.

        :param script: name of the script.
        :param tools: offered tools; always the same ones, if any.
        """
        if bool(tools) not in self._lengths:
            options: Any = {"tool_definitions": tools}
            prompt = self.llm.apply_prompt_template("Go", options)
            self._lengths[bool(tools)] = self.llm.count_tokens(prompt)
        return "Go" + "o" * self._scripts.padding(script, self._lengths[bool(tools)])

    def ask(self, script: str, tools: Sequence[Mapping[str, Any]] = ()) -> lms.PredictionResult:
        """Ask the question that the model answers with a script.

        :param script: name of the script.
        :param tools: offered tools.
        """
        config: Any = {"temperature": 0, "max_tokens": 2000}
        if tools:
            config["raw_tools"] = {"type": "toolArray", "tools": tools}
        return self.llm.respond(self.question(script, tools), config=config)


@attrs.define
class Cast:
    """The models of all templates. One is loaded at a time, because all tests of a template follow each other."""

    _client: lms.Client
    _models: Path
    _templates: Path
    _loaded: ExitStack
    _speaker: Speaker | None = None

    def speaker(self, name: str) -> Speaker:
        """Load the model of a chat template, unless it is loaded."""
        if self._speaker is None or self._speaker.name != name:
            self._loaded.close()
            self._speaker = self._load(name)
        return self._speaker

    def _load(self, name: str) -> Speaker:
        template = (self._templates / f"{name}.jinja").read_text()
        vocabulary, metadata = byte_vocabulary(template + FAMILIES[name].marks)
        key = re.sub(r"\W", "-", name.lower())
        path = self._models / "test" / key / f"{key}-F32.gguf"
        texts = scripts_of(name, template)
        scripts = write_scripted(
            path,
            {script: tokens_of(text + EOS, vocabulary) for script, text in texts.items()},
            metadata,
            size=len(vocabulary),
            context_length=_CONTEXT,
            metadata={"tokenizer.chat_template": template},
        )
        llm = self._client.llm.load_new_instance(key, config={"context_length": _CONTEXT})
        self._loaded.callback(llm.unload)
        return Speaker(llm, name, template, scripts)


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def client(models: Path) -> Iterator[lms.Client]:
    with lms.Client(lms.EmbeddedServer(models, threads=1)) as client:
        yield client


@pytest.fixture(scope="session")
def cast(client: lms.Client, models: Path, sources: Path) -> Iterator[Cast]:
    with ExitStack() as loaded:
        yield Cast(client, models, sources / "templates", loaded)


@pytest.fixture
def speaker(request: pytest.FixtureRequest, cast: Cast) -> Speaker:
    """A model with the chat template that the test names."""
    return cast.speaker(request.param)
