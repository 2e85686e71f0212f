"""Sizes and durations in the output of commands, and durations that users type."""

from __future__ import annotations

import pytest

from lmstudio_async._cli._units import duration_text, parse_ttl, size_text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 kB"), (24_000, "24 kB"), (213_792, "0.2 MB"), (105e6, "105 MB"), (2.5e9, "2.50 GB")],
)
def test_size_text_chooses_the_unit(count: float, text: str) -> None:
    # A slow download had "0.0 MB/s".
    assert size_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (0.2, "1 s"), (303, "5 min 3 s"), (3599.5, "1 h"), (187_200, "2 d 4 h"), (86_460, "1 d")],
)
def test_duration_text_has_the_two_largest_units(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        (" 45s ", 45),
        ("60M", 3600),
        ("1h 30m", 5400),
        ("1.5h", 5400),
        ("2d", 172_800),
        ("Never", None),
    ],
)
def test_parse_ttl_reads_each_form(text: str, seconds: float | None) -> None:
    assert parse_ttl(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "7w", "-1", "inf", "nan", "5m3", "h"])
def test_parse_ttl_refuses_other_texts(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration: write 90"):
        parse_ttl(text)
