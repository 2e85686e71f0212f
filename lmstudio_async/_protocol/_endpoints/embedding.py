"""The endpoints of ``embedding``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstudio_async._protocol._endpoints._base import RpcEndpoint
from lmstudio_async._protocol._endpoints.models import *  # noqa: F403 - the shared part of the table

if TYPE_CHECKING:
    from lmstudio_async._wire._predict import Embedding, EmbedStringParameter

EMBED_STRING: RpcEndpoint[EmbedStringParameter, Embedding] = RpcEndpoint(
    "embedString", "_predict.EmbedStringParameter", "_predict.Embedding", label="Embedding"
)
