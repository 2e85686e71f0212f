"""The endpoints of ``embedding``."""

from __future__ import annotations

from lmstudio_async._protocol._endpoints._base import RpcEndpoint
from lmstudio_async._protocol._endpoints.models import *  # noqa: F403 - the shared part of the table
from lmstudio_async._wire._predict import Embedding, EmbedStringParameter

EMBED_STRING: RpcEndpoint[EmbedStringParameter, Embedding] = RpcEndpoint(
    "embedString", EmbedStringParameter, Embedding, label="Embedding"
)
