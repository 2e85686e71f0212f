"""A vision projector (mmproj) and images, small enough for tests and real enough for llama.cpp."""

from __future__ import annotations

import random
import struct
import zlib
from array import array
from pathlib import Path

from lmstudio_async.testing._gguf_writer import Tensor, Value, write_gguf

__all__ = ["png", "write_projector"]

_WIDTH = 32


def write_projector(path: Path, text_width: int = 64) -> Path:
    """Write a projector that makes four tokens of an image, for a text model with embeddings of that width."""
    dice = random.Random(0)

    def noise(*shape: int) -> Tensor:
        size = 1
        for length in shape:
            size *= length
        return shape, array("f", (dice.gauss(0, 0.1) for _ in range(size)))

    def ones(length: int) -> Tensor:
        return (length,), array("f", [1.0]) * length

    def zeros(length: int) -> Tensor:
        return (length,), None

    tensors: dict[str, Tensor] = {
        "v.class_embd": noise(_WIDTH),
        "v.patch_embd.weight": noise(16, 16, 3, _WIDTH),
        "v.position_embd.weight": noise(_WIDTH, 5),
        "mm.0.weight": noise(_WIDTH, text_width),
        "mm.0.bias": zeros(text_width),
        "mm.2.weight": noise(text_width, text_width),
        "mm.2.bias": zeros(text_width),
    }
    for norm in ("v.pre_ln", "v.post_ln", "v.blk.0.ln1", "v.blk.0.ln2", "v.blk.1.ln1", "v.blk.1.ln2"):
        tensors |= {f"{norm}.weight": ones(_WIDTH), f"{norm}.bias": zeros(_WIDTH)}
    shapes = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_out"), (_WIDTH, _WIDTH))
    shapes |= {"ffn_up": (_WIDTH, 64), "ffn_down": (64, _WIDTH)}
    for block in range(2):
        for part, shape in shapes.items():
            tensors[f"v.blk.{block}.{part}.weight"] = noise(*shape)
            tensors[f"v.blk.{block}.{part}.bias"] = zeros(shape[1])
    vision: dict[str, Value] = {
        "image_size": 32,
        "patch_size": 16,
        "embedding_length": _WIDTH,
        "feed_forward_length": 64,
        "block_count": 2,
        "projection_dim": text_width,
        "attention.head_count": 2,
        "attention.layer_norm_epsilon": 1e-5,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    keys: dict[str, Value] = {
        "general.architecture": "clip",
        "general.type": "mmproj",
        "clip.has_vision_encoder": True,
        "clip.projector_type": "mlp",
        "clip.use_gelu": True,
        **{f"clip.vision.{name}": value for name, value in vision.items()},
    }
    return write_gguf(path, keys, tensors)


def png(red: int, green: int, blue: int) -> bytes:
    """An image of 32 by 32 pixels of one colour."""
    rows = (b"\0" + bytes([red, green, blue]) * 32) * 32

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 32, 32, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
