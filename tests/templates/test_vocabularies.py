"""Real vocabularies: texts become the tokens of llama.cpp's references, and these tokens become the texts again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

import lmstudio_sync as lms
from lmstudio_async.embedded._catalog._gguf import GgufArray, read_header
from tests.templates.faults import case
from tests.templates.scripted import write_scripted
from tests.templates.vocabulary import Reference, add_vocabulary, references

#: Vocabulary -> whether it adds a token before a prompt, and a blank before a text.
VOCABULARIES = {
    "command-r": (True, False),
    "deepseek-coder": (True, False),
    "deepseek-llm": (True, False),
    "falcon": (False, False),
    "gemma-4": (True, False),
    "gpt-2": (False, False),
    "llama-bpe": (True, False),
    "llama-spm": (True, True),
    "mpt": (False, False),
    "phi-3": (True, True),
    "qwen2": (False, False),
    "qwen35": (False, False),
    "refact": (False, False),
    "starcoder": (False, False),
}
CONTEXT = 2048


@attrs.frozen
class Reader:
    """A model with a real vocabulary, which answers "Hi" with all reference texts."""

    llm: lms.LLM
    name: str
    references: list[Reference]


@pytest.fixture
def reader(
    request: pytest.FixtureRequest, client: lms.Client, models: Path, sources: Path
) -> Iterator[Reader]:
    name = request.param
    has_bos, _ = VOCABULARIES[name]
    vocabulary = sources / f"ggml-vocab-{name}.gguf"
    metadata = read_header(vocabulary).metadata
    tokens = metadata["tokenizer.ggml.tokens"]
    assert isinstance(tokens, GgufArray)
    texts = references(vocabulary)
    script = [token for _, known in texts for token in known]
    # "Hi" is one token of each vocabulary.
    before = [script[0]] if has_bos else []
    end = int(metadata["tokenizer.ggml.eos_token_id"])
    path = models / "test" / f"vocabulary-{name}" / f"vocabulary-{name}-F32.gguf"
    write_scripted(path, {"all": [*before, *script, end]}, {}, size=tokens.count, context_length=CONTEXT)
    add_vocabulary(path, vocabulary)
    llm = client.llm.load_new_instance(f"vocabulary-{name}", config={"context_length": CONTEXT})
    yield Reader(llm, name, texts)
    llm.unload()
    path.unlink()


@pytest.mark.parametrize("reader", [case(name, "texts") for name in VOCABULARIES], indirect=True)
def test_tokens_and_generated_texts_equal_the_reference(reader: Reader) -> None:
    known = [reference for reference in reader.references if reference[0]]
    texts = [text for text, _ in known]
    assert list(zip(texts, map(list, reader.llm.tokenize(texts)), strict=True)) == known
    _, has_blank = VOCABULARIES[reader.name]
    result = reader.llm.complete("Hi", config={"max_tokens": 2000, "temperature": 0})
    assert result.content == "".join(" " + text if has_blank else text for text in texts)
    assert result.stats.stop_reason == "eosFound"
