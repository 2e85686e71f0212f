"""The downloaded models: what is in the models folder, and which model a key means."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

import attrs

from lmstudio_async._printable import printable
from lmstudio_async._protocol._errors import domain_mismatch, path_not_found
from lmstudio_async.embedded._gguf import GgufError, GgufHeader, read_header
from lmstudio_async.embedded._models_folder import default_models_folder, gguf_files
from lmstudio_async.embedded._naming import (
    EMBEDDING_PREFIX,
    base_key,
    display_name,
    folded,
    is_sound_key,
    parameters_text,
    quantization_of,
    split_part,
    without_quantization,
)

__all__ = ["Catalog", "CatalogEntry", "default_models_folder"]

logger = logging.getLogger("lmstudio_async.embedded")

_LARGEST_SIZE: Final = (1 << 31) - 1
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
# Skipped files that an error names.
_MOST_SKIPPED: Final = 3
# What to take when nobody says which quantization: the nearest to four bits, rather more than fewer.
_BITS_LIKED: Final = (4, 5, 6, 8, 3, 2, 16, 32, 1)


@attrs.frozen(kw_only=True)
class CatalogEntry:
    """One downloaded model: a GGUF file, or several that are its parts."""

    type: Literal["llm", "embedding"]
    model_key: str
    """Names this model and no other of the catalog. It has a quantization or a publisher only where needed."""
    base_key: str
    """The key without those: what all quantizations of a model have in common."""
    display_name: str
    publisher: str
    path: str
    """Relative to the models folder, with forward slashes. Of a model in parts, the first one's."""
    file: Path
    parts: tuple[Path, ...]
    """All files of the model, ``file`` first."""
    projector: Path | None
    """What makes an LLM see: its mmproj file."""
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
    block_count: int
    embedding_length: int
    head_count: int
    head_count_kv: int
    key_length: int
    """Numbers that one head of the cache keeps as a token's key in one block."""
    value_length: int
    expert_count: int
    """0 of a model that is no mixture of experts."""

    @property
    def repository(self) -> str:
        """The folder that the model is in: ``publisher/repository``."""
        return self.path.rpartition("/")[0]


