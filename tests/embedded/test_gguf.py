"""Headers of GGUF files: sound ones, broken ones and hostile ones."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstudio_async.embedded._catalog._gguf import GgufArray, GgufError, read_header
from lmstudio_async.testing._gguf_writer import Metadata, gguf_bytes, write_gguf
from lmstudio_async.testing._tiny_models import BrokenKind, write_broken, write_embedding, write_llm

MODEL: Metadata = {"general.architecture": "llama", "llama.block_count": 2}
TENSORS = {"token_embd.weight": (64, 10), "output.weight": (64, 10)}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that the tests overwrite."""
    return tmp_path_factory.mktemp("gguf") / "scratch.gguf"


def header_of(metadata: Metadata, tensors: Mapping[str, tuple[int, ...]] | None = None) -> bytes:
    return gguf_bytes(metadata, tensors or {})[0]


def key_value(key: bytes, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + value


def one_key(key: bytes, kind: int, value: bytes) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + key_value(key, kind, value)


def test_a_header_describes_its_model(tmp_path: Path) -> None:
    file = write_llm(tmp_path / "tiny.gguf", name="Tiny", context_length=4096, blocks=3)
    header = read_header(file)
    assert header.architecture == "llama"
    assert header.text("general.name") == "Tiny"
    assert header.number("llama.context_length") == 4096
    assert header.number("llama.block_count") == 3
    assert header.tensor_count == 3 + 3 * 9
    assert header.quantization == ("F32", 32)
    assert header.metadata["tokenizer.ggml.add_bos_token"] is False
    assert header.metadata["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-5)


def test_parameters_are_counted(tmp_path: Path) -> None:
    tensors = {name: (shape, None) for name, shape in TENSORS.items()}
    header = read_header(write_gguf(tmp_path / "m.gguf", MODEL, tensors))
    assert header.parameter_count == 2 * 640
    assert header.tensor_bytes == 2 * 640 * 4


@pytest.mark.parametrize(
    ("file_type", "quantization"),
    [
        (1, ("F16", 16)),
        (15, ("Q4_K_M", 4)),
        (15 + 1024, ("Q4_K_M", 4)),
        (19, ("IQ2_XXS", 2)),
        (38, ("MXFP4", 4)),
    ],
)
def test_the_file_type_determines_the_quantization(
    tmp_path: Path, file_type: int, quantization: tuple[str, int]
) -> None:
    file = write_llm(tmp_path / "m.gguf", metadata={"general.file_type": file_type})
    assert read_header(file).quantization == quantization


def test_without_a_file_type_the_weights_determine_the_quantization(tmp_path: Path) -> None:
    tensors = {name: (shape, None) for name, shape in TENSORS.items()}
    assert read_header(write_gguf(tmp_path / "m.gguf", MODEL, tensors)).quantization == ("F32", 32)


def test_a_vocabulary_is_skipped_unless_it_is_requested(tmp_path: Path) -> None:
    file = write_embedding(tmp_path / "embed.gguf")
    assert read_header(file).metadata["tokenizer.ggml.tokens"] == GgufArray(141, of_strings=True)
    words = read_header(file, arrays={"tokenizer.ggml.tokens"}).metadata["tokenizer.ggml.tokens"]
    assert words[:3] == ("[PAD]", "[UNK]", "[CLS]")
    assert len(words) == 141


def test_keys_after_a_long_vocabulary_are_read(scratch: Path) -> None:
    # The vocabulary exceeds the read buffer, and words of many lengths cross its boundaries.
    words = ["x" * (number % 91) for number in range(60_000)]
    scratch.write_bytes(header_of({"words": words, "numbers": list(range(70_000)), "last": "here"}))
    metadata = read_header(scratch).metadata
    assert metadata["words"] == GgufArray(60_000, of_strings=True)
    assert metadata["numbers"] == GgufArray(70_000, of_strings=False)
    assert metadata["last"] == "here"


def test_number_of_an_array_with_one_value_per_layer_is_the_largest(scratch: Path) -> None:
    scratch.write_bytes(header_of({"llama.attention.head_count_kv": [0, 8, 2]}))
    header = read_header(scratch)
    assert header.metadata["llama.attention.head_count_kv"] == (0, 8, 2)
    assert header.number("llama.attention.head_count_kv") == 8


def test_number_and_text_of_a_value_of_another_type_are_none(scratch: Path) -> None:
    scratch.write_bytes(header_of({"a": True, "b": "text", "c": 1.5, "d": "", "e": [1]}))
    header = read_header(scratch)
    assert [header.number(key) for key in "abcdx"] == [None] * 5
    assert [header.text(key) for key in "acdex"] == [None] * 5


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("truncated", "its end is missing"),
        ("bad magic", "does not begin with the letters GGUF"),
        ("absurd counts", "claims to have"),
        ("empty", "ends within its header"),
        ("cut in header", "ends within its header"),
    ],
)
def test_a_broken_file_raises_gguf_error_with_the_reason(
    tmp_path: Path, kind: BrokenKind, reason: str
) -> None:
    with pytest.raises(GgufError, match=reason):
        read_header(write_broken(tmp_path / "broken.gguf", kind))


