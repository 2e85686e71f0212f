"""Catalog of the downloaded models: the scan of the places where they are, and the resolution of model keys."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

import attrs

from lmstudio_async._printable import printable
from lmstudio_async._protocol._errors import domain_mismatch, path_not_found
from lmstudio_async.embedded._catalog._catalog_entry import CatalogEntry, ModelFile, entries_of
from lmstudio_async.embedded._catalog._embedding_names import EmbeddingNames
from lmstudio_async.embedded._catalog._gguf import GgufError, GgufHeader, read_header
from lmstudio_async.embedded._catalog._model_places import ModelPlaces
from lmstudio_async.embedded._catalog._naming import (
    EMBEDDING_PREFIX,
    base_key,
    folded,
    is_sound_key,
    split_part,
    split_variant,
    without_quantization,
)

__all__ = ["Catalog", "CatalogEntry"]

logger = logging.getLogger("lmstudio_async.embedded")

# Number of skipped files that an error names.
_MOST_SKIPPED: Final = 3
# Bits of a weight by preference, for a key without a quantization: near four bits, rather more than fewer.
_BITS_LIKED: Final = (4, 5, 6, 8, 3, 2, 16, 32, 1)


class Catalog:
    """The models of some places. Its methods block: call them in a thread.

    The header of a file is cached until the file changes, so a second scan costs one ``stat`` a file.

    :param places: the places, or the path of a models folder, which need not exist.
    :param embedding_names: the names of embedding models whose files look like those of LLMs; None for the names of
        the usual families.
    """

    def __init__(self, places: ModelPlaces | Path, embedding_names: EmbeddingNames | None = None) -> None:
        self.places: Final = ModelPlaces([places]) if isinstance(places, Path) else places
        self._embedding_names = EmbeddingNames() if embedding_names is None else embedding_names
        self._headers: dict[str, tuple[tuple[int, int, int], GgufHeader | GgufError]] = {}
        self.broken: dict[str, str] = {}
        """Path -> reason why this GGUF file is not among the models, as of the last scan."""

    @property
    def folder(self) -> Path | None:
        """The models folder, which gets downloads. It need not exist. None if the server was given only files."""
        return self.places.folder

    def scan(self) -> list[CatalogEntry]:
        """Read the places, and return all models in the alphabetical order of their paths."""
        broken: dict[str, str] = {}
        headers: dict[str, tuple[tuple[int, int, int], GgufHeader | GgufError]] = {}
        found: dict[str, ModelFile] = {}
        for path, file, problem in self.places.files():
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
                    # Do not cache it, because the next attempt to read the file may succeed.
                    del headers[path]
            else:
                found[path] = ModelFile(path, file, status.st_size, header)
        entries = list(entries_of(found, broken, self._embedding_names))
        for path in sorted(broken.keys() - self.broken.keys()):
            logger.info("skipped the model file %s: %s", printable(path), printable(broken[path]))
        self._headers, self.broken = headers, dict(sorted(broken.items()))
        return _with_unique_keys(entries)

    def resolve(self, key: str, domain: Literal["llm", "embedding"]) -> tuple[CatalogEntry, list[str] | None]:
        """Find the model that a key, a path or the beginning of a path means. Scans the folder again.

        :param key: a model key, with or without ``@quantization`` or ``publisher/``; a path, or its beginning.
        :return: the model, and, if the key means several models, the keys of all of them, this one's first.
        :raises LMStudioModelNotFoundError: no model fits, or the beginning of a path that does not end at a ``/`` fits
            several.
        :raises LMStudioDomainMismatchError: only a model of the other kind fits.
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

    def _why_not(self, key: str, domain: Literal["llm", "embedding"], keys: Sequence[str]) -> str:
        """Return a hint at the cause that a remote user cannot see: a skipped file, or that there are no models."""
        for path, reason in self.broken.items():
            if folded(key) in (folded(path), _key_of_file(path), EMBEDDING_PREFIX + _key_of_file(path)):
                return f"The file {path} exists, but is skipped: {reason}."
        skipped = ""
        if self.broken:
            some = [f"{path} ({reason})" for path, reason in self.broken.items()][:_MOST_SKIPPED]
            skipped = (
                f"Skipped among the models: {len(self.broken)} files and folders, such as {', '.join(some)}."
            )
        if keys:
            return skipped
        return " ".join(filter(None, (skipped, self.places.advice(key, domain))))


def _key_of_file(path: str) -> str:
    """Return the key that the model of an unreadable file would have."""
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
        # Its traceback would keep the partly read header in memory.
        return error.with_traceback(None)


def _with_unique_keys(entries: list[CatalogEntry]) -> list[CatalogEntry]:
    """Make the keys unique: to a shared base key add the quantization, the publisher or both, or take the path."""
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
    """Yield the models that a key means by each rule, in groups of rules of equal rank, the most exact first."""
    wanted = folded(key)
    name, variant = split_variant(wanted)
    chosen = [e for e in entries if variant is None or (e.quantization and variant in e.quantization)]
    yield [
        # On a case-sensitive file system two paths may differ only in case.
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
    """Return ``publisher/repository`` and its folders, each with and without the suffix ``-GGUF`` of the Hub."""
    publisher, *folders = folded(entry.repository).split("/")
    names = {"/".join([publisher, *folders[:depth]]) for depth in range(1, len(folders) + 1)}
    return names | {name.removesuffix("-gguf") for name in names}