class Catalog:
    """The models of one folder. Its methods block: call them in a thread.

    What a file says is remembered until the file changes, so looking again costs one ``stat`` a file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._headers: dict[str, tuple[tuple[int, int, int], GgufHeader | GgufError]] = {}
        self.broken: dict[str, str] = {}
        """Path -> why this GGUF file is not among the models, as of the last scan."""

    @property
    def folder(self) -> Path:
        """The models folder. It need not exist."""
        return self._folder

    def scan(self) -> list[CatalogEntry]:
        """All models, in the alphabetical order of their paths."""
        broken: dict[str, str] = {}
        headers: dict[str, tuple[tuple[int, int, int], GgufHeader | GgufError]] = {}
        found: dict[str, _File] = {}
        for path, file, problem in gguf_files(self._folder):
            if problem:
                broken[path] = problem
                continue
            try:
                status = file.stat()
                stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
                known = self._headers.get(path)
                headers[path] = known if known and known[0] == stamp else (stamp, _header_or_error(file))
            except OSError as error:
                broken[path] = f"it cannot be read: {error.strerror or error}"
                continue
            header = headers[path][1]
            if isinstance(header, GgufError):
                broken[path] = str(header)
                if isinstance(header.__cause__, OSError):
                    # A matter of this moment, not of what is in the file.
                    del headers[path]
            else:
                found[path] = _File(path, file, status.st_size, header)
        entries = list(_entries(found, broken))
        for path in sorted(broken.keys() - self.broken.keys()):
            logger.info("skipped %s in the models folder: %s", printable(path), printable(broken[path]))
        self._headers, self.broken = headers, dict(sorted(broken.items()))
        return _with_unique_keys(entries)

    def resolve(self, key: str, domain: Literal["llm", "embedding"]) -> tuple[CatalogEntry, list[str] | None]:
        """Find the model that a key, a path or the beginning of a path means. Looks at the folder again.

        :param key: a model key, with or without ``@quantization`` or ``publisher/``; a path, or its beginning.
        :return: the model, and, if the key means several models, the keys of all of them, this one's first.
        :raises LMStudioModelNotFoundError: there is none, or a beginning that does not end at a ``/`` fits several.
        :raises LMStudioDomainMismatchError: there is one, of the other kind.
        """
        entries = self.scan()
        for rules in _rules(key.replace("\\", "/").rstrip("/"), entries) if is_sound_key(key) else ():
            for found in rules:
                fitting = sorted((entry for entry in found if entry.type == domain), key=_preference)
                if fitting:
                    return fitting[0], [entry.model_key for entry in fitting] if len(fitting) > 1 else None
            other = next((entry for found in rules for entry in found), None)
            if other:
                raise domain_mismatch(key, other.type, domain)
        keys = [entry.model_key for entry in entries if entry.type == domain]
        raise path_not_found(key[:1024], keys, self._why_not(key, domain, keys))

    def _why_not(self, key: str, domain: str, keys: Sequence[str]) -> str:
        """What its user cannot see from elsewhere: that the file is there, or that the folder is empty."""
        for path, reason in self.broken.items():
            if folded(key) in (folded(path), _key_of_file(path), EMBEDDING_PREFIX + _key_of_file(path)):
                return f"The file {path} is there, and skipped: {reason}."
        if self.broken:
            some = [f"{path} ({reason})" for path, reason in self.broken.items()][:_MOST_SKIPPED]
            return (
                f"Skipped in the models folder: {len(self.broken)} of its files and folders, such as "
                f"{', '.join(some)}."
            )
        if keys:
            return ""
        kind = "model" if domain == "llm" else "embedding model"
        return (
            f"There is no {kind} in the models folder {self._folder} yet. Put GGUF files there, as "
            "publisher/repository/file.gguf, or download one: client.repository.search_models()."
        )


@attrs.frozen
class _File:
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


def _key_of_file(path: str) -> str:
    """The key of a model in a file that cannot be read."""
    folder, _, name = path.rpartition("/")
    if not name.lower().endswith(".gguf"):
        return folded(path)  # A folder, or a link that may have been to one.
    stem = name[: -len(".gguf")]
    part = split_part(stem)
    return base_key(without_quantization(part[0] if part else stem, folder.rpartition("/")[2]))


def _header_or_error(file: Path) -> GgufHeader | GgufError:
    try:
        return read_header(file)
    except GgufError as error:
        # What was half read must not be kept alive by a traceback.
        return error.with_traceback(None)


def _entries(found: dict[str, _File], broken: dict[str, str]) -> Iterator[CatalogEntry]:
    projectors: dict[str, list[_File]] = defaultdict(list)
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
            yield _entry(parts, part[0] if part else file.stem, projectors[file.folder])
        except GgufError as error:
            broken[path] = str(error)


def _all_parts(first: _File, found: dict[str, _File]) -> list[_File]:
    beginning, ending = first.path[: -len("00001-of-00000.gguf")], first.path[-len("-of-00000.gguf") :]
    count = int(ending[4:9])
    parts = [found.get(f"{beginning}{number:05}{ending}") for number in range(1, min(count, len(found)) + 1)]
    present = [part for part in parts if part]
    if not present or len(present) != count:
        raise GgufError(f"only {len(present)} of its {count} parts are there and sound")
    return present


def _entry(parts: Sequence[_File], stem: str, projectors: Sequence[_File]) -> CatalogEntry:
    first = parts[0]
    header = first.header
    architecture = header.architecture
    kind = header.text("general.type") or "model"
    if kind != "model":
        raise GgufError(f"it is no model, but says of itself that it is of type {kind[:40]!r}")
    if architecture is None:
        raise GgufError("it does not say of which architecture it is")
    if not any(part.header.tensor_count for part in parts):
        raise GgufError("it has no tensors, so it is a vocabulary at best")
    if not re.fullmatch(r"[\w.-]{1,64}", architecture):
        raise GgufError("the name of its architecture makes no sense")
    context_length = _size(header, "context_length")
    blocks = _size(header, "block_count")
    width = _size(header, "embedding_length")
    if not (context_length and blocks and width):
        raise GgufError(
            f"it lacks a size that every language model has: it may be another kind of {architecture}"
        )
    heads = _size(header, "attention.head_count") or 1
    embedding = _is_embedding(header, architecture)
    folders = first.folder.split("/")
    name = without_quantization(stem, folders[-1])
    key = base_key(name)
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
        # Some projectors only hear.
        vision=projector is not None
        and projector.header.metadata.get("clip.has_vision_encoder", True) is not False,
        trained_for_tool_use=not embedding and _has_tools(header, template),
        chat_template=template,
        max_context_length=context_length,
        block_count=blocks,
        embedding_length=width,
        head_count=heads,
        head_count_kv=_size(header, "attention.head_count_kv") or heads,
        key_length=_size(header, "attention.key_length") or width // heads,
        value_length=_size(header, "attention.value_length") or width // heads,
        expert_count=_size(header, "expert_count"),
    )


def _size(header: GgufHeader, key: str) -> int:
    """A size among the architecture's own metadata, or 0."""
    number = header.number(f"{header.architecture}.{key}") or 0
    return number if 0 < number <= _LARGEST_SIZE else 0


