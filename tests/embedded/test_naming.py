"""Keys and display names of models, made from the names of their files."""

from __future__ import annotations

import pytest

from lmstudio_async.embedded._catalog._naming import (
    base_key,
    display_name,
    is_sound_key,
    parameters_text,
    quantization_of,
    split_part,
    without_quantization,
)


@pytest.mark.parametrize(
    ("stem", "key", "quantization"),
    [
        ("Llama-3.2-1B-Instruct-Q4_K_M", "llama-3.2-1b-instruct", ("Q4_K_M", 4)),
        ("SmolLM2-135M-Instruct.Q4_1", "smollm2-135m-instruct", ("Q4_1", 4)),
        ("qwen3-4b-q8_0", "qwen3-4b", ("Q8_0", 8)),
        ("Qwen3-30B-A3B-Instruct-2507-UD-Q4_K_XL", "qwen3-30b-a3b-instruct-2507", ("Q4_K_XL", 4)),
        ("gpt-oss-20b-MXFP4", "gpt-oss-20b", ("MXFP4", 4)),
        ("nomic-embed-text-v1.5.f16", "nomic-embed-text-v1.5", ("F16", 16)),
        ("model-name-fp16", "model-name", ("F16", 16)),
        ("gemma-3-27b-it-bf16", "gemma-3-27b-it", ("BF16", 16)),
        ("Big-IQ2_XXS", "big", ("IQ2_XXS", 2)),
        ("small-TQ1_0", "small", ("TQ1_0", 1)),
        ("phi-2", "phi-2", None),
        ("Q4_K_M", "repository", ("Q4_K_M", 4)),
        ("ggml-model-f32", "repository", ("F32", 32)),
        ("model", "repository", None),
        ("My model@home", "my-model-home", None),
        ("tiny-GGUF", "tiny", None),
        ("Foo-v1.5.i1-Q4_K_S", "foo-v1.5-i1", ("Q4_K_S", 4)),
        ("Foo.i1-IQ2_M", "foo-i1", ("IQ2_M", 2)),
    ],
)
def test_a_file_name_determines_key_and_quantization(
    stem: str, key: str, quantization: tuple[str, int] | None
) -> None:
    assert base_key(without_quantization(stem, "Repository-GGUF")) == key
    assert quantization_of(stem) == quantization


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Llama-3.2-1B-Instruct", "Llama 3.2 1B Instruct"),
        ("qwen3-4b", "Qwen3 4B"),
        ("qwen3-30b-a3b", "Qwen3 30B A3B"),
        ("nomic-embed-text-v1.5", "Nomic Embed Text v1.5"),
        ("all_minilm", "All Minilm"),
        ("-", "-"),
    ],
)
def test_display_name_has_capitals_and_spaces(name: str, shown: str) -> None:
    assert display_name(name) == shown


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1K"),
        (134_515_008, "135M"),
        (999_999_999, "1B"),
        (1_235_814_400, "1.2B"),
        (7_000_000_000, "7B"),
        (20_914_757_184, "21B"),
        (1_000_000_000_000, "1T"),
    ],
)
def test_parameters_text_is_rounded(count: int, text: str) -> None:
    assert parameters_text(count) == text


def test_split_part_reads_the_numbers_of_a_part() -> None:
    assert split_part("big-Q8_0-00002-of-00003") == ("big-Q8_0", 2, 3)
    assert split_part("big-Q8_0-2-of-3") is None
    assert split_part("big-Q8_0") is None


@pytest.mark.parametrize("key", ["a", "x" * 1024, "acme/tiny@q4_k_m", "模型", "__proto__s"])
def test_is_sound_key_accepts_a_valid_key(key: str) -> None:
    assert is_sound_key(key)


@pytest.mark.parametrize("key", ["", "x" * 1025, "a\nb", "a\x7fb", "__proto__", "\udc80"])
def test_is_sound_key_refuses_an_invalid_key(key: str) -> None:
    assert not is_sound_key(key)
