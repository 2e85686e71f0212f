"""Reader for the header of a GGUF file: the metadata of a model, without its weights and its vocabulary.

Headers come from untrusted sources: every count and length is checked against the size of the file, long arrays are
skipped, and the size of the metadata that is kept is bounded. The reader uses plain reads and no memory map, because a
file that shrinks while it is mapped kills the process.
"""

from __future__ import annotations

import math
import re
import struct
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn

import attrs

__all__ = ["GgufArray", "GgufError", "GgufHeader", "file_type_name", "quantization_bits", "read_header"]

_CHUNK: Final = 1 << 18
# Several times the largest known vocabulary. It bounds the time and the memory that any file can take.
_MAX_HEADER: Final = 1 << 27
_MAX_KEYS: Final = 1 << 14
_MAX_TENSORS: Final = 1 << 17
_MAX_KEY_LENGTH: Final = 1 << 16
_MAX_STRING_LENGTH: Final = 1 << 22
_MAX_STRINGS: Final = 1 << 22
_MAX_KEPT_NUMBERS: Final = 1 << 9
_MAX_ASKED_ITEMS: Final = 1 << 20
# Bytes in memory: a hundred times the longest known chat template.
_MAX_KEPT: Final = 1 << 24
_KEPT_NUMBER: Final = 40
# ggml counts the numbers of a tensor in a signed 64-bit integer.
_MAX_NUMBERS: Final = (1 << 63) - 1

_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")
_COUNTS: Final = struct.Struct("<IQQ")

_STRING: Final = 8
_ARRAY: Final = 9
# Value type -> its struct code. Strings and arrays are missing, because they have no fixed size.
_NUMBERS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

# Tensor type -> name, numbers in a block, bytes of a block. The last two give the length of a tensor.
_TENSOR_TYPES: Final = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 36),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
    42: ("Q2_0", 64, 18),
}

_FILE_TYPES: Final = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4",
    39: "NVFP4",
    40: "Q1_0",
    41: "Q2_0",
}


class GgufError(Exception):
    """The file is no GGUF file that can be loaded. The message is the reason."""


@attrs.frozen
class GgufArray:
    """Placeholder for an array that was skipped: its length and the kind of its items."""

    count: int
    of_strings: bool