def _is_embedding(header: GgufHeader, architecture: str) -> bool:
    return (
        architecture in _EMBEDDING_ARCHITECTURES
        or bool(header.number(f"{architecture}.pooling_type"))
        or header.metadata.get(f"{architecture}.attention.causal") is False
    )


def _has_tools(header: GgufHeader, template: str | None) -> bool:
    return "tokenizer.chat_template.tool_use" in header.metadata or bool(
        re.search(r"\btools\b", template or "")
    )


def _projector_order(projector: _File, name: str) -> tuple[bool, int, str]:
    """The projector that is named after the model, then the one that engines are fastest and exact with."""
    quantization = quantization_of(projector.stem) or projector.header.quantization or ("", 0)
    exactness = {"F16": 0, "BF16": 1, "Q8_0": 2, "F32": 3}.get(quantization[0], 4)
    return name.lower() not in projector.stem.lower(), exactness, projector.path


def _with_unique_keys(entries: list[CatalogEntry]) -> list[CatalogEntry]:
    """Add to the keys what tells models of one base key apart, and no more than that."""
    by_base: dict[str, list[CatalogEntry]] = defaultdict(list)
    for entry in entries:
        by_base[entry.base_key].append(entry)
    return [attrs.evolve(entry, model_key=_key_among(entry, by_base[entry.base_key])) for entry in entries]


def _key_among(entry: CatalogEntry, group: Sequence[CatalogEntry]) -> str:
    if len(group) == 1:
        return entry.base_key
    for more, key in enumerate(_longer_keys(entry)):
        if len({_longer_keys(other)[more] for other in group}) == len(group):
            return key
    return entry.path


def _longer_keys(entry: CatalogEntry) -> tuple[str, str, str]:
    owned = f"{folded(entry.publisher)}/{entry.base_key}"
    variant = f"@{entry.quantization[0].lower()}" if entry.quantization else ""
    return entry.base_key + variant, owned, owned + variant


def _preference(entry: CatalogEntry) -> tuple[int, bool, str]:
    name, bits = entry.quantization or ("", 0)
    return (
        _BITS_LIKED.index(bits) if bits in _BITS_LIKED else len(_BITS_LIKED),
        name != "Q4_K_M",
        entry.path,
    )


def _rules(key: str, entries: Sequence[CatalogEntry]) -> Iterator[list[list[CatalogEntry]]]:
    """The models that a key means by each of the rules, the exacter rules first; rules that rank alike together."""
    wanted = folded(key)
    name, _, variant = wanted.rpartition("@")
    if not name or "/" in variant:
        name, variant = wanted, ""
    chosen = [e for e in entries if not variant or (e.quantization and e.quantization[0].lower() == variant)]
    yield [
        # Not every file system takes names that differ only in case for the same.
        [entry for entry in entries if entry.path == key],
        [entry for entry in entries if wanted in {folded(entry.model_key), folded(entry.path)}],
        [entry for entry in chosen if name in _short_names(entry)],
    ]
    yield [[entry for entry in chosen if name in _repository_names(entry)]]
    begun = [entry for entry in chosen if name and folded(entry.path).startswith(name)]
    yield [begun if len(begun) == 1 else []]


def _short_names(entry: CatalogEntry) -> set[str]:
    keys = {entry.base_key, entry.base_key.removeprefix(EMBEDDING_PREFIX)}
    return keys | {f"{folded(entry.publisher)}/{key}" for key in keys}


def _repository_names(entry: CatalogEntry) -> set[str]:
    """``publisher/repository`` and folders in it, as they are called and without the ``-GGUF`` of the hub."""
    publisher, *folders = folded(entry.repository).split("/")
    names = {"/".join([publisher, *folders[:depth]]) for depth in range(1, len(folders) + 1)}
    return names | {name.removesuffix("-gguf") for name in names}
