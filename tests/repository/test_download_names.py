"""Names of downloads: the model that a name means, among downloaded models and search results."""

from __future__ import annotations

from typing import Any

import pytest

from lmstudio_async import (
    DownloadName,
    LlmInfo,
    LMStudioValueError,
    ModelSearchResultIdentifier,
    Quantization,
    SearchResult,
)


def info(path: str, key: str, quantization: str, **members: Any) -> LlmInfo:
    return LlmInfo(
        path=path,
        model_key=key,
        publisher=path.partition("/")[0],
        quantization=Quantization(name=quantization, bits=int(quantization[1])),
        **members,
    )


def result(name: str) -> SearchResult:
    identifier = ModelSearchResultIdentifier(type="hf", identifier=name)
    return SearchResult(name=name.rpartition("/")[2], identifier=identifier)


Q4 = info("acme/tiny-GGUF/tiny-Q4_K_M.gguf", "tiny@q4_k_m", "Q4_K_M")
Q8 = info("acme/tiny-GGUF/tiny-Q8_0.gguf", "tiny@q8_0", "Q8_0")
ELSEWHERE = info("acme/far-GGUF/far-Q8_0.gguf", "far", "Q8_0", device_identifier="laptop")


@pytest.mark.parametrize(
    ("text", "name", "quantization", "is_repository"),
    [
        ("acme/tiny-GGUF", "acme/tiny-GGUF", None, True),
        ("acme/tiny-GGUF:Q4_K_M", "acme/tiny-GGUF", "Q4_K_M", True),
        ("https://huggingface.co/acme/tiny-GGUF/tree/main", "acme/tiny-GGUF", None, True),
        ("acme/tiny-GGUF/tiny-Q8_0.gguf", "acme/tiny-GGUF", "tiny-Q8_0.gguf", True),
        ("tiny@q8_0", "tiny", "q8_0", False),
        ("qwen3:0.6b", "qwen3-0.6b", None, False),
        ("qwen3:", "qwen3", None, False),
        ("two words", "two words", None, False),
    ],
)
def test_parse_separates_a_name_and_its_quantization(
    text: str, name: str, quantization: str | None, is_repository: bool
) -> None:
    parsed = DownloadName.parse(text)
    assert parsed == DownloadName(name, quantization)
    assert parsed.is_repository == is_repository


@pytest.mark.parametrize("text", ["", " / ", ":Q4_K_M", "acme/:Q4_K_M"])
def test_parse_refuses_a_text_without_a_name(text: str) -> None:
    with pytest.raises(LMStudioValueError):
        DownloadName.parse(text)


def test_parse_refuses_two_quantizations() -> None:
    with pytest.raises(LMStudioValueError, match="say different things"):
        DownloadName.parse("tiny:Q4_K_M", "Q8_0")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("acme/tiny-GGUF", "tiny@q4_k_m"),
        ("tiny:Q8_0", "tiny@q8_0"),
        ("acme/tiny:q8_0", "tiny@q8_0"),
        ("acme/tiny-GGUF/tiny-Q8_0.gguf", "tiny@q8_0"),
        ("tiny:Q6_K", None),
        ("far", None),
        ("tin", None),
    ],
)
def test_key_among_is_that_of_the_downloaded_model(text: str, key: str | None) -> None:
    assert DownloadName.parse(text).key_among([Q4, Q8, ELSEWHERE]) == key


def test_search_result_of_the_name_is_recognized_by_its_owner_if_the_name_has_one() -> None:
    results = [result("acme/Tiny-GGUF"), result("other/tiny"), result("acme/tiny-2-GGUF")]
    assert [DownloadName.parse("tiny").is_name_of(each) for each in results] == [True, True, False]
    assert [DownloadName.parse("acme/tiny").is_name_of(each) for each in results] == [True, False, False]


def test_search_term_lacks_the_prefix_of_the_keys_of_embedding_models() -> None:
    assert DownloadName.parse("text-embedding-nomic:Q8_0").search_term == "nomic"