@attrs.frozen(kw_only=True)
class GgufHeader:
    """Header of a GGUF file.

    Values of ``metadata`` are strings, numbers and booleans. Short arrays of numbers are tuples; all other arrays are a
    :class:`GgufArray`, unless they were requested from :func:`read_header`.
    """

    metadata: Mapping[str, Any]
    tensor_count: int
    parameter_count: int
    tensor_bytes: int
    main_tensor_type: str | None
    has_classifier: bool = False
    """Whether its last tensors classify or score a text."""
    has_position_table: bool = False
    """Whether it has a learned vector for each position."""

    def text(self, key: str) -> str | None:
        """Return the value of a key if it is a string that is not empty."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) and value else None

    def number(self, key: str) -> int | None:
        """Return the value of a key if it is a whole number, or the largest of an array (one number per layer)."""
        value = self.metadata.get(key)
        if isinstance(value, tuple):
            value = max(value, default=None)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    @property
    def architecture(self) -> str | None:
        """Name of the architecture, such as ``llama`` or ``bert``."""
        return self.text("general.architecture")

    @property
    def quantization(self) -> tuple[str, int] | None:
        """Name of the quantization, such as ``Q4_K_M``, and the approximate bits of a weight."""
        name = file_type_name(self.number("general.file_type")) or self.main_tensor_type
        bits = quantization_bits(name) if name else None
        return (name, bits) if name and bits else None


def file_type_name(number: int | None) -> str | None:
    """Return the name of a ``general.file_type``, which stands for a mix of tensor types."""
    # The flag 1024 marks a file type that was guessed from the tensors.
    return None if number is None else _FILE_TYPES.get(number & ~1024)


def quantization_bits(name: str) -> int | None:
    """Return the bits of a weight that the name of a quantization contains: 4 for ``Q4_K_M``."""
    digits = re.search(r"\d{1,2}", name)
    return int(digits[0]) if digits else None


def read_header(path: Path, *, arrays: Collection[str] = ()) -> GgufHeader:
    """Read a GGUF file's header.

    :param arrays: keys of the arrays to read in full.
    :raises GgufError: the file cannot be read, or is no valid GGUF file.
    """
    try:
        with path.open("rb", buffering=0) as file:
            return _Reader(file).header(frozenset(arrays))
    except OSError as error:
        raise GgufError(f"it cannot be read: {error.strerror or error}") from error


class _Reader:
    """Buffered reader of a file that moves forward only."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, 2)
        self._end = min(self._size, _MAX_HEADER)
        self._base = 0
        self._data = b""
        self._at = 0
        self._kept = 0

    def header(self, wanted: frozenset[str]) -> GgufHeader:
        if self._take(4) != b"GGUF":
            _fail("it does not begin with the letters GGUF")
        version, tensor_count, key_count = _COUNTS.unpack(self._take(_COUNTS.size))
        if version not in {2, 3}:
            big_endian = version in {2 << 24, 3 << 24}
            _fail("it is a big-endian file" if big_endian else f"its GGUF version is {version}, not 2 or 3")
        if key_count > _MAX_KEYS:
            _fail(f"it claims to have {key_count} metadata keys")
        if tensor_count > _MAX_TENSORS:
            _fail(f"it claims to have {tensor_count} tensors")
        metadata: dict[str, Any] = {}
        for _ in range(key_count):
            key = self._string(_MAX_KEY_LENGTH)
            if key in metadata:
                _fail(f"its metadata has {key[:80]!r} twice")
            value = metadata[key] = self._value(_U32.unpack(self._take(4))[0], key in wanted)
            if key not in wanted:
                self._keep(key, value)
        return self._tensors(metadata, tensor_count)

    def _keep(self, key: str, value: Any) -> None:
        """Count the memory that a header takes, because there may be thousands of headers."""
        of_value = (
            len(value) if isinstance(value, str) else isinstance(value, tuple) and len(value) * _KEPT_NUMBER
        )
        self._kept += len(key) + of_value
        if self._kept > _MAX_KEPT:
            _fail("its metadata is too long")

    def _tensors(self, metadata: dict[str, Any], count: int) -> GgufHeader:
        parameters = end = 0
        has_classifier = has_position_table = False
        numbers_by_type: Counter[int] = Counter()
        for _ in range(count):
            name = self._string(_MAX_KEY_LENGTH)
            has_classifier |= name.startswith("cls.")
            has_position_table |= name == "position_embd.weight"
            dimensions = _U32.unpack(self._take(4))[0]
            if dimensions > 4:
                _fail(f"tensor {name[:80]!r} has {dimensions} dimensions")
            *shape, kind, offset = struct.unpack(f"<{dimensions}QIQ", self._take(8 * dimensions + 12))
            numbers = math.prod(shape)
            if numbers > _MAX_NUMBERS:
                _fail(f"tensor {name[:80]!r} has {numbers:.0e} numbers")
            parameters += numbers
            numbers_by_type[kind] += numbers
            if kind in _TENSOR_TYPES:
                _, block, size = _TENSOR_TYPES[kind]
                end = max(end, offset + numbers // block * size)
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
            _fail("its general.alignment is not a power of two")
        place = self._base + self._at
        start = place + -place % alignment
        if count and start + end > self._size:
            _fail(f"its end is missing: it has {self._size} of {start + end} bytes (an unfinished download?)")
        main = max(numbers_by_type, key=numbers_by_type.__getitem__, default=None)
        return GgufHeader(
            metadata=metadata,
            tensor_count=count,
            parameter_count=parameters,
            tensor_bytes=end,
            has_classifier=has_classifier,
            has_position_table=has_position_table,
            main_tensor_type=None if main is None or main not in _TENSOR_TYPES else _TENSOR_TYPES[main][0],
        )

    def _value(self, kind: int, wanted: bool) -> Any:
        if kind == _STRING:
            return self._string(_MAX_STRING_LENGTH)
        if kind == _ARRAY:
            return self._array(wanted)
        return self._numbers(kind, 1)[0]

    def _array(self, wanted: bool) -> Any:
        kind, count = struct.unpack("<IQ", self._take(12))
        if kind == _STRING:
            if count > _MAX_STRINGS:
                _fail(f"it claims to have an array of {count} strings")
            if 8 * count > self._left():
                self._fail_at_end()
            if wanted and count <= _MAX_ASKED_ITEMS:
                return tuple(self._string(_MAX_KEY_LENGTH) for _ in range(count))
            self._skip_strings(count)
            return GgufArray(count, of_strings=True)
        if kind not in _NUMBERS:
            _fail(f"it has an array of values of type {kind}")
        if count <= (_MAX_ASKED_ITEMS if wanted else _MAX_KEPT_NUMBERS):
            return self._numbers(kind, count)
        self._skip(count * struct.calcsize(f"<{_NUMBERS[kind]}"))
        return GgufArray(count, of_strings=False)

    def _numbers(self, kind: int, count: int) -> tuple[Any, ...]:
        if kind not in _NUMBERS:
            _fail(f"it has a value of type {kind}")
        code = f"<{count}{_NUMBERS[kind]}"
        return struct.unpack(code, self._take(struct.calcsize(code)))

    def _string(self, longest: int) -> str:
        length = _U64.unpack(self._take(8))[0]
        if length > longest:
            _fail(f"it claims to have a string of {length} bytes")
        return self._take(length).decode("utf-8", "replace")

    def _skip_strings(self, count: int) -> None:
        # A vocabulary has about 250,000 strings, so this loop takes most of the time of a header.
        length_at = _U64.unpack_from
        left = count
        while left:
            data, at = self._data, self._at
            try:
                for left in range(left, 0, -1):  # noqa: B007, B020  # Left to do when the data ends.
                    at += 8 + length_at(data, at)[0]
                left = 0
            except (struct.error, OverflowError):
                self._skip(at - self._at)
                self._fill(8)
            else:
                self._skip(at - self._at)

    def _left(self) -> int:
        return self._end - self._base - self._at

    def _skip(self, count: int) -> None:
        if count > self._left():
            self._fail_at_end()
        self._at += count

    def _take(self, count: int) -> bytes:
        if self._at + count > len(self._data):
            self._fill(count)
        start = self._at
        self._at = start + count
        return self._data[start : self._at]

    def _fill(self, count: int) -> None:
        if count > self._left():
            self._fail_at_end()
        self._base += self._at
        self._at = 0
        self._file.seek(self._base)
        wanted = min(max(count, _CHUNK), self._end - self._base)
        chunks = []
        while wanted > 0 and (chunk := self._file.read(wanted)):
            chunks.append(chunk)
            wanted -= len(chunk)
        self._data = b"".join(chunks)
        if len(self._data) < count:
            _fail("it became shorter while it was read")

    def _fail_at_end(self) -> NoReturn:
        too_long = self._size > self._end
        _fail("its header is too long" if too_long else "it ends within its header (an unfinished download?)")


def _fail(reason: str) -> NoReturn:
    raise GgufError(reason)
