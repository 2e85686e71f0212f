"""Conversion of the real all-MiniLM-L6-v2 to GGUF, from a package with its weights. Standard library only."""

from __future__ import annotations

import json
import struct
from array import array
from pathlib import Path
from typing import Any

from lmstudio_async.testing._gguf_writer import Tensor, Value, write_gguf

__all__ = ["write_minilm"]

_NAMES = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
}
_BLOCK_NAMES = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


def write_minilm(source: Path, path: Path) -> Path:
    """Write the GGUF file.

    :param source: the folder with ``model.safetensors``, ``config.json`` and ``vocab.txt``.
    :param path: the path of the GGUF file.
    :return: `path`.
    """
    config = json.loads((source / "config.json").read_text())
    vocabulary = (source / "vocab.txt").read_text(encoding="utf-8").splitlines()
    special = {token for token in vocabulary if token.startswith("[") and token.endswith("]")}
    tokens = [token if token in special else _as_llama_spells_it(token) for token in vocabulary]
    metadata: dict[str, Value] = {
        "general.architecture": "bert",
        "general.name": "all-MiniLM-L6-v2",
        "general.file_type": 0,
        "bert.context_length": config["max_position_embeddings"],
        "bert.embedding_length": config["hidden_size"],
        "bert.block_count": config["num_hidden_layers"],
        "bert.feed_forward_length": config["intermediate_size"],
        "bert.attention.head_count": config["num_attention_heads"],
        "bert.attention.layer_norm_epsilon": float(config["layer_norm_eps"]),
        "bert.attention.causal": False,
        "bert.pooling_type": 1,
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.pre": "bert-bge",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if token in special else 1 for token in vocabulary],
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.padding_token_id": vocabulary.index("[PAD]"),
        "tokenizer.ggml.unknown_token_id": vocabulary.index("[UNK]"),
        "tokenizer.ggml.bos_token_id": vocabulary.index("[CLS]"),
        "tokenizer.ggml.seperator_token_id": vocabulary.index("[SEP]"),
        "tokenizer.ggml.eos_token_id": vocabulary.index("[SEP]"),
        "tokenizer.ggml.mask_token_id": vocabulary.index("[MASK]"),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_gguf(path, metadata, _tensors(source / "model.safetensors"))


def _as_llama_spells_it(token: str) -> str:
    """Convert a token: llama.cpp marks tokens at the beginning of words, BERT marks tokens inside of words."""
    return token.removeprefix("##") if token.startswith("##") else f"\N{LOWER ONE EIGHTH BLOCK}{token}"


def _tensors(weights: Path) -> dict[str, Tensor]:
    data = weights.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    tensors: dict[str, Tensor] = {}
    for name, entry in header.items():
        target = _target(name)
        if target is None:
            continue
        assert entry["dtype"] == "F32"
        begin, end = entry["data_offsets"]
        numbers = array("f", data[8 + length + begin : 8 + length + end])
        tensors[target] = (tuple(reversed(entry["shape"])), numbers)
    return tensors


def _target(name: str) -> str | None:
    stem, _, kind = name.rpartition(".")
    if stem in _NAMES:
        return f"{_NAMES[stem]}.{kind}"
    if stem.startswith("encoder.layer."):
        block, _, part = stem.removeprefix("encoder.layer.").partition(".")
        return f"blk.{block}.{_BLOCK_NAMES[part]}.{kind}"
    return None
