"""Models in a repository of the Hub: the files that form a model, and the models that fit this machine."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final

import attrs

from lmstudio_async._protocol._errors import server_error
from lmstudio_async._wire._repository import DownloadOption
from lmstudio_async.embedded._catalog._catalog_entry import projector_rank
from lmstudio_async.embedded._catalog._naming import is_sound_key, quantization_of, split_part
from lmstudio_async.embedded._hub._hub import HubFile, Listing, is_repository
from lmstudio_async.embedded._machine._hardware import Memory

__all__ = ["HubModel", "HubModelName", "download_options", "models_of"]

#: Folders between a repository and a model of it. Deeper files are ignored.
_MOST_FOLDERS: Final = 4
_IDENTIFIER: Final = re.compile(
    r"(?P<repository>[^/@]+/[^/@]+)@(?P<commit>[0-9a-f]{7,64})/(?P<path>.+\.gguf)", re.IGNORECASE
)
# Names that Windows does not allow, or that mean something else there.
_NO_FILE_NAME: Final = re.compile(
    r'[<>:"|?*\\]|^\.|[. ]$|^(?:con|conin\$|conout\$|prn|aux|nul|com[\d¹²³]|lpt[\d¹²³]) *(?:\.|$)',
    re.IGNORECASE,
)
# GGUF files that are no models: importance matrices of quantizations, and supplements of models.
_NO_MODEL: Final = re.compile(r"imatrix|mmproj|(?:^|[-_.])lora(?:[-_.]|$)|control[-_]vector", re.IGNORECASE)
# Memory beside the weights: the engine, its vocabulary, and a context of usual length.
_MORE_MEMORY: Final = 1.1
_MORE_BYTES: Final = 200_000_000


@attrs.frozen
class HubModelName:
    """Permanent name of a model of the Hub, at one commit."""

    repository: str
    commit: str
    path: str

    def __str__(self) -> str:
        return f"{self.repository}@{self.commit}/{self.path}"

    @classmethod
    def parse(cls, identifier: str) -> HubModelName:
        """Read a download identifier.

        :raises LMStudioServerError: the text is no download identifier.
        """
        found = _IDENTIFIER.fullmatch(identifier) if len(identifier) <= 1024 else None
        if found is None or not is_repository(found["repository"]):
            raise server_error(
                f'"{identifier[:200]}" is not a download identifier of this server.',
                "Take it from one of the download options of a model.",
            )
        return cls(found["repository"], found["commit"].lower(), found["path"])


@attrs.frozen
class HubModel:
    """One model, with all its files."""

    name: HubModelName
    parts: tuple[HubFile, ...]
    """Files with the weights, the first part first."""
    projector: HubFile | None
    """The mmproj file, which adds vision."""

    @property
    def files(self) -> tuple[HubFile, ...]:
        """All files of the model."""
        return self.parts if self.projector is None else (self.projector, *self.parts)

    @property
    def size_bytes(self) -> int:
        """Size of all files together."""
        return sum(file.size for file in self.files)

    @property
    def stem(self) -> str:
        """Name of its file, without suffix and part number."""
        stem = PurePosixPath(self.name.path).stem
        part = split_part(stem)
        return part[0] if part else stem

    @property
    def quantization(self) -> tuple[str, int] | None:
        """Name of the quantization and bits of a weight."""
        return quantization_of(self.stem)

    def place(self, file: HubFile) -> str:
        """Return the place of one of the files, relative to the models folder."""
        # The catalog finds a projector only in the folder of its model.
        folder = PurePosixPath(self.name.repository, self.name.path).parent
        return str(folder / PurePosixPath(file.path).name)


def models_of(listing: Listing) -> list[HubModel]:
    """Return the complete models of a repository, in the order of their paths."""
    by_folder: dict[str, list[HubFile]] = defaultdict(list)
    found = {file.path: file for file in listing.files if _is_sound(listing.repository, file.path)}
    for file in found.values():
        if "mmproj" in PurePosixPath(file.path).stem.lower():
            by_folder[str(PurePosixPath(file.path).parent)].append(file)
    models = []
    for path in sorted(found):
        if _NO_MODEL.search(PurePosixPath(path).stem):
            continue
        parts = _parts(found, path)
        if parts:
            projectors = by_folder.get(str(PurePosixPath(path).parent)) or by_folder.get(".") or []
            projector = min(projectors, key=_projector_order, default=None)
            models.append(HubModel(HubModelName(listing.repository, listing.commit, path), parts, projector))
    return models


def download_options(models: Sequence[HubModel], memory: Memory) -> list[DownloadOption]:
    """Return the models as options for a client; of the fitting ones, the nearest to Q4_K_M is recommended."""
    fits = {model.name: _fit(model.size_bytes, memory) for model in models}
    fitting = [model for model in models if fits[model.name] != "willNotFit"]
    best = min(fitting, key=_distance, default=None)
    return [
        DownloadOption(
            quantization=model.quantization[0] if model.quantization else None,
            name=model.stem,
            size_bytes=model.size_bytes,
            fit_estimation=fits[model.name],
            recommended=model is best,
            download_identifier=str(model.name),
            indexed_model_identifier=model.place(model.parts[0]),
            compatibility_type="gguf",
        )
        for model in models
    ]


def _is_sound(repository: str, path: str) -> bool:
    """Return whether an untrusted path is that of a GGUF file, and cannot lead out of the models folder."""
    names = path.split("/")
    return (
        names[-1].lower().endswith(".gguf")
        and len(names) <= _MOST_FOLDERS + 1
        and is_sound_key(f"{repository}/{path}")
        and all(name and not _NO_FILE_NAME.search(name) for name in [*repository.split("/"), *names])
    )


def _parts(found: dict[str, HubFile], path: str) -> tuple[HubFile, ...]:
    part = split_part(path[: -len(".gguf")])
    if part is None:
        return (found[path],)
    stem, number, count = part
    if number != 1:
        return ()
    ending = path[-len(".gguf") :]
    names = [f"{stem}-{each:05}-of-{count:05}{ending}" for each in range(1, min(count, len(found)) + 1)]
    parts = tuple(found[name] for name in names if name in found)
    return parts if len(parts) == count else ()


def _projector_order(file: HubFile) -> tuple[int, str]:
    quantization = quantization_of(PurePosixPath(file.path).stem)
    return projector_rank(quantization[0] if quantization else ""), file.path


def _fit(size: int, memory: Memory) -> str:
    needed = size * _MORE_MEMORY + _MORE_BYTES
    if needed <= memory.gpu:
        return "fullGPUOffload"
    if memory.main is None or needed <= memory.main:
        return "partialGPUOffload" if memory.gpu else "fitWithoutGPU"
    # Without integrated GPUs, because they use the main memory.
    return "partialGPUOffload" if memory.own_gpu and needed <= memory.main + memory.own_gpu else "willNotFit"


def _distance(model: HubModel) -> tuple[bool, int, bool, int]:
    name, bits = model.quantization or ("", 16)
    return name != "Q4_K_M", abs(bits - 4), "_K" not in name, -model.size_bytes
