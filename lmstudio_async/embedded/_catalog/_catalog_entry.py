"""Catalog entries: the models that the headers of GGUF files describe, each of one file or of several parts."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

import attrs

from lmstudio_async.embedded._catalog._embedding_names import EmbeddingNames
from lmstudio_async.embedded._catalog._gguf import GgufError, GgufHeader
from lmstudio_async.embedded._catalog._naming import (
    EMBEDDING_PREFIX,
    base_key,
    display_name,
    is_sound_key,
    parameters_text,
    quantization_of,
    split_part,
    without_quantization,
)
from lmstudio_async.embedded._catalog._rope import Rope

__all__ = ["CatalogEntry", "ModelFile", "Pooling", "entries_of", "projector_rank"]

Pooling: TypeAlias = Literal["mean", "last"]

_LARGEST_SIZE: Final = (1 << 31) - 1
_PROJECTOR_QUANTIZATIONS: Final = {"F16": 0, "BF16": 1, "Q8_0": 2, "F32": 3}
# Pooling types, as files number them.
_NONE: Final = 0
_RANK: Final = 4
_EMBEDDING_ARCHITECTURES: Final = frozenset(
    {
        "bert",
        "eurobert",
        "gemma-embedding",
        "jina-bert-v2",
        "jina-bert-v3",
        "modern-bert",
        "neo-bert",
        "nomic-bert",
        "nomic-bert-moe",
        "t5encoder",
    }
)


@attrs.frozen(kw_only=True)
class CatalogEntry:
    """One downloaded model: a GGUF file, or several that are its parts."""

    type: Literal["llm", "embedding"]
    model_key: str
    """Unique key in the catalog. It contains a quantization or a publisher only where it needs one to be unique."""
    base_key: str
    """The key without quantization and publisher, the same for all quantizations of a model."""
    display_name: str
    publisher: str
    path: str
    """Path relative to the models folder, with forward slashes; of a model in parts, that of the first part."""
    file: Path
    parts: tuple[Path, ...]
    """All files of the model, ``file`` first."""
    projector: Path | None
    """The mmproj file, which adds vision to an LLM."""
    size_bytes: int
    params_string: str | None
    parameter_count: int
    architecture: str
    quantization: tuple[str, int] | None
    """Name and bits."""
    vision: bool
    trained_for_tool_use: bool
    chat_template: str | None
    max_context_length: int
    rope: Rope
    block_count: int
    embedding_length: int
    head_count: int
    head_count_kv: int
    key_length: int
    """Numbers in the key that one head of the KV cache keeps for a token in one block."""
    value_length: int
    expert_count: int
    """Number of experts; 0 for a model that is no mixture of experts."""
    pooling: Pooling | None
    """How an embedding model combines the vectors of its tokens, if the file does not specify it."""
    vector_length: int
    """Number of dimensions of an embedding."""

    @property
    def repository(self) -> str:
        """The folder of the model: ``publisher/repository``."""
        return self.path.rpartition("/")[0]


@attrs.frozen
class ModelFile:
    """A GGUF file in the models folder, with a valid header."""

    path: str
    file: Path
    size: int
    header: GgufHeader

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def stem(self) -> str:
        return self.file.name[: -len(".gguf")]

    @property
    def is_projector(self) -> bool:
        return (
            self.header.architecture == "clip"
            or self.header.text("general.type") == "mmproj"
            or "mmproj" in self.stem.lower()
        )


def entries_of(
    found: dict[str, ModelFile], broken: dict[str, str], embedding_names: EmbeddingNames
) -> Iterator[CatalogEntry]:
    """Yield the models of the files, with keys that need not be unique.

    :param found: the files by their paths.
    :param broken: a dict that receives path -> reason for each file that is not part of a model.
    :param embedding_names: the names of embedding models whose files look like those of LLMs.
    """
    projectors: dict[str, list[ModelFile]] = defaultdict(list)
    for file in found.values():
        if file.is_projector:
            projectors[file.folder].append(file)
    for path in sorted(found, key=lambda path: (path.lower(), path)):
        file = found[path]
        if file.is_projector:
            continue
        part = split_part(file.stem)
        if part and part[1] != 1:
            first = f"{path[: -len('00001-of-00000.gguf')]}00001{path[-len('-of-00000.gguf') :]}"
            if first not in found:
                broken[path] = "the first part of its model is missing"
            continue
        try:
            parts = _all_parts(file, found) if part else [file]
            stem = part[0] if part else file.stem
            yield _entry(parts, stem, projectors[file.folder], embedding_names)
        except GgufError as error:
            broken[path] = str(error)


def _all_parts(first: ModelFile, found: dict[str, ModelFile]) -> list[ModelFile]:
    beginning, ending = first.path[: -len("00001-of-00000.gguf")], first.path[-len("-of-00000.gguf") :]
    count = int(ending[4:9])
    parts = [found.get(f"{beginning}{number:05}{ending}") for number in range(1, min(count, len(found)) + 1)]
    present = [part for part in parts if part]
    if not present or len(present) != count:
        raise GgufError(f"only {len(present)} of its {count} parts are present and valid")
    return present


def _entry(
    parts: Sequence[ModelFile], stem: str, projectors: Sequence[ModelFile], embedding_names: EmbeddingNames
) -> CatalogEntry:
    first = parts[0]
    header = first.header
    architecture = header.architecture
    kind = header.text("general.type") or "model"
    if kind != "model":
        raise GgufError(f"it is not a model: its general.type is {kind[:40]!r}")
    if architecture is None:
        raise GgufError("it has no general.architecture")
    if not any(part.header.tensor_count for part in parts):
        raise GgufError("it has no tensors, so it is a vocabulary at best")
    if not re.fullmatch(r"[\w.-]{1,64}", architecture):
        raise GgufError("the name of its architecture is invalid")
    context_length = _size(header, "context_length")
    blocks = _size(header, "block_count")
    width = _size(header, "embedding_length")
    if not (context_length and blocks and width):
        raise GgufError(
            f"it lacks a size that every language model has: it may be another kind of {architecture}"
        )
    heads = _size(header, "attention.head_count") or 1
    folders = first.folder.split("/")
    name = without_quantization(stem, folders[-1])
    key = base_key(name)
    has_name = embedding_names.has(key, first.path, (name, header.text("general.name") or ""))
    embedding, pooling = _embedding_kind(parts, architecture, has_name=has_name)
    if embedding and not key.startswith(EMBEDDING_PREFIX):
        key = EMBEDDING_PREFIX + key
    if not is_sound_key(key):
        raise GgufError("its name cannot be a model key")
    projectors = () if embedding else sorted(projectors, key=lambda one: _projector_order(one, name))
    projector = projectors[0] if projectors else None
    parameters = sum(part.header.parameter_count for part in parts)
    label = header.text("general.size_label")
    template = header.text("tokenizer.chat_template")
    return CatalogEntry(
        type="embedding" if embedding else "llm",
        model_key=key,
        base_key=key,
        display_name=display_name(name),
        publisher=folders[0] or "local",
        path=first.path,
        file=first.file,
        parts=tuple(part.file for part in parts),
        projector=projector.file if projector else None,
        size_bytes=sum(part.size for part in parts) + (projector.size if projector else 0),
        params_string=label if label and re.fullmatch(r"[\w.]{1,16}", label) else parameters_text(parameters),
        parameter_count=parameters,
        architecture=architecture,
        quantization=quantization_of(stem) or header.quantization,
        # Some projectors are for audio only.
        vision=projector is not None
        and projector.header.metadata.get("clip.has_vision_encoder", True) is not False,
        trained_for_tool_use=not embedding and _has_tools(header, template),
        chat_template=template,
        max_context_length=context_length,
        rope=Rope.read(header, context_length),
        block_count=blocks,
        embedding_length=width,
        head_count=heads,
        head_count_kv=_size(header, "attention.head_count_kv") or heads,
        key_length=_size(header, "attention.key_length") or width // heads,
        value_length=_size(header, "attention.value_length") or width // heads,
        expert_count=_size(header, "expert_count"),
        pooling=pooling,
        vector_length=_size(header, "embedding_length_out") or width,
    )


def _size(header: GgufHeader, key: str) -> int:
    """Return a size from the metadata of the architecture, or 0."""
    number = header.number(f"{header.architecture}.{key}") or 0
    return number if 0 < number <= _LARGEST_SIZE else 0


def _embedding_kind(
    parts: Sequence[ModelFile], architecture: str, *, has_name: bool
) -> tuple[bool, Pooling | None]:
    """Return whether a model is an embedding model, and its pooling if the file does not specify it.

    :param has_name: whether its name is that of an embedding model.
    :raises GgufError: the model neither embeds texts nor generates them.
    """
    header = parts[0].header
    pooling = header.number(f"{architecture}.pooling_type")
    if pooling == _RANK or (pooling is None and any(part.header.has_classifier for part in parts)):
        raise GgufError(
            "it is a reranker or another classifier, which scores texts: it neither embeds nor answers"
        )
    if pooling:
        return True, None
    if not (
        architecture in _EMBEDDING_ARCHITECTURES
        or header.metadata.get(f"{architecture}.attention.causal") is False
    ):
        # An embedding model that was made from an LLM has the architecture of the LLM. If its file has no pooling type,
        # only its name shows that it embeds. It puts the meaning of a text into the vector of the last token.
        return (True, "last") if has_name else (False, None)
    if pooling == _NONE:
        raise GgufError("it gives a vector for each token and none for a text (its pooling type is none)")
    # sentence-transformers also uses the mean for a model that does not specify its pooling.
    return True, "mean"


def _has_tools(header: GgufHeader, template: str | None) -> bool:
    return "tokenizer.chat_template.tool_use" in header.metadata or bool(
        re.search(r"\btools\b", template or "")
    )


def _projector_order(projector: ModelFile, name: str) -> tuple[bool, int, str]:
    """Return a sort key: first a projector that is named after the model, then the fastest exact quantization."""
    quantization = quantization_of(projector.stem) or projector.header.quantization or ("", 0)
    return name.lower() not in projector.stem.lower(), projector_rank(quantization[0]), projector.path


def projector_rank(quantization: str) -> int:
    """Return the place of a quantization in the order of preference for projectors: the fastest exact one first."""
    return _PROJECTOR_QUANTIZATIONS.get(quantization, len(_PROJECTOR_QUANTIZATIONS))
