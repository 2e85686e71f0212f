"""Writes GGUF files for tests: any metadata, F32 tensors. Standard library only."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

__all__ = ["Metadata", "Shape", "Tensor", "Value", "gguf_bytes", "write_gguf"]

Value: TypeAlias = str | bool | int | float | Sequence[str] | Sequence[int] | Sequence[float]
Metadata: TypeAlias = Mapping[str, Value]
Shape: TypeAlias = tuple[int, ...]
Tensor: TypeAlias = tuple[Shape, "array[float] | None"]
"""A shape, innermost first, and its numbers; ``None`` stands for zeros."""

_ALIGNMENT = 32


def write_gguf(path: Path, metadata: Metadata, tensors: Mapping[str, Tensor]) -> Path:
    """Write a GGUF file of F32 tensors. Zeros take no space if the file system has sparse files."""
    header, total = gguf_bytes(metadata, {name: shape for name, (shape, _) in tensors.items()})
    with path.open("wb") as file:
        file.write(header)
        place = len(header)
        for shape, numbers in tensors.values():
            if numbers is not None:
                file.seek(place)
                file.write(numbers.tobytes())
            place += _padded(_size(shape))
        file.truncate(total)
    return path


def gguf_bytes(metadata: Metadata, shapes: Mapping[str, Shape]) -> tuple[bytes, int]:
    """Return the file's content up to the first tensor, and the size of the whole file in bytes."""
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(shapes), len(metadata))]
    for key, value in metadata.items():
        parts += [_string(key), _value(value)]
    place = 0
    for name, shape in shapes.items():
        parts += [_string(name), struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, place)]
        place += _padded(_size(shape))
    header = b"".join(parts)
    return header.ljust(_padded(len(header)), b"\0"), _padded(len(header)) + place


def _size(shape: Shape) -> int:
    size = 4
    for length in shape:
        size *= length
    return size


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Value) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", 8) + _string(value)
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    texts = [item for item in value if isinstance(item, str)]
    if texts:
        return struct.pack("<IIQ", 9, 8, len(texts)) + b"".join(map(_string, texts))
    if any(isinstance(item, float) for item in value):
        return struct.pack("<IIQ", 9, 6, len(value)) + struct.pack(f"<{len(value)}f", *value)
    return struct.pack("<IIQ", 9, 5, len(value)) + struct.pack(f"<{len(value)}i", *value)
