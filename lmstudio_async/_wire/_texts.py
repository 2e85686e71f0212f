"""Wire types of tokenization and of embedding."""

from __future__ import annotations

from typing import Any

import attrs

from lmstudio_async._wire._models import ModelSpecifier
from lmstudio_async._wire._struct import WireObject

__all__ = ["EmbedStringParameter", "Embedding", "InputStringParameter", "TokenCount", "Tokens"]


@attrs.frozen(kw_only=True)
class InputStringParameter(WireObject):
    specifier: ModelSpecifier
    input_string: str


@attrs.frozen(kw_only=True)
class Tokens(WireObject):
    tokens: list[int]


@attrs.frozen(kw_only=True)
class TokenCount(WireObject):
    token_count: int


@attrs.frozen(kw_only=True)
class EmbedStringParameter(WireObject):
    model_specifier: ModelSpecifier
    input_string: str


@attrs.frozen(kw_only=True)
class Embedding(WireObject):
    # Not checked, because checking thousands of numbers one by one would cost more than computing them.
    embedding: list[Any]
