"""The endpoints of ``embedding``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstudio_async._protocol._endpoints._base import RpcEndpoint
from lmstudio_async._protocol._endpoints.models import *  # noqa: F403 - the shared part of the table

if TYPE_CHECKING:
    from lmstudio_async._wire._texts import Embedding, EmbedStringParameter

EMBED_STRING: RpcEndpoint[EmbedStringParameter, Embedding] = RpcEndpoint(
    "embedString", "_texts.EmbedStringParameter", "_texts.Embedding", label="Embedding"
)
