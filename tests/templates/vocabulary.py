"""Real vocabularies: their reference texts and tokens, and models with such a vocabulary."""

from __future__ import annotations

import struct
from pathlib import Path

__all__ = ["Reference", "add_vocabulary", "references"]

Reference = tuple[str, list[int]]
"""A text and its tokens."""

_COUNTS = struct.Struct("<4sIQQ")
# Keys of a vocabulary that a model has too: they get names of the same length that the engine does not know.
_TWICE = {
    b"general.architecture": b"another.architecture",
    b"general.name": b"another.name",
    b"general.file_type": b"another.file_type",
    b"gpt2.": b"gptX.",
}


def references(vocabulary: Path) -> list[Reference]:
    """Read the texts beside a vocabulary file, and their tokens."""
    texts = Path(f"{vocabulary}.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    lines = Path(f"{vocabulary}.out").read_text().split("\n")
    return [(text, [int(token) for token in line.split()]) for text, line in zip(texts, lines, strict=False)]


def add_vocabulary(model: Path, vocabulary: Path) -> None:
    """Insert the metadata of a vocabulary file into the file of a model without a vocabulary."""
    own, more = model.read_bytes(), vocabulary.read_bytes()
    magic, version, tensors, own_keys = _COUNTS.unpack_from(own)
    *_, more_keys = _COUNTS.unpack_from(more)
    inserted = more[_COUNTS.size :]
    for name, other in _TWICE.items():
        inserted = inserted.replace(name, other)
    # A key of this length keeps the tensors aligned.
    padding = -(len(inserted) + 21) % 32
    inserted += struct.pack("<Q1sIQ", 1, b"x", 8, padding) + b" " * padding
    header = _COUNTS.pack(magic, version, tensors, own_keys + more_keys + 1)
    model.write_bytes(header + inserted + own[_COUNTS.size :])