U32, U64 = struct.Struct("<I"), struct.Struct("<Q")
HUGE = U64.pack(2**64 - 1)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version is 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**40), "claims to have 1099511627776 metadata keys"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**40, 0), "claims to have 1099511627776 tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + HUGE, "a string of 18446744073709551615 bytes"),
        (one_key(b"k", 8, HUGE), "a string of 18446744073709551615 bytes"),
        (one_key(b"k", 8, U64.pack(1000)), "ends within its header"),
        (one_key(b"k", 9, U32.pack(8) + HUGE), "an array of 18446744073709551615 strings"),
        (one_key(b"k", 9, U32.pack(4) + HUGE), "ends within its header"),
        (one_key(b"k", 9, U32.pack(8) + U64.pack(1) + HUGE), "ends within its header"),
        (one_key(b"k", 9, U32.pack(8) + U64.pack(2) + U64.pack(2**63) + bytes(16)), "ends within its header"),
        (one_key(b"k", 9, U32.pack(9) + U64.pack(1)), "an array of values of type 9"),
        (one_key(b"k", 99, b""), "a value of type 99"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + key_value(b"k", 7, b"\1") * 2, "has 'k' twice"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + U64.pack(1) + b"t" + U32.pack(9), "has 9 dimensions"),
        (header_of({"general.alignment": 0}), "alignment"),
        (header_of({"general.alignment": 48}), "alignment"),
        (header_of({"general.alignment": "32"}), "alignment"),
        (header_of({}, {"t": (2**63, 2**63, 2**63, 2**63)}), "has 7e\\+75 numbers"),
        (header_of({}, {"t": (2**62,)}), "its end is missing"),
        (header_of({"general.alignment": 2**31}, {"t": (1,)}), "its end is missing"),
        (header_of(dict.fromkeys("abcd", "x" * 2**22)), "its metadata is too long"),
    ],
)
def test_an_inconsistent_header_raises_gguf_error(scratch: Path, data: bytes, reason: str) -> None:
    scratch.write_bytes(data)
    with pytest.raises(GgufError, match=reason):
        read_header(scratch)


def test_an_endless_header_raises_gguf_error(scratch: Path) -> None:
    with scratch.open("wb") as file:
        file.write(one_key(b"k", 9, U32.pack(0) + U64.pack(2**30)))
        # A sparse file takes no space on the disk.
        file.truncate(2**31)
    with pytest.raises(GgufError, match="header is too long"):
        read_header(scratch)
    scratch.unlink()


def test_a_folder_or_a_missing_file_raises_gguf_error(tmp_path: Path) -> None:
    with pytest.raises(GgufError, match="cannot be read"):
        read_header(tmp_path)
    with pytest.raises(GgufError, match="cannot be read"):
        read_header(tmp_path / "absent.gguf")


def test_invalid_utf8_is_replaced(scratch: Path) -> None:
    scratch.write_bytes(one_key(b"general.name", 8, U64.pack(3) + b"a\xffb"))
    assert read_header(scratch).text("general.name") == "a�b"


@given(data=st.binary(max_size=400), claimed=st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_any_bytes_are_a_header_or_an_error(scratch: Path, data: bytes, claimed: tuple[int, int]) -> None:
    scratch.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, *claimed) + data)
    try:
        header = read_header(scratch)
    except GgufError:
        return
    assert (header.tensor_count, len(header.metadata)) == claimed


SOUND = header_of(
    {
        **MODEL,
        "general.name": "Tiny",
        "general.alignment": 32,
        "llama.rope.freq_base": 10000.0,
        "llama.heads": [1, 2, 3],
        "tokenizer.ggml.tokens": ["a", "b", "", "longer"],
        "tokenizer.ggml.add_bos_token": True,
    },
    TENSORS,
)


@given(
    changes=st.lists(
        st.tuples(st.integers(4, len(SOUND) - 8), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4
    )
)
def test_a_damaged_header_is_a_header_or_an_error(scratch: Path, changes: list[tuple[int, bytes]]) -> None:
    damaged = bytearray(SOUND + bytes(2 * 640 * 4))
    for place, data in changes:
        damaged[place : place + len(data)] = data
    scratch.write_bytes(damaged)
    try:
        header = read_header(scratch, arrays={"tokenizer.ggml.tokens"})
    except GgufError:
        return
    # The quantization of any header that can be read is known, or None, and raises no error.
    assert header.quantization is None or header.quantization[1] >= 0


@given(length=st.integers(0, len(SOUND) + 2 * 640 * 4 - 1))
def test_a_truncated_file_raises_gguf_error(scratch: Path, length: int) -> None:
    scratch.write_bytes((SOUND + bytes(2 * 640 * 4))[:length])
    with pytest.raises(GgufError, match=r"unfinished download"):
        read_header(scratch)
